//! What `windlass identity render` prints, on a real kube-apiserver: the admission policies that make the identity guard
//! a boundary, and `--diff`.
#![expect(clippy::unwrap_used, reason = "a test")]

mod cases;
mod diff;
mod hostile;
mod many_rules;
mod task;
mod world;
