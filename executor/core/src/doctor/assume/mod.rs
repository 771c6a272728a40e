//! The proof that a service account can become its rule's role: a token for it, AssumeRoleWithWebIdentity,
//! GetCallerIdentity. Who asks is outside; here is what the answers mean, and what is to be mended.

mod refusal;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, BTreeSet};

use super::{Code, Finding};
use crate::identity::irsa::Claims;

/// A service account and the role that it must come to have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// Of the service account.
    pub namespace: String,
    /// The service account's name.
    pub account: String,
    /// ARN.
    pub role: String,
    /// The rules that make it so.
    pub rules: Vec<String>,
}

/// How far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Of what.
    pub chain: Chain,
    /// Of the token, once there was one.
    pub claims: Option<Claims>,
    /// Why [`crate::identity::irsa::DEFAULT_AUDIENCE`] was taken without knowing whether the service account names
    /// another one. Empty: it is known.
    pub audience_unread: String,
    /// ARN of the session as GetCallerIdentity tells it: who a task is.
    pub result: Result<String, Broken>,
}

/// Where the chain broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// At the API server.
    Token(NoToken),
    /// At STS.
    Refused(Refusal),
}

/// Why the API server gave no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// 404. The server's words.
    Missing(String),
    /// 403. The server's words.
    Forbidden(String),
    /// Anything else.
    Failed {
        /// With its cause.
        what: String,
        /// What to do.
        hint: String,
    },
}

/// Why STS gave no role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `AssumeRoleWithWebIdentity` or `GetCallerIdentity`.
    pub call: &'static str,
    /// Of the endpoint.
    pub region: String,
    /// What came back.
    pub why: Why,
}

/// What came back from STS, after all tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// An answer of AWS.
    Answered {
        /// Such as `AccessDenied`.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// An answer that is none of STS: a proxy's page.
    Foreign {
        /// HTTP status.
        status: u16,
    },
    /// None in time.
    TimedOut,
    /// No connection, or one that broke.
    Unreachable {
        /// Chain of causes.
        cause: String,
    },
    /// It is not known which endpoint to ask.
    NoRegion,
}

impl Chain {
    /// One for each service account and role, in order. `links`: rule, namespace, service account, role.
    pub fn of(links: impl IntoIterator<Item = (String, [String; 3])>) -> Vec<Self> {
        let mut chains: BTreeMap<[String; 3], Vec<String>> = BTreeMap::new();
        for (rule, link) in links {
            chains.entry(link).or_default().push(rule);
        }
        let chain =
            |([namespace, account, role], rules): ([String; 3], _)| Self { namespace, account, role, rules };
        chains.into_iter().map(chain).collect()
    }

    /// For people.
    pub fn object(&self) -> String {
        let (rules, names) = (if self.rules.len() == 1 { "rule" } else { "rules" }, self.rules.join(", "));
        format!("{rules} {names}: {} for service account {}/{}", self.role, self.namespace, self.account)
    }

    /// The role's name without its path, as it stands in the ARN of a session.
    fn role_name(&self) -> &str {
        self.role.rsplit('/').next().unwrap_or(&self.role)
    }

    /// Partition and account number of the role.
    fn home(&self) -> (&str, &str) {
        let mut parts = self.role.split(':');
        (parts.nth(1).unwrap_or("aws"), parts.nth(2).unwrap_or_default())
    }

    /// Whether `arn`, of a session, is of this role.
    fn is_role_of(&self, arn: &str) -> bool {
        let (partition, account) = self.home();
        arn.starts_with(&format!("arn:{partition}:sts::{account}:assumed-role/{}/", self.role_name()))
    }
}

impl Proven {
    /// What has to be mended; None: a task of these rules will be the role.
    pub fn finding(&self) -> Option<Finding> {
        match &self.result {
            Ok(arn) if self.chain.is_role_of(arn) => None,
            Ok(arn) => {
                let what = format!("STS made the session {arn}, which is of another role");
                let remedy =
                    "see what AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL name: what answers is no STS of AWS";
                Some(Finding::new(Code::RoleRefused, self.chain.object(), what).remedy(remedy))
            }
            Err(Broken::Token(why)) => Some(token::explain(&self.chain, why)),
            Err(Broken::Refused(refusal)) => {
                Some(refusal::explain(&self.chain, self.claims.as_ref(), refusal, &self.audience_unread))
            }
        }
    }
}

/// What is wrong with the chains before anybody is asked.
pub fn warnings(chains: &[Chain]) -> Vec<Finding> {
    let mut of_role: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for chain in chains {
        of_role.entry(&chain.role).or_default().extend(chain.rules.iter().map(String::as_str));
    }
    let shared = |(role, rules): (&str, BTreeSet<&str>)| {
        let names: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
        let what = format!("{} rules give it: {}", rules.len(), names.join(", "));
        Finding::new(Code::RoleShared, role, what)
    };
    of_role.into_iter().filter(|(_, rules)| rules.len() > 1).map(shared).collect()
}
