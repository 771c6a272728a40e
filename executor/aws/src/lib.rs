//! windlass-aws: what Windlass asks of AWS. The only shipped crate with AWS's SDK.
//!
//! [`Account`] is who we are there, by the SDK's own chain of credentials (a role of the daemon's service account, as a
//! rule). [`rds`] makes the tokens that an RDS database takes in the place of a password. [`sts`] tells who a service
//! account's token becomes.

mod account;
mod error;
pub mod rds;
pub mod sts;

pub use account::Account;
pub use error::AwsError;
