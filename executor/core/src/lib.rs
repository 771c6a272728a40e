//! windlass-core: the pure part. Start reading here.
//!
//! `launch` is the story of the whole: the state machine of one launch, facts in, actions out. `pod` makes a pod from
//! a task, `identity` says who that pod may be. `doctor` finds what does not fit together, and says why a task waits. The
//! other modules are the words that they, the engine, the bridge and the cluster client share. Nothing in this crate does
//! IO, reads a clock, is random or async.

pub mod cluster;
pub mod doctor;
pub mod identity;
pub mod ids;
pub mod launch;
pub mod outcome;
pub mod pod;
pub mod pod_view;
pub mod store;
pub mod task;
pub mod time;
