//! The kubelet against the embedded API: real processes, real signals.

mod faults;
mod node;
mod run;
mod world;
