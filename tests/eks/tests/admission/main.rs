//! The webhooks against recordings of the real ones, and the server over TLS.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod configuration;
mod goldens;
mod irsa;
mod server;
mod sgp;
mod worker_env;
