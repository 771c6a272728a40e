//! Which nodes take a pod, and which of them have branch interfaces.

use super::super::nodes;
use super::*;

#[test]
fn a_node_has_to_fit_and_to_have_branch_interfaces() {
    let with = |nodes: Vec<NodeSeen>| after(move |facts| facts.cluster.nodes = Some(nodes));
    assert_eq!(
        with(vec![node("a", "t3.large", 0), node("b", "m5.large", 0), node("c", "zz9.large", 0)]),
        [
            "error no-branch-node: rule etl (line 2): 3 nodes are there, 3 fit its pod, and none that takes pods has allocatable vpc.amazonaws.com/pod-eni: 1 of type `zz9.large`, which is not known, 1 of type m5.large, which could have one, 1 of type t3.large, which has no trunk interface",
            "warning node-without-trunk: nodes of type m5.large: none of the 9 branch interfaces is allocatable; their CNINode lacks the feature SecurityGroupsForPods, so aws-node did not ask for it: b",
        ]
    );
    let mut elsewhere = node("a", "m5.4xlarge", 54);
    elsewhere.labels.insert("pool".into(), "web".into());
    let mut closed = node("b", "m5.4xlarge", 54);
    closed.closed = true;
    let none = "warning no-node-now: rule etl (line 2): ";
    let tail = "none takes its pod by node selector, node affinity and tolerations";
    assert_eq!(with(vec![elsewhere.clone()]), [format!("{none}1 node is there, and {tail}")]);
    assert_eq!(
        with(vec![elsewhere, closed]),
        [format!("{none}2 nodes are there, and {tail}, 1 that fit are cordoned or not ready")]
    );
    let windows = |key: &str, value: &str| {
        let mut node = node("a", "m5.large", 0);
        node.labels.insert(key.into(), value.into());
        with(vec![node]).join("\n")
    };
    assert!(windows("kubernetes.io/os", "windows").ends_with("1 with Windows"));
    assert!(windows("eks.amazonaws.com/compute-type", "auto").contains("1 of EKS Auto Mode"));
    assert!(windows("eks.amazonaws.com/compute-type", "fargate").contains("1 of Fargate"));
    let of_info =
        |code, kind: &str| info(code, |facts| facts.cluster.nodes.as_mut().unwrap().push(node("b", kind, 0)));
    assert_eq!(
        of_info(Code::NodeUnsupported, "t3.large").unwrap(),
        "nodes of type t3.large: t3.large has no trunk interface: b"
    );
    assert!(
        of_info(Code::InstanceTypeUnknown, "zz9.large")
            .unwrap()
            .starts_with("nodes of type zz9.large: no allocatable")
    );
}

#[test]
fn node_selectors_taints_and_affinity_count_as_for_the_scheduler() {
    let taint = ("dedicated".to_owned(), "etl".to_owned(), "NoSchedule".to_owned());
    let tainted = NodeSeen { taints: vec![taint], ..node("n", "m5.large", 9) };
    let fits = |spec: Value| nodes::fits(&tainted, &json!({ "spec": spec }));
    let tolerates = |toleration: Value| fits(json!({ "tolerations": [toleration] }));
    assert!(!fits(json!({})));
    assert!(tolerates(json!({ "operator": "Exists" })));
    assert!(tolerates(json!({ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" })));
    assert!(tolerates(json!({ "key": "dedicated", "value": "etl" })));
    assert!(!tolerates(json!({ "key": "dedicated", "value": "web" })));
    assert!(!tolerates(json!({ "key": "dedicated", "operator": "Exists", "effect": "NoExecute" })));
    let open = node("n", "m5.large", 9);
    let wants = |operator: &str, value: &str| {
        let terms =
            json!([{ "matchExpressions": [{ "key": "pool", "operator": operator, "values": [value] }] }]);
        let required = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
        nodes::fits(&open, &json!({ "spec": { "affinity": required } }))
    };
    assert!(wants("In", "workers") && !wants("In", "web") && !wants("NotIn", "workers") && wants("Gt", "3"));
}
