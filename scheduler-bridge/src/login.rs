//! Passwords that are good for a moment: a token of RDS for each login.

use std::future::Future;
use std::pin::Pin;

use crate::config::DatabaseConfig;

/// A password, or why there is none.
pub type PasswordFuture<'a> = Pin<Box<dyn Future<Output = Result<String, NoPassword>> + Send + 'a>>;

/// Where the password of each login comes from. It is asked before every transaction, because the pool may open a
/// connection for it: what takes a call to somebody else has to be kept by whoever answers.
pub trait Passwords: Send + Sync {
    /// For one login that follows at once.
    fn password<'a>(&'a self, of: &'a DatabaseConfig) -> PasswordFuture<'a>;
}

/// There is no password for a login. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoPassword {
    /// What went wrong.
    pub why: String,
    /// What the operator can do.
    pub hint: String,
}
