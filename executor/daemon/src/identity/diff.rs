//! `windlass identity render --diff`: what an apply would change in the cluster, and what is there that no rule asks for.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use serde_json::Value;
use similar::TextDiff;
use windlass_cluster::{Cluster, ClusterError, Compared, Kind, NoObserver};
use windlass_core::identity::LABEL_RULE;
use windlass_core::identity::irsa::ANNOTATION_ROLE;
use windlass_core::identity::manifests::{namespaces, roles};
use windlass_core::identity::rules::Rules;

use crate::cli::{Failure, print};
use crate::config::Config;
use crate::yaml;

/// Calls at once.
const CALLS: usize = 8;

/// What the API server writes by itself, and what kubectl remembers in the object.
const OF_THE_SERVER: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];
const OF_KUBECTL: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Compares and prints.
///
/// # Errors
/// [`Failure::Unhealthy`] if there is a difference, [`Failure::Uncompared`] if something could not be compared.
pub(super) async fn diff(config: &Config, rules: &Rules, objects: &[Value]) -> Result<(), Failure> {
    let connected = Cluster::connect(config.cluster(), Arc::new(NoObserver)).await;
    let cluster = connected
        .map_err(|error| Failure::Uncompared { what: error.to_string(), hint: error.hint().into() })?;
    let compare = |object| {
        let cluster = &cluster;
        async move { (object, cluster.compare(object).await) }
    };
    let compared: Vec<_> = stream::iter(objects).map(compare).buffered(CALLS).collect().await;
    let (mut text, mut faults, mut counts) = (String::new(), Vec::new(), Counts::default());
    for (object, result) in compared {
        match result {
            Ok(compared) => counts.add(&mut text, object, &compared),
            Err(error) => faults.push((error, Kind::of_object(object))),
        }
    }
    let place = config.kubernetes.namespace.as_str();
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| ["ServiceAccount", "SecurityGroupPolicy"].contains(&kind.kind))
        // A cluster without the kind has none besides; where rules need it, the comparison has failed already.
        .filter(|kind| kind.kind == "ServiceAccount" || objects.iter().any(|o| o["kind"] == kind.kind))
        .collect();
    let lists =
        namespaces(rules, place).into_iter().flat_map(|n| kinds.iter().map(move |kind| (n.clone(), *kind)));
    let list = |(namespace, kind): (String, Kind)| {
        let cluster = &cluster;
        async move { (kind, cluster.objects(kind, &namespace).await) }
    };
    let lists: Vec<_> = stream::iter(lists).map(list).buffered(CALLS).collect().await;
    for (kind, listed) in lists {
        match listed {
            Ok(listed) => {
                for line in besides(rules, place, objects, kind, &listed) {
                    counts.besides += 1;
                    let _ = writeln!(text, "besides the rules: {line}");
                }
            }
            Err(error) => faults.push((error, Some(kind))),
        }
    }
    let _ = writeln!(text, "{}", counts.told(objects.len()));
    print(&text)?;
    if !faults.is_empty() {
        return Err(failure(&faults));
    }
    if counts.different() { Err(Failure::Unhealthy) } else { Ok(()) }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    changed: usize,
    missing: usize,
    besides: usize,
}

impl Counts {
    /// Writes the difference of one object, if there is one.
    fn add(&mut self, text: &mut String, object: &Value, compared: &Compared) {
        let live = compared.live.as_ref().map(|live| yaml::write(&plain(live))).unwrap_or_default();
        let applied = yaml::write(&plain(&compared.applied));
        if live == applied {
            return;
        }
        let name = name_of(object);
        let before = if compared.live.is_none() { format!("{name} (missing)") } else { name.clone() };
        if compared.live.is_none() {
            self.missing += 1
        } else {
            self.changed += 1
        }
        let diff = TextDiff::from_lines(&live, &applied);
        let header = (format!("cluster {before}"), format!("rules   {name}"));
        text.push_str(&diff.unified_diff().context_radius(3).header(&header.0, &header.1).to_string());
    }

