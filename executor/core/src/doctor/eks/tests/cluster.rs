//! What could not be read, and the pieces of AWS.

use super::*;

#[test]
fn what_could_not_be_read_is_told_and_nothing_is_concluded_from_it() {
    let mut facts = EksFacts { rules: vec![rule()], standalone_dag_processor: true, ..EksFacts::default() };
    facts.rules[0].dry_run = DryRun::NotTried;
    assert_eq!(lines(&facts, false), Vec::<String>::new());
    let found = after(|facts| {
        facts.cluster.nodes = None;
        facts.cluster.blind =
            vec![Blind { what: "nodes".into(), why: "no".into(), grant: Some("list nodes".into()) }];
    });
    assert_eq!(found, ["warning cannot-see: nodes: may not be read by who runs the doctor: no"]);
    facts.cluster.blind =
        vec![Blind { what: "nodes".into(), why: "time-out".into(), grant: Some("list nodes".into()) }];
    let remedy = "grant `list nodes` to whoever runs the doctor (deploy/rbac/doctor has all such reads), or run it as somebody who may";
    assert_eq!(examine_eks(&facts)[0].remedy, remedy);
    let found = after(|facts| facts.rules[0].dry_run = DryRun::Unknown("exceeded quota: q".into()));
    assert_eq!(
        found,
        ["warning cannot-see: dry run of rule etl (line 2): it says nothing of the pod: exceeded quota: q"]
    );
}

#[test]
fn the_pieces_of_aws_have_to_be_there() {
    assert_eq!(
        after(|facts| facts.cluster.serves_policies = Some(false)),
        [
            "error sgp-crd-missing: SecurityGroupPolicy: the API group vpcresources.k8s.aws/v1beta1 is not there"
        ]
    );
    assert_eq!(
        after(|facts| {
            facts.cluster.mutating = Some(Vec::new());
            facts.rules[0].dry_run = DryRun::NotTried;
        }),
        [
            "error sgp-webhook-missing: vpc-resource-mutating-webhook: there is no configuration with the webhook `mpod.vpc.k8s.aws`",
            "error irsa-webhook-missing: pod-identity-webhook: there is no configuration with the webhook `iam-for-pods.amazonaws.com`",
        ]
    );
    assert_eq!(
        after(|facts| facts.cluster.validating =
            Some(vec![webhooks("vpc-resource-validating-webhook", "vnode.vpc.k8s.aws")])),
        [
            "error sgp-webhook-missing: vpc-resource-validating-webhook: the configuration is there, and has no webhook `vpod.vpc.k8s.aws`"
        ]
    );
    // The template gives the pods their role.
    assert_eq!(
        after(|facts| facts
            .cluster
            .mutating
            .as_mut()
            .unwrap()
            .retain(|seen| seen["metadata"]["name"] != "pod-identity-webhook")),
        Vec::<String>::new()
    );
    // What no rule demands is not asked for, unless by hand.
    let bare = |forced| {
        after(|facts| {
            facts.forced = forced;
            facts.rules[0].gives.security_groups.clear();
            facts.rules[0].gives.role_arn = None;
            facts.cluster = ClusterSeen {
                serves_policies: Some(false),
                mutating: Some(Vec::new()),
                ..ClusterSeen::default()
            };
        })
    };
    assert_eq!(bare(false), Vec::<String>::new());
    assert_eq!(bare(true).len(), 3, "{:?}", bare(true));
    let fail = |facts: &mut EksFacts| {
        facts.cluster.mutating.as_mut().unwrap()[0]["webhooks"][0]["failurePolicy"] = "Fail".into();
    };
    let mut facts = healthy();
    fail(&mut facts);
    let line = "info webhook-failure-policy: pod-identity-webhook (iam-for-pods.amazonaws.com): failurePolicy is Fail: while it does not answer, no pod is created";
    assert!(lines(&facts, true).iter().any(|told| told == line));
}
