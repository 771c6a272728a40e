//! What can go wrong on the way to AWS.

use std::error::Error;

/// Why something of AWS could not be had. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// The chain of credentials came to its end.
    #[error("no credentials of AWS were found: {why}")]
    Credentials {
        /// The SDK's words, with their causes.
        why: String,
    },
    /// No region is known.
    #[error("the AWS region of the database is not known")]
    Region,
    /// A request could not be signed: a host or a user that cannot stand in an address.
    #[error("a token for `{user}` at `{host}` cannot be signed: {why}")]
    Signing {
        /// The database's user.
        user: String,
        /// The database's host.
        host: String,
        /// The signer's words.
        why: String,
    },
}

impl AwsError {
    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Credentials { .. } => {
                "give the daemon's service account a role: annotation eks.amazonaws.com/role-arn, or an EKS Pod Identity \
                 association; the role needs rds-db:connect"
            }
            Self::Region => "set database.region, or AWS_REGION in the daemon's container",
            Self::Signing { .. } => "check user and host of [database] sql_alchemy_conn",
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
