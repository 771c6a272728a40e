//! `windlass doctor`: is everything as it should be, and what does not fit together? Asks database and API server,
//! lets the core judge, and with `--repair` mends what is safe to mend from outside.

mod assume;
mod eks;
mod gather;
mod mend;
mod report;

use std::io::IsTerminal as _;

use clap::Args;

use crate::cli::{Failure, Form, print};
use crate::config::Config;
use crate::config::fault::Fault;
pub(crate) use assume::chains;
pub use report::page;

/// Checks configuration, database, schedulers, leader, API server and pod template, then compares task instances,
/// launches and pods. Each finding has a stable code (docs/DOCTOR.md), a severity, and says what happens by itself and
/// what to do. A running system is always between two states: what may be work under way counts only if a second look,
/// five seconds later, finds it again.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_long_help = "\
Ends with 0 if there is no finding of severity error, else with 1. It reads; only --repair writes, and only what is safe
beside a working leader: it deletes pods that no node has of launches that are over, pods that have ended and that
delete_worker_pods says should be gone, and it marks outcomes as delivered that nobody waits for any more.

--assume also works without the database. It needs `create` on `serviceaccounts/token` and `get` on the service accounts
of the rules, which the daemon does without: `windlass identity render --what assume-grant` grants both. It asks STS of
AWS_REGION (else the cluster's own region), or AWS_ENDPOINT_URL_STS, and needs no credentials of AWS.

With identity rules, or with --eks, it also checks what roles and security groups of pods need in an EKS cluster, and tries
the create of each rule's pod (dryRun=All: nothing is stored). Reads that it may not make are findings too, with the right
to grant (deploy/rbac/doctor).

Examples:
  windlass doctor
  windlass doctor --output json | jq '.findings[] | select(.severity == \"error\")'
  windlass doctor --eks
  windlass doctor --assume                    does STS give each identity rule its role?
  windlass doctor --assume --output json | jq '.roles[] | {role, arn, refused}'
  windlass doctor --repair
  windlass doctor --repair --yes")]
pub struct Doctor {
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "text")]
    output: Form,
    /// Prove for each identity rule with a role that its service account becomes that role: a token by TokenRequest,
    /// AssumeRoleWithWebIdentity, GetCallerIdentity
    #[arg(long)]
    assume: bool,
    /// Check what roles and security groups of pods need in an EKS cluster (as with identity rules), without rules too
    #[arg(long)]
    eks: bool,
    /// Mend what is safe to mend, after showing it and asking
    #[arg(long)]
    repair: bool,
    /// Do not ask
    #[arg(long, requires = "repair")]
    yes: bool,
}

/// Looks, tells, and mends if asked to. `config` None: its faults are so bad that nothing was understood.
pub async fn doctor(config: Option<&Config>, faults: &[Fault], of: &Doctor) -> Result<(), Failure> {
    if of.repair && !of.yes {
        may_ask(of.output)?;
    }
    let mut seen = gather::examine(config, faults, (of.assume, of.eks)).await;
    let plan = mend::plan(&seen.report);
    if of.output == Form::Text {
        print(&report::text(&seen.report))?;
        if of.repair {
            print(&mend::shown(&plan))?;
        }
    }
    if of.repair && !plan.is_empty() && (of.yes || mend::agreed()?) {
        let done = mend::mend(&seen, config, plan).await;
        if of.output == Form::Text {
            print(&mend::told(&done))?;
        }
        seen.report.repairs = done;
    }
    if of.output == Form::Json {
        print(&format!("{:#}\n", report::json(&seen.report)))?;
    }
    let healthy = seen.report.healthy();
    seen.close().await;
    if healthy { Ok(()) } else { Err(Failure::Unhealthy) }
}

/// Whether somebody is there to answer.
fn may_ask(form: Form) -> Result<(), Failure> {
    let hint = "look at what `windlass doctor` would repair, then add --yes".to_owned();
    if form == Form::Json {
        return Err(Failure::Other { what: "--repair with --output json cannot ask".into(), hint });
    }
    if !std::io::stdin().is_terminal() {
        let what =
            "--repair asks before it writes, and standard input is no terminal; nothing was done".into();
        return Err(Failure::Other { what, hint });
    }
    Ok(())
}
