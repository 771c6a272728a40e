//! The question "which groups does this pod get?" over plain objects, for the command line and for tests.

use serde_json::{Value, json};

use super::{Match, MatchError, PodFacts, Policies, SecurityGroupPolicy, ServiceAccounts, matching_groups};
use crate::identity::field::{Field, kind_of};
use crate::pod::FieldError;

/// Answers `{"pod": Pod, "serviceAccounts": [ServiceAccount], "policies": [SecurityGroupPolicy]}`; with
/// `"crdAbsent": true` the cluster does not know policies, and no service account is looked up.
///
/// The answer is `{"matched": bool, "groups": [text], "policies": [names that matched], "error": null or text}`.
/// `error` is the controller's: the pod would be denied.
///
/// # Errors
/// A field of the input that is missing or has another type.
pub fn answer(input: &Value) -> Result<Value, String> {
    let found = found(input).map_err(|error| error.to_string())?;
    let (found, error) = match found {
        Ok(found) => (found, None),
        Err(error) => (Match::default(), Some(error.to_string())),
    };
    Ok(json!({
        "matched": !found.groups.is_empty(),
        "groups": found.groups,
        "policies": found.policies,
        "error": error,
    }))
}

fn found(input: &Value) -> Result<Result<Match, MatchError>, FieldError> {
    let input = Field::root("", input);
    let pod = input.get("pod")?;
    if pod.is_null() {
        return Err(pod.error("is missing"));
    }
    let pod = PodFacts::read_at(&pod, "")?;
    let mut accounts = ServiceAccounts::default();
    for account in input.get("serviceAccounts")?.items()? {
        accounts.read_at(&account)?;
    }
    let mut policies = Policies::default();
    for policy in input.get("policies")?.items()? {
        policies.insert(SecurityGroupPolicy::read_at(&policy)?);
    }
    if input.get("crdAbsent")?.flag()? {
        return Ok(Ok(Match::default()));
    }
    Ok(matching_groups(&pod, &accounts, &policies))
}

/// Sorts Kubernetes objects, as they stand in manifests or in `kubectl get -o json`, into an input for [`answer`].
/// Lists are taken apart, empty documents and other kinds are left out.
///
/// # Errors
/// No Pod or more than one, or something that is no Kubernetes object.
pub fn from_manifests(objects: Vec<Value>) -> Result<Value, String> {
    let mut sorted = Sorted::default();
    for (index, object) in objects.into_iter().enumerate() {
        sorted.add(object, None, &format!("document {}", index + 1))?;
    }
    let mut pods = sorted.pods.into_iter();
    match (pods.next(), pods.len()) {
        (None, _) => Err("there is no Pod among the objects; give the manifest of one".into()),
        (Some(pod), 0) => {
            Ok(json!({"pod": pod, "serviceAccounts": sorted.accounts, "policies": sorted.policies}))
        }
        (Some(_), more) => {
            Err(format!("there are {} Pods among the objects; give the manifest of one", more + 1))
        }
    }
}

#[derive(Default)]
struct Sorted {
    pods: Vec<Value>,
    accounts: Vec<Value>,
    policies: Vec<Value>,
}

