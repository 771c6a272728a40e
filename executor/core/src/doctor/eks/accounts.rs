//! Service accounts of rules, and the roles that they name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::dry_run::has_pod_identity;
use super::facts::{EksFacts, RuleFacts};
use super::template::chooses_sts;
use super::{Code, Finding};
use crate::identity::irsa::{ANNOTATION_AUDIENCE, ANNOTATION_ROLE, DEFAULT_AUDIENCE};
use crate::identity::manifests::{Trusted, trust_policy};
use crate::identity::worker_env::STS_ENDPOINTS;

const ANNOTATION_EXPIRATION: &str = "eks.amazonaws.com/token-expiration";
const ANNOTATION_REGIONAL_STS: &str = "eks.amazonaws.com/sts-regional-endpoints";
/// Seconds: what the API server takes at least and, on EKS, at most.
const EXPIRATION_S: std::ops::RangeInclusive<u64> = 600..=86_400;

pub(super) fn of_rule(facts: &EksFacts, rule: &RuleFacts, found: &mut Vec<Finding>) {
    let account = rule.account();
    let object = format!("service account {}/{}", account.0, account.1);
    let role = rule.gives.role_arn.as_deref();
    if let Some(fault) = role.and_then(|role| arn_fault(role, partition(facts))) {
        found.push(Finding::new(
            Code::RoleArnMalformed,
            &rule.object,
            format!("it demands `{}`: {fault}", role.unwrap_or("")),
        ));
    }
    if role.is_some() && account.1 == "default" {
        let what = format!("{} gives its pods a role by it", rule.object);
        found.push(Finding::new(Code::DefaultAccount, &object, what));
    }
    match facts.cluster.accounts.get(&account) {
        None => {}
        Some(Value::Null) => {
            let what = format!("it does not exist, and {} names it", rule.object);
            found.push(Finding::new(Code::ServiceAccountMissing, &object, what));
        }
        Some(seen) => {
            if let Some(role) = role {
                annotations(facts, rule, (&object, &seen["metadata"]["annotations"]), role, found);
            }
        }
    }
}

fn annotations(
    facts: &EksFacts,
    rule: &RuleFacts,
    (object, annotations): (&str, &Value),
    role: &str,
    found: &mut Vec<Finding>,
) {
    let of = |name: &str| annotations[name].as_str();
    match of(ANNOTATION_ROLE).filter(|text| !text.is_empty()) {
        Some(named) if named == role => {}
        Some(named) => {
            let what = format!("it names {named}, and {} demands {role}", rule.object);
            found.push(Finding::new(Code::RoleAnnotation, object, what));
            if let Some(fault) = arn_fault(named, partition(facts)) {
                found.push(Finding::new(
                    Code::RoleArnMalformed,
                    object,
                    format!("it names `{named}`: {fault}"),
                ));
            }
        }
        // Then the role is the association's.
        None if has_pod_identity(rule) => {}
        None => {
            let what = format!("it has no such annotation, and {} demands {role}", rule.object);
            found.push(Finding::new(Code::RoleAnnotation, object, what));
        }
    }
    let (audience, expected) = (of(ANNOTATION_AUDIENCE).unwrap_or(DEFAULT_AUDIENCE), rule.gives.audience());
    if audience != expected {
        let says = match audience {
            "" => "the audience is empty, so its tokens are for the API server",
            _ => &format!("the audience is `{audience}`"),
        };
        let what = format!("{says}, and {} expects `{expected}`", rule.object);
        found.push(Finding::new(Code::TokenAudience, object, what));
    }
    let chosen = rule.pod.as_ref().is_ok_and(|pod| chooses_sts(pod).next().is_some());
    if of(ANNOTATION_REGIONAL_STS) == Some("false") && !chosen {
        let what = format!(
            "{ANNOTATION_REGIONAL_STS} is `false`, and no container of {} sets {STS_ENDPOINTS}",
            rule.object
        );
        found.push(Finding::new(Code::StsGlobal, object, what));
    }
    // A pod's own annotation goes before its account's.
    let own =
        rule.pod.as_ref().ok().and_then(|pod| pod["metadata"]["annotations"][ANNOTATION_EXPIRATION].as_str());
    let of_account = of(ANNOTATION_EXPIRATION);
    let asked = own.map(|text| (rule.object.as_str(), text)).or(of_account.map(|text| (object, text)));
    if let Some((whose, text)) = asked {
        match text.parse::<u64>() {
            Ok(seconds) if EXPIRATION_S.contains(&seconds) => {}
            Ok(seconds) => {
                let what = format!("{seconds} s");
                found.push(Finding::new(Code::TokenExpiration, whose, what));
            }
            Err(_) => {
                let what = format!("`{text}` is no number of seconds: the webhook's default (86400 s) holds");
                found.push(Finding::new(Code::TokenExpiration, whose, what));
            }
        }
    }
}

/// The cluster's partition by its nodes' region; None: no node tells.
fn partition(facts: &EksFacts) -> Option<&'static str> {
    let mut nodes = facts.cluster.nodes.iter().flatten();
    let region = nodes.find_map(|node| node.labels.get("topology.kubernetes.io/region"))?;
    Some(match region.split('-').collect::<Vec<_>>().as_slice() {
        ["cn", ..] => "aws-cn",
        ["us", "gov", ..] => "aws-us-gov",
        ["us", "iso", ..] => "aws-iso",
        ["us", "isob", ..] => "aws-iso-b",
        ["eusc", ..] => "aws-eusc",
        _ => "aws",
    })
}

/// What is wrong with a role's ARN.
fn arn_fault(arn: &str, partition: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", of, "iam", "", account, resource] = parts.as_slice() else {
        return Some("it is no arn:PARTITION:iam::ACCOUNT:role/NAME".into());
    };
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Some(format!("`{account}` is no account of 12 digits"));
    }
    if resource.strip_prefix("role/").is_none_or(|name| name.is_empty() || name.ends_with('/')) {
        return Some(format!("`{resource}` is no role"));
    }
    let other = partition.filter(|partition| partition != of)?;
    Some(format!("its partition is `{of}`, and this cluster's nodes are in `{other}`"))
}

/// A text without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What each role's trust policy has to say, once the issuer is known.
pub(super) fn trust(facts: &EksFacts, found: &mut Vec<Finding>) {
    let Some(issuer) = &facts.cluster.issuer else { return };
    let issuer = issuer.trim_start_matches("https://");
    let mut roles: BTreeMap<&str, Trusted> = BTreeMap::new();
    for rule in facts.rules.iter().filter(|rule| !has_pod_identity(rule)) {
        if let Some(role) = &rule.gives.role_arn {
            let trusted = roles.entry(role).or_default();
            trusted.accounts.insert(rule.account());
            trusted.audiences.insert(rule.gives.audience().to_owned());
        }
    }
    for (role, trusted) in roles {
        let policy = trust_policy(role, &trusted, issuer);
        let statement = &policy["Statement"][0];
        let equals = &statement["Condition"]["StringEquals"];
        let what = format!(
            "its trust policy must let {} do sts:AssumeRoleWithWebIdentity where {issuer}:aud is {} and {issuer}:sub is one of {}",
            statement["Principal"]["Federated"].as_str().unwrap_or_default(),
            plain(&equals[format!("{issuer}:aud")]),
            equals[format!("{issuer}:sub")],
        );
        found.push(Finding::new(Code::TrustPolicy, role, what));
    }
}
