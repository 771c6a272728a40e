//! The webhooks of security groups for pods against recordings of the real ones; and that noise in the place of a pod is
//! an answer, not a panic.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_core::identity::sgp::{
    Asks, Match, MatchError, PodFacts, Policies, SecurityGroupPolicy, ServiceAccounts, matching_groups,
    pod_asks_for_branch,
};
use windlass_eks::sgp::{Admission, AnnotationReview, mutate, validate_annotation};

use crate::goldens::sgp;

/// The controller's look into the cluster of a case, with the case's failures.
fn find(input: &Value, pod: &PodFacts) -> Result<Match, MatchError> {
    for failure in ["listError", "saError"] {
        if let Some(text) = input[failure].as_str() {
            return Err(MatchError::Read(text.into()));
        }
    }
    if input["crdAbsent"] == true {
        return Ok(Match::default());
    }
    let mut accounts = ServiceAccounts::default();
    for account in input["serviceAccounts"].as_array().unwrap() {
        accounts.read(account).unwrap();
    }
    let mut policies = Policies::default();
    for policy in input["policies"].as_array().unwrap() {
        policies.insert(SecurityGroupPolicy::read(policy).unwrap());
    }
    matching_groups(pod, &accounts, &policies)
}

fn told(admission: &Admission) -> Value {
    json!({"allowed": admission.allowed(), "code": admission.code, "message": admission.message})
}

/// The groups of the annotation as a set: their order across policies is one of chance.
fn with_sets(mut after: Value) -> Value {
    if let Some(groups) = after["annotations"].get_mut("fargate.amazonaws.com/pod-sg") {
        let set: BTreeSet<&str> = groups.as_str().unwrap().split(',').collect();
        *groups = json!(set);
    }
    after
}

#[test]
fn pods_after_the_webhook() {
    for case in sgp("sgp_webhook.json") {
        let (id, input, expected) = (&case.id, &case.input, &case.expected);
        let windows_ipam = input["windowsIPAM"] == true;
        let namespace = input["requestNamespace"].as_str().unwrap();
        let ours = mutate(&input["pod"], namespace, windows_ipam, |pod| find(input, pod));
        let told = told(&ours);
        for field in ["allowed", "code", "message"] {
            assert_eq!(told[field], expected[field], "{id} {field}");
        }
        let after = ours.pod.map(|pod| {
            json!({
                "resources": pod["spec"]["containers"][0]["resources"],
                "annotations": pod["metadata"]["annotations"],
                "namespace": pod["metadata"]["namespace"],
            })
        });
        assert_eq!(after.map(with_sets), expected.get("after").cloned().map(with_sets), "{id}");
    }
}

#[test]
fn who_may_write_the_annotations() {
    for case in sgp("sgp_annotation_validate.json") {
        let input = &case.input;
        let ours = validate_annotation(&AnnotationReview {
            operation: input["operation"].as_str().unwrap(),
            user: input["user"].as_str().unwrap(),
            pod: &input["pod"],
            old_pod: &input["oldPod"],
            windows_ipam: input["windowsIPAM"] == true,
        });
        assert_eq!(told(&ours), case.expected, "{}", case.id);
    }
}

#[test]
fn the_webhooks_pod_asks_where_the_cni_looks() {
    let mut pod = sgp("sgp_webhook.json")[0].input["pod"].clone();
    let found = || Ok(Match { groups: vec!["sg-1".into()], policies: vec!["p".into()] });
    assert_eq!(pod_asks_for_branch(&pod), Asks::No);
    pod = mutate(&pod, "airflow", false, |_| found()).pod.unwrap();
    assert_eq!(pod_asks_for_branch(&pod), Asks::ContainerZero);
    pod["spec"]["containers"].as_array_mut().unwrap().insert(0, json!({"name": "proxy"}));
    assert_eq!(pod_asks_for_branch(&pod), Asks::OtherContainer("base".into()));
}

/// JSON with the field names that are looked at, and any value in them.
fn noise() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~äß\n]{0,8}".prop_map(Value::from),
    ];
    let name = proptest::sample::select(
        &[
            "metadata",
            "namespace",
            "labels",
            "annotations",
            "spec",
            "containers",
            "resources",
            "limits",
            "requests",
            "nodeSelector",
            "hostNetwork",
            "serviceAccountName",
            "vpc.amazonaws.com/pod-eni",
            "fargate.amazonaws.com/pod-sg",
            "eks.amazonaws.com/fargate-profile",
        ][..],
    );
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let fields = btree_map(name.clone().prop_map(str::to_owned), inner.clone(), 0..6);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn noise_is_no_panic(pod in noise(), old_pod in noise(), windows_ipam in any::<bool>()) {
        let found = |_: &PodFacts| Ok(Match { groups: vec!["sg-1".into()], policies: vec!["p".into()] });
        let made = mutate(&pod, "n", windows_ipam, found);
        prop_assert_eq!(made.allowed(), made.code == 200);
        for operation in ["CREATE", "UPDATE", "DELETE"] {
            let review = AnnotationReview { operation, user: "me", pod: &pod, old_pod: &old_pod, windows_ipam };
            validate_annotation(&review);
        }
    }
}
