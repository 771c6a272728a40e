//! Pods that run, and events.

use super::*;

#[test]
fn pods_that_run_with_the_nodes_groups_and_what_events_tell() {
    let seen = |annotation: &str, address: &str| {
        PodSeen::read(&json!({
            "metadata": { "namespace": "data", "name": "p", "annotations": { "vpc.amazonaws.com/pod-eni": annotation } },
            "spec": { "nodeName": "n1", "containers": pod(true)["spec"]["containers"] },
            "status": { "podIP": address },
        }))
    };
    let branch = r#"[{"eniId":"eni-1","privateIp":"10.0.0.7","ipv6Addr":""}]"#;
    let with = |pod: PodSeen| after(move |facts| facts.cluster.pods = Some(vec![pod]));
    assert_eq!(with(seen(branch, "10.0.0.7")), Vec::<String>::new());
    assert_eq!(
        with(seen(branch, "10.0.0.99")),
        [
            "error pod-on-node-groups: pod data/p: its address is 10.0.0.99, and its branch interface has 10.0.0.7"
        ]
    );
    let mut behind = json!({ "metadata": { "namespace": "data", "name": "p" }, "spec": { "nodeName": "n1", "containers": [{ "name": "mesh" }] } });
    behind["spec"]["containers"].as_array_mut().unwrap().push(pod(true)["spec"]["containers"][0].clone());
    assert_eq!(
        with(PodSeen::read(&behind)),
        [
            "error pod-on-node-groups: pod data/p: container `base` asks for the interface, and another one is the first"
        ]
    );
    let event = |kind: &str, reason: &str, about: &str| EventSeen {
        reason: reason.into(),
        message: "m".into(),
        kind: kind.into(),
        about: about.into(),
    };
    assert_eq!(
        after(|facts| {
            facts.cluster.events = Some(vec![
                event("Pod", "BranchAllocationFailed", "data/p"),
                event("Pod", "BranchAllocationFailed", "data/q"),
                event("Node", "TrunkENICreationFailed", "n1"),
                event("Deployment", "Unsupported", "data/x"),
            ]);
        }),
        [
            "warning node-trunk-events: nodes: TrunkENICreationFailed: m (n1)",
            "warning pod-eni-events: pods: BranchAllocationFailed: m (data/p, data/q)",
        ]
    );
}
