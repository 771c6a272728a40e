//! What in a rule's pod keeps its role or its groups away, before anybody asks the API server.

use serde_json::Value;

use super::facts::RuleFacts;
use super::{Code, Finding, containers, list};
use crate::identity::irsa::{LABEL_SKIP, shadowing_env};
use crate::identity::worker_env::STS_ENDPOINTS;

/// Where the pod identity webhook mounts its token.
const TOKEN_PATH: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";

pub(super) fn template(rule: &RuleFacts, found: &mut Vec<Finding>) {
    let pod = match &rule.pod {
        Ok(pod) => pod,
        Err(why) => {
            found.push(Finding::new(
                Code::TemplateInvalid,
                &rule.object,
                format!("its pod cannot be made: {why}"),
            ));
            return;
        }
    };
    if rule.wants_groups() {
        if pod["spec"]["hostNetwork"] == true {
            let what = "its pod has hostNetwork: true";
            found.push(Finding::new(Code::TemplateHostNetwork, &rule.object, what));
        }
        if pod["spec"]["terminationGracePeriodSeconds"] == 0 {
            let what = "its pod has terminationGracePeriodSeconds: 0";
            found.push(Finding::new(Code::TemplateGracePeriod, &rule.object, what));
        }
    }
    if rule.gives.role_arn.is_some() {
        if pod["metadata"]["labels"][LABEL_SKIP].is_string() {
            found.push(Finding::new(
                Code::SkipLabel,
                &rule.object,
                format!("its pod has the label {LABEL_SKIP}"),
            ));
        }
        environment(rule, pod, found);
    }
}

/// Containers that say themselves which STS they ask, with what they say.
pub(super) fn chooses_sts(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    containers(&pod["spec"]).filter_map(|container| {
        let choice = list(&container["env"]).iter().rfind(|variable| variable["name"] == STS_ENDPOINTS)?;
        Some((container["name"].as_str()?, choice["value"].as_str().unwrap_or_default()))
    })
}

fn environment(rule: &RuleFacts, pod: &Value, found: &mut Vec<Finding>) {
    for (container, _) in chooses_sts(pod).filter(|(_, choice)| *choice == "legacy") {
        let what = format!("container `{container}` sets {STS_ENDPOINTS} to `legacy`");
        found.push(Finding::new(Code::StsGlobal, &rule.object, what));
    }
    for container in containers(&pod["spec"]) {
        let name = container["name"].as_str().unwrap_or_default();
        let set = list(&container["env"]).iter().filter_map(|variable| variable["name"].as_str());
        let set: Vec<&str> = set.filter(|variable| shadowing_env().contains(variable)).collect();
        if !set.is_empty() {
            let what = format!("container `{name}` sets {}", set.join(", "));
            found.push(Finding::new(Code::TemplateAwsEnv, &rule.object, what));
        }
        let mounts = list(&container["volumeMounts"]).iter().filter_map(|mount| mount["mountPath"].as_str());
        if mounts.into_iter().any(|path| path.trim_end_matches('/') == TOKEN_PATH) {
            let what = format!(
                "container `{name}` mounts something at {TOKEN_PATH}: the webhook mounts its token there, and the API \
                 server refuses two mounts of one path"
            );
            found.push(Finding::new(Code::TemplateAwsEnv, &rule.object, what));
        }
    }
}
