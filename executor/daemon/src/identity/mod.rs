//! `windlass identity`: who tasks are, and why.

mod check;
mod diff;
mod explain;
mod groups;
mod policies;
mod render;

use clap::Subcommand;

pub use check::{Check, check};
pub use explain::{Explain, explain};
pub use groups::{Groups, groups};
pub use render::{Render, render};

use crate::cli::Failure;
use crate::config::Config;

/// What can be asked about identities.
#[derive(Debug, Subcommand)]
pub enum Identity {
    /// Show which rule gives a task its identity, why the others do not, and what its pod gets
    Explain(Explain),
    /// Look for rules that never apply, names that nobody has, and privilege that DAG authors can take
    Check(Check),
    /// Say which security groups EKS would give a pod, and by which policies
    Groups(Groups),
    /// Print what the rules need: service accounts, SecurityGroupPolicies, RBAC, admission policies, roles of AWS
    Render(Render),
}

/// Does it.
pub async fn identity(config: &Config, of: &Identity) -> Result<(), Failure> {
    match of {
        Identity::Explain(of) => explain(config, of).await,
        Identity::Check(of) => check(config, of).await,
        Identity::Groups(of) => groups(of),
        Identity::Render(of) => render(config, of).await,
    }
}

/// Without rules there is nothing to ask about.
fn no_rules() -> Failure {
    Failure::Other {
        what: "there are no identity rules: pods are as template and pod_override make them".into(),
        hint: "write [[identity.rule]] and [identity.default] into windlass.toml; see docs/IDENTITY.md"
            .into(),
    }
}