    fn different(&self) -> bool {
        *self != Self::default()
    }

    fn told(&self, of: usize) -> String {
        if !self.different() {
            return format!("no difference: {of} objects compared");
        }
        format!(
            "{of} objects compared: {} to change, {} missing; {} besides the rules",
            self.changed, self.missing, self.besides
        )
    }
}

/// Without what no apply sets.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in OF_THE_SERVER {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(OF_KUBECTL);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{} {namespace}/{}", text(&object["kind"]), text(&metadata["name"])),
        None => format!("{} {}", text(&object["kind"]), text(&metadata["name"])),
    }
}

/// Objects by which pods have a role or groups of the rules otherwise than by the rules. An apply leaves them there.
fn besides(rules: &Rules, place: &str, objects: &[Value], kind: Kind, listed: &[Value]) -> Vec<String> {
    let roles = roles(rules, place);
    let same = |a: &Value, b: &Value| {
        a["metadata"]["name"] == b["metadata"]["name"]
            && a["metadata"]["namespace"] == b["metadata"]["namespace"]
    };
    let mut told = Vec::new();
    for there in listed {
        let rendered = objects.iter().find(|object| object["kind"] == kind.kind && same(object, there));
        let name = format!(
            "{} {}/{}",
            kind.kind,
            there["metadata"]["namespace"].as_str().unwrap_or_default(),
            there["metadata"]["name"].as_str().unwrap_or_default()
        );
        if kind.kind == "ServiceAccount" {
            let Some(role) = there["metadata"]["annotations"][ANNOTATION_ROLE].as_str() else { continue };
            match rendered {
                None if roles.contains_key(role) => {
                    told.push(format!("{name} has {role}, which the rules give to other accounts"));
                }
                Some(rendered) if rendered["metadata"]["annotations"][ANNOTATION_ROLE].is_null() => {
                    told.push(format!("{name} has {role}, and its rules give no role"));
                }
                _ => {}
            }
        } else if rendered.is_none() {
            let spec = &there["spec"];
            if spec["podSelector"].to_string().contains(LABEL_RULE) {
                told.push(format!(
                    "{name} selects by {LABEL_RULE}: its groups come on top of those of the rules"
                ));
            }
        }
    }
    told
}