impl Sorted {
    /// `listed` is the kind of the items of a list, which don't always say it themselves; `place` is for errors.
    fn add(&mut self, mut object: Value, listed: Option<&str>, place: &str) -> Result<(), String> {
        if object.is_null() {
            return Ok(());
        }
        if !object.is_object() {
            return Err(format!("{place} is no Kubernetes object, it is {}", kind_of(&object)));
        }
        let kind = match (&object["kind"], listed) {
            (Value::String(kind), _) => kind.clone(),
            (Value::Null, Some(kind)) => kind.to_owned(),
            (Value::Null, None) => return Err(format!("{place} is no Kubernetes object, it has no `kind`")),
            (other, _) => return Err(format!("`kind` of {place} must be a text, is {}", kind_of(other))),
        };
        match kind.as_str() {
            "Pod" => self.pods.push(object),
            "ServiceAccount" => self.accounts.push(object),
            "SecurityGroupPolicy" => self.policies.push(object),
            "List" | "PodList" | "ServiceAccountList" | "SecurityGroupPolicyList" => {
                let items = match object["items"].take() {
                    Value::Array(items) => items,
                    Value::Null => Vec::new(),
                    other => {
                        return Err(format!("`items` of {place} must be a list, is {}", kind_of(&other)));
                    }
                };
                let listed = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
                for (index, item) in items.into_iter().enumerate() {
                    self.add(item, listed, &format!("items[{index}] of {place}"))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"kind": "Pod", "metadata": {"namespace": "n"}, "spec": {"serviceAccountName": "a"}})
    }

    fn account() -> Value {
        json!({"kind": "ServiceAccount", "metadata": {"namespace": "n", "name": "a"}})
    }

    fn policy(name: &str) -> Value {
        json!({"kind": "SecurityGroupPolicy", "metadata": {"namespace": "n", "name": name},
               "spec": {"podSelector": {}, "securityGroups": {"groupIds": [format!("sg-{name}")]}}})
    }

    #[test]
    fn manifests_and_lists() {
        let mut without_kind = policy("q");
        without_kind.as_object_mut().unwrap().remove("kind");
        let objects = vec![
            json!(null),
            json!({"kind": "List", "items": [policy("r"), {"kind": "ConfigMap"}, {"kind": "List", "items": [account()]}]}),
            json!({"kind": "Service"}),
            pod(),
            json!({"kind": "SecurityGroupPolicyList", "items": [without_kind, null]}),
            json!({"kind": "PodList", "items": null}),
        ];
        let input = from_manifests(objects).unwrap();
        assert_eq!(
            answer(&input).unwrap(),
            json!({"matched": true, "groups": ["sg-q", "sg-r"], "policies": ["q", "r"], "error": null})
        );
    }

    #[test]
    fn manifests_that_ask_nothing() {
        let error = |objects: Value| from_manifests(serde_json::from_value(objects).unwrap()).unwrap_err();
        assert_eq!(error(json!([])), "there is no Pod among the objects; give the manifest of one");
        assert_eq!(
            error(json!([pod(), {"kind": "PodList", "items": [pod(), {}]}])),
            "there are 3 Pods among the objects; give the manifest of one"
        );
        assert_eq!(error(json!([pod(), 5])), "document 2 is no Kubernetes object, it is a number");
        assert_eq!(error(json!([{"spec": {}}])), "document 1 is no Kubernetes object, it has no `kind`");
        assert_eq!(error(json!([{"kind": ["Pod"]}])), "`kind` of document 1 must be a text, is a list");
        assert_eq!(
            error(json!([{"kind": "List", "items": [{"kind": "List", "items": {}}]}])),
            "`items` of items[0] of document 1 must be a list, is an object"
        );
        assert_eq!(
            error(json!([{"kind": "List", "items": [{}]}])),
            "items[0] of document 1 is no Kubernetes object, it has no `kind`"
        );
    }

    #[test]
    fn bad_input_names_the_field() {
        let error = |input: Value| answer(&input).unwrap_err();
        assert_eq!(error(json!({})), "`pod` is missing");
        assert_eq!(error(json!([])), "`the object` must be an object, is a list");
        assert_eq!(error(json!({"pod": "p"})), "`pod` must be an object, is a text");
        assert_eq!(
            error(json!({"pod": {"metadata": {"labels": {"k": 1}}}})),
            "`pod.metadata.labels.k` must be a text, is a number"
        );
        let mut bad = policy("b");
        bad["spec"]["podSelector"] = json!({"matchLabels": {"tier": 5}});
        assert_eq!(
            error(json!({"pod": pod(), "policies": [policy("a"), policy("c"), bad]})),
            "`policies[2].spec.podSelector.matchLabels.tier` must be a text, is a number"
        );
        assert_eq!(
            error(json!({"pod": pod(), "serviceAccounts": [{}]})),
            "`serviceAccounts[0].metadata.name` is missing"
        );
        assert_eq!(
            error(json!({"pod": pod(), "crdAbsent": "yes"})),
            "`crdAbsent` must be true or false, is a text"
        );
    }

    #[test]
    fn without_the_resource_definition_nothing_is_looked_up() {
        let nothing = json!({"matched": false, "groups": [], "policies": [], "error": null});
        assert_eq!(answer(&json!({"pod": pod(), "crdAbsent": true})).unwrap(), nothing);
        let error = json!("ServiceAccount \"a\" not found");
        assert_eq!(answer(&json!({"pod": pod(), "policies": [policy("p")]})).unwrap()["error"], error);
    }

    #[test]
    fn a_pod_and_its_account_must_be_of_one_namespace() {
        let mut elsewhere = account();
        elsewhere["metadata"]["namespace"] = json!("other");
        let input = json!({"pod": pod(), "serviceAccounts": [elsewhere], "policies": [policy("p")]});
        assert_eq!(answer(&input).unwrap()["error"], json!("ServiceAccount \"a\" not found"));
    }
}
