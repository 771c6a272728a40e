//! What AWS's controller answers about security groups for pods (`tests/fixtures/eks`), against ours; and that noise
//! in its place is an error, not a panic.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that reads its fixtures")]

use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_core::identity::sgp::{
    Branch, BranchInterface, Match, MatchError, PodFacts, Policies, SecurityGroupPolicy, ServiceAccounts,
    answer, decide, from_manifests, matching_groups, pod_asks_for_branch,
};

fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/eks").join(name);
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases: Vec<Value> = serde_json::from_value(file["cases"].take()).unwrap();
    assert_eq!(Value::from(cases.len()), file["n"]);
    cases
}

/// What a case's cluster holds.
fn cluster(input: &Value) -> (ServiceAccounts, Policies) {
    let mut accounts = ServiceAccounts::default();
    for account in input["serviceAccounts"].as_array().unwrap() {
        accounts.read(account).unwrap();
    }
    let mut policies = Policies::default();
    for policy in input["policies"].as_array().unwrap() {
        policies.insert(SecurityGroupPolicy::read(policy).unwrap());
    }
    (accounts, policies)
}

/// The controller's look into the cluster of a case, with the case's failures.
fn find(input: &Value, pod: &PodFacts) -> Result<Match, MatchError> {
    let (accounts, policies) = cluster(input);
    for failure in ["listError", "saError"] {
        if let Some(text) = input[failure].as_str() {
            return Err(MatchError::Read(text.into()));
        }
    }
    if input["crdAbsent"] == true { Ok(Match::default()) } else { matching_groups(pod, &accounts, &policies) }
}

#[test]
fn groups_of_pods() {
    for case in cases("sgp_match.json") {
        let (id, expected) = (&case["id"], &case["expected"]);
        let ours = answer(&case["input"]).unwrap();
        for field in ["matched", "groups", "error"] {
            assert_eq!(ours[field], expected[field], "{id} {field}");
        }
        assert_eq!(ours["matched"], Value::from(ours["policies"] != json!([])), "{id}");
    }
}

#[test]
fn manifests_ask_the_same_question() {
    for case in cases("sgp_match.json") {
        let input = &case["input"];
        let accounts = json!({"kind": "ServiceAccountList", "items": input["serviceAccounts"]});
        let mut objects = vec![accounts, input["pod"].clone()];
        objects.extend(input["policies"].as_array().unwrap().iter().rev().cloned());
        let mut asked = from_manifests(objects).unwrap();
        asked["crdAbsent"] = input["crdAbsent"].clone();
        assert_eq!(answer(&asked), answer(input), "{}", case["id"]);
    }
}

#[test]
fn the_decision_is_the_webhooks() {
    for case in cases("sgp_webhook.json") {
        let (id, input, expected) = (&case["id"], &case["input"], &case["expected"]);
        if expected["code"] == 400 {
            continue; // No pod, so nothing to decide.
        }
        let pod = PodFacts::read(&input["pod"], input["requestNamespace"].as_str().unwrap()).unwrap();
        let limits = &expected["after"]["resources"]["limits"];
        let fargate = &expected["after"]["annotations"]["fargate.amazonaws.com/pod-sg"];
        match decide(&pod, |pod| find(input, pod)) {
            Ok(Branch::Interface(_)) => assert_eq!(limits["vpc.amazonaws.com/pod-eni"], "1", "{id}"),
            Ok(Branch::Fargate(found)) => assert_eq!(*fargate, json!(found.groups.join(",")), "{id}"),
            Ok(Branch::None | Branch::Untouched(_)) => {
                assert!(limits["vpc.amazonaws.com/pod-eni"].is_null() && fargate.is_null(), "{id}");
                assert_eq!(expected["allowed"], true, "{id}");
            }
            Err(error) => {
                let message = expected["message"].as_str().unwrap();
                assert!(expected["code"] == 403 && message.ends_with(&error.to_string()), "{id}: {error}");
            }
        }
    }
}

/// JSON with the field names that are looked at, and any value in them.
fn noise() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[ -~äß\n]{0,8}", Just("In".into()), Just("vpc.amazonaws.com/pod-eni".into())];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let name = proptest::sample::select(
        &[
            "pod",
            "policies",
            "serviceAccounts",
            "crdAbsent",
            "kind",
            "items",
            "metadata",
            "name",
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
            "serviceAccount",
            "podSelector",
            "serviceAccountSelector",
            "matchLabels",
            "matchExpressions",
            "key",
            "operator",
            "values",
            "securityGroups",
            "groupIds",
            "privateIp",
            "vpc.amazonaws.com/pod-eni",
            "fargate.amazonaws.com/pod-sg",
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

/// Replaces one value in a case's input: `steps` choose the way down to it.
fn damage(place: &mut Value, steps: &[usize], with: Value) {
    let inner = steps.split_first().and_then(|(step, steps)| {
        let inner = match place {
            Value::Object(fields) => {
                let index = step % fields.len().max(1);
                fields.values_mut().nth(index)
            }
            Value::Array(items) => {
                let index = step % items.len().max(1);
                items.get_mut(index)
            }
            _ => None,
        };
        Some((inner?, steps))
    });
    match inner {
        Some((inner, steps)) => damage(inner, steps, with),
        None => *place = with,
    }
}

/// Everything that reads JSON.
fn read_everything(value: &Value) {
    let _ = answer(value);
    let _ = from_manifests(vec![value.clone(), value["pod"].clone()]).map(|input| answer(&input));
    let _ = BranchInterface::read(&value.to_string());
    let _ = pod_asks_for_branch(value);
    let found = |_: &PodFacts| Ok(Match { groups: vec!["sg-1".into()], policies: vec!["p".into()] });
    for pod in [value, &value["pod"]] {
        let _ = PodFacts::before_create(pod, "n").map(|facts| decide(&facts, found));
    }
}

proptest! {
    #[test]
    fn noise_is_no_panic(value in noise()) {
        read_everything(&value);
    }

    #[test]
    fn damaged_input_is_no_panic(
        case in 0_usize..10_000,
        steps in vec(0_usize..20, 1..9),
        with in noise(),
    ) {
        thread_local!(static CASES: Vec<Value> = cases("sgp_webhook.json"));
        let mut input = CASES.with(|cases| cases[case % cases.len()]["input"].clone());
        damage(&mut input, &steps, with);
        read_everything(&input);
    }
}