/// Each cause once, and the grants that are missing.
fn failure(faults: &[(ClusterError, Option<Kind>)]) -> Failure {
    let refused = |error: &ClusterError| matches!(error, ClusterError::Answered { status: 403, .. });
    let resources: BTreeSet<String> = faults
        .iter()
        .filter(|(error, _)| refused(error))
        .filter_map(|(_, kind)| kind.map(|kind| kind.resource()))
        .collect();
    let mut told: Vec<String> = faults.iter().map(|(error, _)| error.to_string()).collect();
    told.dedup();
    let more = told.len().saturating_sub(5);
    told.truncate(5);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let hint = if resources.is_empty() {
        let hint = |error: &ClusterError| match error {
            ClusterError::Answered { status: 404, .. } => {
                "see that this is the cluster that is meant; SecurityGroupPolicies are there on EKS"
            }
            ClusterError::Answered { status: 400..=428, .. } => "the API server does not take this object",
            other => other.hint(),
        };
        faults.first().map(|(error, _)| hint(error).to_owned()).unwrap_or_default()
    } else {
        format!(
            "it takes get, list, patch and create on {} (the dry run of an apply changes nothing, and asks for the rights \
             to apply); use the credentials that apply the manifests: in_cluster = False, config_file and \
             cluster_context of [kubernetes_executor]",
            Vec::from_iter(resources).join(", ")
        )
    };
    Failure::Uncompared { what: format!("{}{more}", told.join("; ")), hint }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use windlass_core::identity::rules::{Place, Rule};
    use windlass_core::identity::{Freedoms, Identity};

    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/etl";

    fn account(name: &str, role: Option<&str>) -> Value {
        let mut account = json!({ "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": name, "namespace": "data" } });
        if let Some(role) = role {
            account["metadata"]["annotations"] = json!({ ANNOTATION_ROLE: role });
        }
        account
    }

    #[test]
    fn only_what_an_apply_sets_differs() {
        let mut live = account("etl", Some(ROLE));
        let meta = live["metadata"].as_object_mut().unwrap();
        meta.insert("uid".into(), json!("u"));
        meta.insert("managedFields".into(), json!([]));
        meta["annotations"][OF_KUBECTL] = json!("{}");
        let (mut text, mut counts) = (String::new(), Counts::default());
        let object = account("etl", Some(ROLE));
        let mut compared = Compared { live: Some(live), applied: object.clone() };
        counts.add(&mut text, &object, &compared);
        assert_eq!((text.as_str(), counts.different()), ("", false));
        assert_eq!(counts.told(1), "no difference: 1 objects compared");

        compared.applied = account("etl", Some("other"));
        counts.add(&mut text, &object, &compared);
        assert!(
            text.starts_with("--- cluster ServiceAccount data/etl\n+++ rules   ServiceAccount data/etl\n@@"),
            "{text}"
        );
        assert!(text.contains(&format!("-    eks.amazonaws.com/role-arn: \"{ROLE}\"\n+")), "{text}");
        compared.live = None;
        counts.add(&mut text, &object, &compared);
        assert!(text.contains("--- cluster ServiceAccount data/etl (missing)\n"), "{text}");
        assert_eq!(counts.told(2), "2 objects compared: 1 to change, 1 missing; 0 besides the rules");
    }

    #[test]
    fn other_ways_to_a_rules_role_or_groups_are_told() {
        let rule = |name: &str, account: &str, role: Option<&str>| Rule {
            name: name.into(),
            place: Place::default(),
            when: Vec::new(),
            gives: Identity {
                service_account: Some(account.into()),
                role_arn: role.map(Into::into),
                namespace: Some("data".into()),
                ..Identity::default()
            },
            may_override: Freedoms::new(),
        };
        let rules = Rules::new(vec![rule("etl", "etl", Some(ROLE)), rule("plain", "plain", None)], None);
        let objects = [account("etl", Some(ROLE)), account("plain", None)];
        let [accounts, policies] = [Kind::ALL[0], Kind::ALL[1]];
        let listed = [
            account("etl", Some(ROLE)),
            account("old", Some(ROLE)),
            account("plain", Some("x")),
            account("none", None),
            account("foreign", Some("y")),
        ];
        assert_eq!(
            besides(&rules, "airflow", &objects, accounts, &listed),
            [
                format!("ServiceAccount data/old has {ROLE}, which the rules give to other accounts"),
                "ServiceAccount data/plain has x, and its rules give no role".to_owned(),
            ]
        );
        let sgp = |name: &str, selector: Value| json!({ "metadata": { "name": name, "namespace": "data" }, "spec": { "podSelector": selector } });
        let listed = [
            sgp("windlass-old", json!({ "matchLabels": { LABEL_RULE: "old" } })),
            sgp("theirs", json!({ "matchLabels": { "team": "x" } })),
        ];
        let told = besides(&rules, "airflow", &objects, policies, &listed);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0]
                .starts_with("SecurityGroupPolicy data/windlass-old selects by windlass.dev/identity-rule")
        );
    }

    #[test]
    fn a_refusal_names_the_grants() {
        let refused = |kind: Kind| {
            let error = ClusterError::Answered {
                url: "https://api".into(),
                call: format!("get {}", kind.kind),
                status: 403,
                message: "forbidden".into(),
                retry_after_ms: None,
            };
            (error, Some(kind))
        };
        let Failure::Uncompared { what, hint } = failure(&[refused(Kind::ALL[1]), refused(Kind::ALL[0])])
        else {
            panic!("another failure")
        };
        assert!(what.contains("get SecurityGroupPolicy"), "{what}");
        let grants = "it takes get, list, patch and create on securitygrouppolicies.vpcresources.k8s.aws, serviceaccounts (";
        assert!(hint.starts_with(grants), "{hint}");
    }
}
