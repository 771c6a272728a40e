//! One healthy cluster, from which each test makes one change; beside it a file for each module of the doctor.

mod accounts;
mod boundary;
mod capacity;
mod cluster;
mod cni;
mod dry_run;
mod nodes;
mod policies;
mod running;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::doctor::Severity;
use crate::identity::Identity;

const ROLE: &str = "arn:aws:iam::111122223333:role/etl";
const GROUP: &str = "sg-0123456789abcdef0";

/// The pod that is sent, and the admitted one.
fn pod(admitted: bool) -> Value {
    let mut pod = json!({
        "metadata": { "namespace": "data", "name": "p", "labels": { "windlass.dev/identity-rule": "etl" }, "annotations": {} },
        "spec": { "serviceAccountName": "etl", "nodeSelector": { "pool": "workers" }, "terminationGracePeriodSeconds": 30,
            "containers": [{ "name": "base", "image": "airflow" }] },
    });
    if admitted {
        let path = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
        pod["spec"]["containers"][0] = json!({
            "name": "base", "image": "airflow",
            "env": [{ "name": "AWS_ROLE_ARN", "value": ROLE }, { "name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": format!("{path}/token") }],
            "volumeMounts": [{ "name": "aws-iam-token", "mountPath": path, "readOnly": true }],
            "resources": { "limits": { "vpc.amazonaws.com/pod-eni": "1" }, "requests": { "vpc.amazonaws.com/pod-eni": "1" } },
        });
        let token = json!({ "serviceAccountToken": { "audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token" } });
        pod["spec"]["volumes"] = json!([{ "name": "aws-iam-token", "projected": { "sources": [token] } }]);
    }
    pod
}

fn rule() -> RuleFacts {
    let gives = Identity {
        rule: Some("etl".into()),
        service_account: Some("etl".into()),
        role_arn: Some(ROLE.into()),
        security_groups: BTreeSet::from([GROUP.into()]),
        namespace: Some("data".into()),
        ..Identity::default()
    };
    RuleFacts {
        object: "rule etl (line 2)".into(),
        gives,
        namespace: "data".into(),
        pod: Ok(pod(false)),
        dry_run: DryRun::Admitted(Box::new(pod(true))),
    }
}

fn node(name: &str, kind: &str, branches: u64) -> NodeSeen {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    NodeSeen {
        name: name.into(),
        labels: BTreeMap::from([
            label("pool", "workers"),
            label("node.kubernetes.io/instance-type", kind),
            label("topology.kubernetes.io/region", "eu-west-1"),
        ]),
        branches,
        pods: 110,
        ..NodeSeen::default()
    }
}

fn webhooks(configuration: &str, webhook: &str) -> Value {
    json!({ "metadata": { "name": configuration }, "webhooks": [{ "name": webhook, "failurePolicy": "Ignore" }] })
}

fn aws_node(env: &Value, init_env: &Value) -> Value {
    json!({ "metadata": { "name": "aws-node" }, "spec": { "template": { "spec": {
        "containers": [{ "name": "aws-node", "image": "602401143452.dkr.ecr.eu-west-1.amazonaws.com/amazon-k8s-cni:v1.19.2-eksbuild.1", "env": env }],
        "initContainers": [{ "name": "aws-vpc-cni-init", "image": "x", "env": init_env }],
    } } } })
}

fn policy(name: &str, groups: &[&str]) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "data" },
        "spec": { "podSelector": { "matchLabels": { "windlass.dev/identity-rule": "etl" } }, "securityGroups": { "groupIds": groups } },
    })
}

fn account(annotations: &Value) -> Value {
    json!({ "metadata": { "name": "etl", "namespace": "data", "annotations": annotations } })
}

fn of(namespace: &str, name: &str) -> Named {
    (namespace.to_owned(), name.to_owned())
}

fn admission(name: &str) -> (Value, Value) {
    let policy = json!({ "metadata": { "name": name } });
    let binding = json!({ "metadata": { "name": name }, "spec": { "policyName": name, "validationActions": ["Deny"] } });
    (policy, binding)
}

fn healthy() -> EksFacts {
    let (policies, bindings) =
        ["windlass-identity-airflow", "windlass-accounts-airflow"].map(admission).into_iter().unzip();
    let features = BTreeSet::from(["SecurityGroupsForPods".to_owned()]);
    let cluster = ClusterSeen {
        serves_policies: Some(true),
        policies: Some(vec![policy("etl", &[GROUP])]),
        cni_nodes: Some(BTreeMap::from([("n1".to_owned(), features)])),
        mutating: Some(vec![
            webhooks("pod-identity-webhook", "iam-for-pods.amazonaws.com"),
            webhooks("vpc-resource-mutating-webhook", "mpod.vpc.k8s.aws"),
        ]),
        validating: Some(vec![webhooks("vpc-resource-validating-webhook", "vpod.vpc.k8s.aws")]),
        daemon_sets: Some(vec![aws_node(
            &json!([{ "name": "ENABLE_POD_ENI", "value": "true" }]),
            &json!([]),
        )]),
        config_maps: BTreeMap::from([
            (of("kube-system", "amazon-vpc-cni"), json!({ "data": { "branch-eni-cooldown": "60" } })),
            (of("kube-system", "kube-proxy-config"), json!({ "data": { "config": "mode: \"iptables\"\n" } })),
        ]),
        nodes: Some(vec![node("n1", "m5.4xlarge", 54)]),
        pods: Some(Vec::new()),
        events: Some(Vec::new()),
        accounts: BTreeMap::from([(
            of("data", "etl"),
            account(&json!({ "eks.amazonaws.com/role-arn": ROLE })),
        )]),
        access: BTreeMap::from([(of("data", "etl"), Access::No)]),
        admission_policies: Some(policies),
        admission_bindings: Some(bindings),
        issuer: Some("https://oidc.eks.eu-west-1.amazonaws.com/id/ABC".into()),
        blind: Vec::new(),
    };
    EksFacts {
        parallelism: 32,
        standalone_dag_processor: true,
        cluster,
        rules: vec![rule()],
        ..EksFacts::default()
    }
}

