//! From a task to its pod.
