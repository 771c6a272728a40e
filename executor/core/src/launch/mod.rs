//! The state machine of one launch.
