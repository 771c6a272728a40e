//! The doctor: what does not fit together between task instances, launches and pods, and why a task waits.
//!
//! Facts in ([`Facts`], [`Story`]), findings and sentences out; reads and writes are the bridge's and the cluster
//! client's. A running system is always between two states: what one look finds may be on its way to be mended. So
//! a finding counts only if a second look, some seconds later, finds it again ([`confirmed`]).
//!
//! `code` and the tables `codes_*` say what each finding means; `setup`, `tasks`, `launches` and `pods` find them;
//! `assume` explains why a rule's role cannot be had, `eks` finds what is wrong with identities in an EKS cluster;
//! `repair` says which may be mended from outside, and why that is safe; `why` explains one task.

pub mod assume;
mod code;
mod codes_eks;
mod codes_identity;
mod codes_roles;
mod codes_setup;
mod codes_work;
pub mod eks;
mod facts;
mod finding;
mod launches;
mod pods;
mod repair;
mod setup;
mod story;
mod tasks;
#[cfg(test)]
mod tests;
mod whose;
mod why;
mod words;

pub use code::{About, Code, Severity};
pub use facts::{
    ClusterFacts, DatabaseFacts, DeadTask, Facts, Job, LaunchFacts, Limits, ListedPod, OpenLaunch, Scheduler,
    TaskFacts, Term,
};
pub use finding::{Finding, confirmed};
pub use repair::Repair;
pub use story::{Story, Trial, Waits, Why};
pub use whose::{Whose, whose};
pub use why::why;
pub use words::{count, span, span_of};

/// Everything that one look finds, in the order of the codes.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    setup::schedulers(facts, &mut found);
    setup::leader(facts, &mut found);
    tasks::unlaunched(facts, &mut found);
    tasks::dead(facts, &mut found);
    launches::open(facts, &mut found);
    pods::all(facts, &mut found);
    for what in &facts.database.cut {
        found.push(Finding::new(Code::ListCut, *what, format!("only the first {what} were read")));
    }
    found.sort_by(|a, b| (a.code, &a.object).cmp(&(b.code, &b.object)));
    found
}
