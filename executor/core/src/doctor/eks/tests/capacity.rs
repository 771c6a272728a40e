//! Room and churn of branch interfaces.

use super::*;

#[test]
fn capacity_against_parallelism_and_churn() {
    assert_eq!(
        after(|facts| {
            facts.cluster.nodes =
                Some(vec![node("a", "m5.large", 9), NodeSeen { pods: 4, ..node("b", "m5.large", 9) }]);
            let taken = PodSeen { at: of("data", "p"), node: "a".into(), asks: true, ..PodSeen::default() };
            facts.cluster.pods = Some(vec![taken]);
        }),
        [
            "warning branch-capacity: branch interfaces: 2 nodes for these pods have 13 branch interfaces (on 1 of them max-pods is the limit), 1 of them taken, and [core] parallelism is 32"
        ]
    );
    assert!(after(|facts| facts.parallelism = 0)[0].ends_with("and [core] parallelism is without a limit"));
    let churn = |cooldown: Option<&str>| {
        info(Code::BranchChurn, |facts| {
            facts.cluster.nodes = Some(vec![node("a", "m5.large", 9)]);
            let data = cooldown.map_or(json!({}), |text| json!({ "branch-eni-cooldown": text }));
            facts.cluster.config_maps.insert(of("kube-system", "amazon-vpc-cni"), json!({ "data": data }));
        })
    };
    assert_eq!(
        churn(None).unwrap(),
        "branch interfaces: 1 node with 9 branch interfaces; each is held for its pod's run time and 60 to 90 s more. So at most: 5 to 7 a minute of 10 s, 3 to 4 a minute of 60 s, 0 a minute of 10 min"
    );
    assert!(churn(Some("30")).unwrap().contains("and 30 to 60 s more. So at most: 7 to 13 a minute of 10 s"));
    let cooldown = |text: &str| {
        info(Code::BranchCooldown, |facts| {
            let map = json!({ "data": { "branch-eni-cooldown": text } });
            facts.cluster.config_maps.insert(of("kube-system", "amazon-vpc-cni"), map);
        })
    };
    assert!(cooldown("5").unwrap().ends_with("is 5 s; the controller takes 30 s at least"));
    assert!(cooldown("soon").unwrap().ends_with("is `soon`, which is no number of seconds: 60 s"));
}