/// Lines of what is found, as `severity code: object: what`; infos are left out where `infos` is false.
fn lines(facts: &EksFacts, infos: bool) -> Vec<String> {
    let found = examine_eks(facts);
    let told = found.iter().filter(|finding| infos || finding.code.severity() > Severity::Info);
    told.map(|f| format!("{} {}: {}: {}", f.code.severity().as_str(), f.code, f.object, f.what)).collect()
}

/// What a change makes of the healthy cluster: errors and warnings.
fn after(change: impl FnOnce(&mut EksFacts)) -> Vec<String> {
    let mut facts = healthy();
    change(&mut facts);
    lines(&facts, false)
}

/// The only info of a code.
fn info(code: Code, change: impl FnOnce(&mut EksFacts)) -> Option<String> {
    let mut facts = healthy();
    change(&mut facts);
    let mut found = examine_eks(&facts).into_iter().filter(|finding| finding.code == code);
    let first = found.next().map(|finding| format!("{}: {}", finding.object, finding.what));
    assert_eq!(found.next(), None, "told twice");
    first
}

fn with_env(facts: &mut EksFacts, name: &str, value: &str) {
    let env = json!([{ "name": "ENABLE_POD_ENI", "value": "true" }, { "name": name, "value": value }]);
    facts.cluster.daemon_sets = Some(vec![aws_node(&env, &json!([]))]);
}

fn change_pod(facts: &mut EksFacts, change: impl FnOnce(&mut Value)) {
    change(facts.rules[0].pod.as_mut().unwrap());
}

fn change_admitted(facts: &mut EksFacts, change: impl FnOnce(&mut Value)) {
    let mut admitted = pod(true);
    change(&mut admitted);
    facts.rules[0].dry_run = DryRun::Admitted(Box::new(admitted));
}

#[test]
fn a_healthy_cluster_has_no_fault_and_tells_how_it_stands() {
    let ignore = "failurePolicy is Ignore: while it does not answer, pods are created without what it gives";
    let issuer = "oidc.eks.eu-west-1.amazonaws.com/id/ABC";
    assert_eq!(
        lines(&healthy(), true),
        [
            &format!(
                "info webhook-failure-policy: pod-identity-webhook (iam-for-pods.amazonaws.com): {ignore}"
            ),
            &format!(
                "info webhook-failure-policy: vpc-resource-mutating-webhook (mpod.vpc.k8s.aws): {ignore}"
            ),
            &format!(
                "info webhook-failure-policy: vpc-resource-validating-webhook (vpod.vpc.k8s.aws): {ignore}"
            ),
            "info enforcing-mode: DaemonSet aws-node: strict: only the pod's groups count, also on its own node; there is no \
             SNAT, so the internet is reached from private subnets with a NAT gateway alone",
            "info branch-churn: branch interfaces: 1 node with 54 branch interfaces; each is held for its pod's run time and \
             60 to 90 s more. So at most: 32 to 46 a minute of 10 s, 21 to 27 a minute of 60 s, 4 a minute of 10 min",
            "info branch-cooldown: ConfigMap kube-system/amazon-vpc-cni: branch-eni-cooldown is 60 s",
            &format!(
                "info trust-policy: {ROLE}: its trust policy must let arn:aws:iam::111122223333:oidc-provider/{issuer} do \
                 sts:AssumeRoleWithWebIdentity where {issuer}:aud is sts.amazonaws.com and {issuer}:sub is one of \
                 [\"system:serviceaccount:data:etl\"]"
            ),
            "info aws-not-seen: AWS: whether roles exist, trust this cluster's OIDC provider and their service accounts, and \
             whether IAM has that provider; whether security groups exist and belong to the VPC, what their rules let through \
             (DNS: TCP and UDP 53 to CoreDNS, the database, STS), free addresses of the subnets, and whether the cluster's role \
             has AmazonEKSVPCResourceController",
        ]
    );
    assert_eq!(cni_line(&healthy()), "aws-node v1.19.2, strict");
    assert_eq!(room_line(&healthy()), "54 branch interfaces on 1 of 1 node");
}

#[test]
fn objects_are_read_as_far_as_they_decide() {
    let seen = NodeSeen::read(&json!({
        "metadata": { "name": "n", "labels": { "a": "b" } },
        "spec": { "unschedulable": true, "taints": [
            { "key": "k", "value": "v", "effect": "NoSchedule" }, { "key": "soft", "effect": "PreferNoSchedule" },
        ] },
        "status": { "allocatable": { "pods": "29", "vpc.amazonaws.com/pod-eni": "9" } },
    }));
    assert_eq!(
        (seen.name.as_str(), seen.closed, seen.branches, seen.pods, seen.taints.len()),
        ("n", true, 9, 29, 1)
    );
    let not_ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
    assert!(NodeSeen::read(&not_ready).closed && !NodeSeen::read(&json!({})).closed);
    let event = json!({ "reason": "r", "message": "m", "involvedObject": { "kind": "Pod", "namespace": "n", "name": "p" } });
    assert_eq!(EventSeen::read(&event).about, "n/p");
}
