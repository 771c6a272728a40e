//! What the lab needs before anything can start: the control plane's binary (Go), Airflow's virtual environments and a
//! local AWS.
//!
//! A crate of its own with next to no dependencies, so that `cargo xtask` can build both while the workspace itself
//! still compiles. Each product lands in the cache under a name that holds a hash of its inputs, is made once
//! (a lock file keeps concurrent test processes apart) and is never changed afterwards.

mod cache;
mod control_plane;
mod long_command;
mod python;
mod series;

pub use cache::{cache_dir, locked, target_dir, workspace};
pub use control_plane::{control_plane_binary, go_version};
pub use long_command::run_long;
pub use python::{Venv, find_python, moto, venv};
pub use series::{SERIES_VARIABLE, Series};
