//! Identities in an EKS cluster: makes the pod of each rule, asks the API server, and lets the core judge.

use std::collections::BTreeSet;

use windlass_cluster::Cluster;
use windlass_core::doctor::eks::{DryRun, EksFacts, Named, RuleFacts, cni_line, examine_eks, room_line};
use windlass_core::doctor::{Code, Finding, count};
use windlass_core::identity::Identity;
use windlass_core::identity::policy::{Measured, digest};
use windlass_core::identity::rules::Rule;
use windlass_core::ids::InstallationId;

use super::report::Report;
use crate::config::Config;
use crate::pods::Renderer;

/// The checks, in the order of their codes.
pub(super) const CHECKS: [&str; 3] = ["EKS", "identities", "boundary"];

/// Nothing is asked for where there are no rules, unless `forced`.
pub(super) async fn examine(
    config: &Config,
    cluster: Option<&Cluster>,
    installation: InstallationId,
    forced: bool,
    report: &mut Report,
) {
    if config.rules.is_none() && !forced {
        return;
    }
    let Some(cluster) = cluster else {
        for check in CHECKS {
            report.skipped(check, "the API server does not answer");
        }
        return;
    };
    let facts = look(config, cluster, installation, forced).await;
    tell(&facts, examine_eks(&facts), report);
}

async fn look(config: &Config, cluster: &Cluster, installation: InstallationId, forced: bool) -> EksFacts {
    let renderer = Renderer::for_once(config, installation);
    let of = |rule: Option<&Rule>| of_rule(config, &renderer, rule);
    let mut rules: Vec<RuleFacts> = match &config.rules {
        Some(rules) => rules.all().map(|rule| of(Some(rule))).collect(),
        None => vec![of(None)],
    };
    let accounts: BTreeSet<Named> = rules.iter().map(RuleFacts::account).collect();
    let pods = rules.iter().map(|rule| rule.pod.as_ref().ok().cloned()).collect();
    let (seen, dry_runs) = tokio::join!(cluster.look_at_eks(&accounts), cluster.dry_runs(pods));
    for (rule, dry_run) in rules.iter_mut().zip(dry_runs) {
        rule.dry_run = dry_run;
    }
    EksFacts {
        forced,
        parallelism: config.airflow.parallelism,
        standalone_dag_processor: config.airflow.standalone_dag_processor,
        rules_digest: digest_of(config, &rules),
        cluster: seen,
        rules,
    }
}

fn of_rule(config: &Config, renderer: &Renderer, rule: Option<&Rule>) -> RuleFacts {
    let pod = renderer.typical(rule).map_err(|(reason, why)| format!("{reason}: {why}"));
    let of_pod = pod.as_ref().ok().and_then(|pod| pod["metadata"]["namespace"].as_str());
    let gives = rule.map_or_else(Identity::default, |rule| rule.gives.clone());
    let namespace = of_pod.or(gives.namespace.as_deref()).unwrap_or(&config.kubernetes.namespace).to_owned();
    let object = match rule {
        Some(rule) => format!("rule {} (line {})", rule.name, rule.place.line),
        None => "pod template".to_owned(),
    };
    RuleFacts { object, gives, namespace, pod, dry_run: DryRun::NotTried }
}

/// Of the policy that `windlass identity render` would print.
fn digest_of(config: &Config, rules: &[RuleFacts]) -> Option<String> {
    let measured: Option<Vec<Measured<'_>>> = config
        .rules
        .as_ref()?
        .all()
        .zip(rules)
        .map(|(rule, facts)| Some(Measured { rule, pod: facts.pod.as_ref().ok()?.clone() }))
        .collect();
    measured.map(|measured| digest(&measured))
}

fn tell(facts: &EksFacts, found: Vec<Finding>, report: &mut Report) {
    let (mut of_eks, mut of_identities, mut of_boundary) = (Vec::new(), Vec::new(), Vec::new());
    for finding in found {
        if finding.code >= Code::DagCodeInScheduler {
            of_boundary.push(finding);
        } else if finding.code >= Code::NoPolicyMatches || finding.code == Code::TemplateInvalid {
            of_identities.push(finding);
        } else {
            of_eks.push(finding);
        }
    }
    let admitted = facts.rules.iter().filter(|rule| matches!(rule.dry_run, DryRun::Admitted(_))).count();
    let rules = count(facts.rules.len(), "pod", "pods");
    let accounts = count(facts.cluster.accounts.len(), "service account", "service accounts");
    let [eks, identities, boundary] = CHECKS;
    report.found(eks, of_eks, &format!("{}; {}", cni_line(facts), room_line(facts)));
    report.found(identities, of_identities, &format!("{rules} tried, {admitted} admitted; {accounts} seen"));
    report.found(boundary, of_boundary, "what the guard stands on, as far as the API server shows it");
}
