//! SecurityGroupPolicies, read once and matched against many pods.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::identity::field::Field;
use crate::identity::{LabelSelector, Labels, SelectorError};
use crate::pod::FieldError;

/// A SecurityGroupPolicy (`vpcresources.k8s.aws/v1beta1`), as far as it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupPolicy {
    /// Pods of this namespace only.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `spec.podSelector`. Absent is not the same as empty: an empty one matches every pod.
    pub pod_selector: Option<LabelSelector>,
    /// `spec.serviceAccountSelector`, over the labels of the pod's service account.
    pub service_account_selector: Option<LabelSelector>,
    /// `spec.securityGroups.groupIds`, in their order. Nobody checks their number or form before EC2 does.
    pub group_ids: Vec<String>,
    /// Why it matches no pod at all, as the end of a sentence. The custom resource's schema lets such policies pass
    /// and the controller says it nowhere but in its own log.
    pub fault: Option<String>,
}

impl SecurityGroupPolicy {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// `metadata` has no name, or a field of another type, which the API server would not take. What it does take and
    /// the controller ignores is [`SecurityGroupPolicy::fault`].
    pub fn read(object: &Value) -> Result<Self, FieldError> {
        Self::read_at(&Field::root("", object))
    }

    /// [`Self::read`] with the place of the object for errors.
    pub(crate) fn read_at(object: &Field<'_>) -> Result<Self, FieldError> {
        let metadata = object.get("metadata")?;
        let spec = object.get("spec")?;
        let mut faults = Vec::new();
        let pod_selector = selector(&spec, "podSelector", &mut faults)?;
        let service_account_selector = selector(&spec, "serviceAccountSelector", &mut faults)?;
        if faults.is_empty() && pod_selector.is_none() && service_account_selector.is_none() {
            faults.push("it has neither podSelector nor serviceAccountSelector".into());
        }
        let group_ids = spec.get("securityGroups")?.get("groupIds")?.texts()?;
        if group_ids.is_empty() {
            faults.push("securityGroups.groupIds is empty".into());
        }
        Ok(Self {
            namespace: metadata.get("namespace")?.text()?,
            name: metadata.get("name")?.required_text()?,
            pod_selector,
            service_account_selector,
            group_ids,
            fault: (!faults.is_empty()).then(|| faults.join("; ")),
        })
    }

    /// Whether it matches a pod of its namespace: each selector that is there must. One with a fault never does.
    pub fn matches(&self, pod: &Labels, service_account: &Labels) -> bool {
        let holds = |selector: &Option<LabelSelector>, labels| {
            selector.as_ref().is_none_or(|selector| selector.matches(labels))
        };
        self.fault.is_none()
            && holds(&self.pod_selector, pod)
            && holds(&self.service_account_selector, service_account)
    }
}

/// A selector of the spec. One that Kubernetes can't use is a fault of the policy.
fn selector(
    spec: &Field<'_>,
    name: &str,
    faults: &mut Vec<String>,
) -> Result<Option<LabelSelector>, FieldError> {
    match LabelSelector::read_at(&spec.get(name)?) {
        Ok(selector) => Ok(selector),
        Err(SelectorError::Field(error)) => Err(error),
        Err(fault) => {
            faults.push(format!("{name}: {fault}"));
            Ok(None)
        }
    }
}

/// What a pod gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The groups of all policies that match: policies by name, in a policy as they stand there, each group once.
    /// The controller takes the policies in an order of chance, so compare pods' groups as sets.
    pub groups: Vec<String>,
    /// The names of these policies.
    pub policies: Vec<String>,
}

/// All known policies. A watch keeps it with [`Policies::insert`] and [`Policies::remove`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    namespaces: BTreeMap<String, BTreeMap<String, SecurityGroupPolicy>>,
}

impl Policies {
    /// Adds a policy, or replaces the one of the same namespace and name.
    pub fn insert(&mut self, policy: SecurityGroupPolicy) {
        self.namespaces.entry(policy.namespace.clone()).or_default().insert(policy.name.clone(), policy);
    }

