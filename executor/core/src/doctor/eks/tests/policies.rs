//! `SecurityGroupPolicy` objects.

use super::*;

#[test]
fn policies_are_judged_as_the_controller_does() {
    let with = |policies: Vec<Value>| after(move |facts| facts.cluster.policies = Some(policies));
    let at = "rule etl (line 2)";
    assert_eq!(
        with(Vec::new()),
        [format!(
            "error no-policy-matches: {at}: it demands {GROUP} for its pod (service account etl); namespace data has none"
        )]
    );
    let mut other = policy("web", &[GROUP]);
    other["spec"]["podSelector"]["matchLabels"] = json!({ "app": "web" });
    assert!(with(vec![other]).join("").ends_with("namespace data has 1 policy, and none selects it: web"));
    let more = "sg-0fedcba9876543210";
    assert_eq!(
        with(vec![policy("etl", &[GROUP]), policy("more", &[more])]),
        [format!(
            "error policy-groups-differ: {at}: it demands {GROUP}, and its pod gets {GROUP}, {more} by etl, more"
        )]
    );
    let many = ["sg-00000001", "sg-00000002", "sg-00000003", "sg-00000004", "sg-00000005", "sg-00000006"];
    let found = with(vec![policy("etl", &many)]);
    assert!(found[1].starts_with(&format!("error too-many-groups: {at}: 6 groups by etl: ")), "{found:?}");
    let found = with(vec![policy("etl", &[GROUP, "my-group"])]);
    assert_eq!(found[1], format!("error group-id-malformed: {at}: its pod gets `my-group` by etl"));
    let mut broken = policy("broken", &[GROUP]);
    broken["spec"]["podSelector"] =
        json!({ "matchExpressions": [{ "key": "a", "operator": "in", "values": ["b"] }] });
    let found = with(vec![policy("etl", &[GROUP]), broken]);
    assert!(
        found[0].starts_with("warning policy-broken: SecurityGroupPolicy data/broken: podSelector: "),
        "{found:?}"
    );
    let mut going = policy("etl", &[GROUP]);
    going["metadata"]["deletionTimestamp"] = "2026-11-24T03:00:00Z".into();
    assert_eq!(
        with(vec![going]),
        [format!(
            "warning policy-being-deleted: SecurityGroupPolicy data/etl: it is being deleted since 2026-11-24T03:00:00Z, and gives {GROUP} to the pod of {at}"
        )]
    );
    let unasked = info(Code::PolicyUnasked, |facts| facts.rules[0].gives.security_groups.clear());
    assert_eq!(unasked.unwrap(), format!("{at}: its pod gets {GROUP} by etl in namespace data"));
    let found = after(|facts| {
        facts.rules[0].gives.security_groups = BTreeSet::from(["sg-XYZ".into()]);
        facts.cluster.policies = Some(vec![policy("etl", &["sg-XYZ"])]);
    });
    assert_eq!(found, [format!("error group-id-malformed: {at}: it demands `sg-XYZ`")]);
    let windows = after(|facts| {
        change_pod(facts, |pod| pod["spec"]["nodeSelector"]["kubernetes.io/os"] = "windows".into())
    });
    assert!(
        windows.iter().any(|line| line.contains("asks for nodes with Windows, for which no policy counts")),
        "{windows:?}"
    );
}
