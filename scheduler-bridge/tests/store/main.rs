//! The store against real PostgreSQL 16 and 18, as the role and with the grants that are shipped.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, and sees none in a crate that is all tests"
)]

mod claims;
mod doctor;
mod failover;
mod grants;
mod inspect;
mod intake;
mod login;
mod migration;
mod plans;
mod pooler;
mod recovery;
mod rows;
mod sessions;
mod support;
mod term;
mod tls;
mod updates;