    /// Forgets a policy; nothing happens if it is not known.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(policies) = self.namespaces.get_mut(namespace) {
            policies.remove(name);
            if policies.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }

    /// The policies of a namespace by name, those with a fault too.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &SecurityGroupPolicy> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// What a pod with these labels gets, if its service account has those. Looks at the policies of one namespace.
    pub fn groups(&self, namespace: &str, pod: &Labels, service_account: &Labels) -> Match {
        let mut found = Match::default();
        let mut seen = BTreeSet::new();
        for policy in self.of_namespace(namespace).filter(|policy| policy.matches(pod, service_account)) {
            found.policies.push(policy.name.clone());
            found.groups.extend(policy.group_ids.iter().filter(|group| seen.insert(*group)).cloned());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(name: &str, spec: Value) -> SecurityGroupPolicy {
        SecurityGroupPolicy::read(&json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn faults_in_words() {
        let fault = |spec| policy("p", spec).fault;
        let groups = json!({"groupIds": ["sg-1"]});
        assert_eq!(fault(json!({"podSelector": {}, "securityGroups": groups})), None);
        assert_eq!(
            fault(json!({"securityGroups": groups})).unwrap(),
            "it has neither podSelector nor serviceAccountSelector"
        );
        for none in [json!(null), json!({}), json!({"groupIds": null}), json!({"groupIds": []})] {
            let spec = json!({"podSelector": {}, "securityGroups": none});
            assert_eq!(fault(spec).unwrap(), "securityGroups.groupIds is empty");
        }
        let bad = json!({"matchExpressions": [{"key": "k", "operator": "in", "values": ["v"]}]});
        assert_eq!(
            fault(json!({"serviceAccountSelector": bad})).unwrap(),
            "serviceAccountSelector: `in` on label `k` is no operator; use In, NotIn, Exists or DoesNotExist; \
             securityGroups.groupIds is empty"
        );
        assert_eq!(
            fault(json!(null)).unwrap(),
            "it has neither podSelector nor serviceAccountSelector; securityGroups.groupIds is empty"
        );
    }

    #[test]
    fn a_bad_selector_beside_a_good_one_matches_nothing() {
        let bad = json!({"matchLabels": {"k": "no value!"}});
        let groups = json!({"groupIds": ["sg-1"]});
        for spec in [
            json!({"podSelector": bad, "serviceAccountSelector": {}, "securityGroups": groups}),
            json!({"podSelector": {}, "serviceAccountSelector": bad, "securityGroups": groups}),
        ] {
            assert!(!policy("p", spec).matches(&Labels::new(), &Labels::new()));
        }
    }

    #[test]
    fn policies_come_and_go() {
        let spec =
            |group: &str| json!({"podSelector": {}, "securityGroups": {"groupIds": [group, "sg-all"]}});
        let none = Labels::new();
        let mut policies = Policies::default();
        policies.insert(policy("b", spec("sg-b")));
        policies.insert(policy("a", spec("sg-a")));
        let found = policies.groups("n", &none, &none);
        assert_eq!(
            (found.policies.join(" "), found.groups.join(" ")),
            ("a b".into(), "sg-a sg-all sg-b".into())
        );
        assert_eq!(policies.groups("other", &none, &none), Match::default());
        policies.insert(policy("a", spec("sg-new")));
        policies.remove("n", "b");
        policies.remove("n", "b");
        policies.remove("other", "a");
        assert_eq!(policies.groups("n", &none, &none).groups, ["sg-new", "sg-all"]);
        policies.remove("n", "a");
        assert_eq!(policies, Policies::default());
    }

    #[test]
    fn other_types_and_no_name() {
        let error = |object: Value| SecurityGroupPolicy::read(&object).unwrap_err().to_string();
        assert_eq!(error(json!({"metadata": {"namespace": "n"}})), "`metadata.name` is missing");
        assert_eq!(
            error(json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"k": true}}}})),
            "`spec.podSelector.matchLabels.k` must be a text, is a boolean"
        );
        assert_eq!(
            error(json!({"metadata": {"name": "p"}, "spec": {"securityGroups": {"groupIds": "sg-1"}}})),
            "`spec.securityGroups.groupIds` must be a list, is a text"
        );
    }
}
