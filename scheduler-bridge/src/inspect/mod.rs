//! What `windlass doctor` and `windlass explain` read, and the one thing that the doctor mends in the database.
//!
//! Every list is bounded and goes by an index: `launch_open` (live launches), `launch_queueing` and
//! `task_instance_pkey` (by key), `ti_state` (what is queued or runs now), `job_type_heart` and `job_pkey`. A look costs
//! a fixed number of statements, whatever it finds.

mod columns;
mod deliver;
mod looks;
mod story;

pub use looks::LookLimits;
