//! What admission makes of each rule's pod: both webhooks of EKS declare no side effects, so a create with `dryRun=All`
//! asks them, and every other one.

use serde_json::Value;

use super::facts::{DryRun, RuleFacts};
use super::{Code, Finding};
use crate::identity::irsa::{Credentials, check};
use crate::identity::sgp::{Asks, FARGATE_POD_SG, POD_ENI, pod_asks_for_branch};

/// What the pod identity webhook adds to a pod of an association.
const LABEL_POD_IDENTITY: &str = "eks.amazonaws.com/pod-identity";

pub(super) fn of_rule(rule: &RuleFacts, found: &mut Vec<Finding>) {
    match &rule.dry_run {
        DryRun::NotTried => {}
        DryRun::Unknown(why) => {
            let object = format!("dry run of {}", rule.object);
            found.push(Finding::new(Code::CannotSee, object, format!("it says nothing of the pod: {why}")));
        }
        DryRun::Refused(said) => found.push(refused(rule, said)),
        DryRun::Admitted(pod) => {
            role(rule, pod, found);
            groups(rule, pod, found);
        }
    }
}

fn refused(rule: &RuleFacts, said: &str) -> Finding {
    let finding =
        Finding::new(Code::DryRunRefused, &rule.object, format!("the API server refuses its pod: {said}"));
    if said.contains("Failed to get Matching SGP") {
        return finding.remedy(
            "the controller of security groups does not know the service account: make it, or wait some seconds if it \
             was made a moment ago",
        );
    }
    finding
}

/// Whether the dry run shows an association of EKS Pod Identity.
pub(super) fn has_pod_identity(rule: &RuleFacts) -> bool {
    match &rule.dry_run {
        DryRun::Admitted(pod) => pod["metadata"]["labels"][LABEL_POD_IDENTITY] == "enabled",
        DryRun::NotTried | DryRun::Refused(_) | DryRun::Unknown(_) => false,
    }
}

/// Whether the dry run's pod has its rule's role, by whomever.
pub(super) fn has_its_role(rule: &RuleFacts) -> bool {
    match (&rule.dry_run, &rule.gives.role_arn) {
        (DryRun::Admitted(pod), Some(role)) => check(pod, role, rule.gives.audience()).is_ok(),
        (DryRun::Admitted(_) | DryRun::NotTried | DryRun::Refused(_) | DryRun::Unknown(_), _) => false,
    }
}

fn role(rule: &RuleFacts, pod: &Value, found: &mut Vec<Finding>) {
    let Some(role) = &rule.gives.role_arn else { return };
    match check(pod, role, rule.gives.audience()) {
        Ok(Credentials::WebIdentity) => {}
        Ok(Credentials::PodIdentity) => {
            let what = format!("it demands {role}, and its pod gets the credentials of an association");
            found.push(Finding::new(Code::PodIdentity, &rule.object, what));
        }
        Err(fault) => found.push(Finding::new(Code::DryRunWithoutRole, &rule.object, fault.to_string())),
    }
}

fn groups(rule: &RuleFacts, pod: &Value, found: &mut Vec<Finding>) {
    // On Fargate the groups stand in an annotation, and no interface is asked for.
    if !rule.wants_groups() || pod["metadata"]["annotations"][FARGATE_POD_SG].is_string() {
        return;
    }
    match pod_asks_for_branch(pod) {
        Asks::ContainerZero => {
            let resources = &pod["spec"]["containers"][0]["resources"];
            let asked = |kind: &str| resources[kind][POD_ENI].as_str().unwrap_or("nothing").to_owned();
            let (limit, request) = (asked("limits"), asked("requests"));
            if limit != "1" || request != "1" {
                let what = format!(
                    "its first container has {POD_ENI} {limit} as limit and {request} as request, not 1"
                );
                found.push(Finding::new(Code::DryRunWithoutGroups, &rule.object, what));
            }
        }
        Asks::OtherContainer(name) => {
            let first = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default();
            let what = format!(
                "container `{name}` asks for the branch interface, and `{first}` stands in front of it"
            );
            found.push(Finding::new(Code::ContainerOrder, &rule.object, what));
        }
        Asks::No => {
            let what = format!(
                "no container of the admitted pod asks for {POD_ENI}: it would run with its node's security groups"
            );
            found.push(Finding::new(Code::DryRunWithoutGroups, &rule.object, what));
        }
    }
}
