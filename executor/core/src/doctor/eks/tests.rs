//! One healthy cluster, from which each test makes one change.

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
    EksFacts { forced: false, parallelism: 32, standalone_dag_processor: true, cluster, rules: vec![rule()] }
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
        after(|facts| facts.cluster.mutating = Some(Vec::new())),
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

#[test]
fn aws_node_is_there_and_new_enough() {
    assert_eq!(
        after(|facts| facts.cluster.daemon_sets = Some(Vec::new())),
        ["error cni-missing: DaemonSet aws-node: kube-system has no such DaemonSet"]
    );
    let version = |image: &str, ipv6: &str| {
        after(|facts| {
            with_env(facts, "ENABLE_IPv6", ipv6);
            let at = "/spec/template/spec/containers/0/image";
            *facts.cluster.daemon_sets.as_mut().unwrap()[0].pointer_mut(at).unwrap() = image.into();
        })
    };
    for good in [
        "r/amazon-k8s-cni:v1.15.0",
        "r:5000/cni:v1.20.1-eksbuild.3",
        "r/cni:v1.15.1@sha256:aa",
        "r/cni:v2.0.0",
    ] {
        assert_eq!(version(good, "false"), Vec::<String>::new(), "{good}");
    }
    let told = |image: &str, ipv6: &str| version(image, ipv6).join("\n");
    let at = "warning cni-version: DaemonSet aws-node: ";
    assert_eq!(told("r/cni:v1.7.5", ""), format!("{at}it is v1.7.5; security groups for pods need 1.7.7"));
    assert_eq!(
        told("r/cni:v1.10.4", ""),
        format!(
            "{at}it is v1.10.4; the enforcing mode standard, NodeLocal DNSCache and network policies need 1.11"
        )
    );
    assert!(told("r/cni:v1.14.0", "").ends_with("needs 1.15"));
    assert!(told("r/cni:v1.15.9", "true").ends_with("need 1.16"));
    assert_eq!(
        told("r/cni:latest", ""),
        format!(
            "{at}the tag of its image is no version (`r/cni:latest`): features that need one are not judged"
        )
    );
}

#[test]
fn pod_eni_is_enabled_by_a_value_or_through_a_config_map() {
    let by = |entry: Value, map: Option<Value>| {
        after(|facts| {
            facts.cluster.daemon_sets = Some(vec![aws_node(&json!([entry]), &json!([]))]);
            facts.cluster.config_maps.extend(map.map(|map| (of("kube-system", "cni"), map)));
        })
    };
    let value = |text: &str| by(json!({ "name": "ENABLE_POD_ENI", "value": text }), None);
    for good in ["true", "True", "1", "t"] {
        assert_eq!(value(good), Vec::<String>::new(), "{good}");
    }
    let at = "error pod-eni-disabled: DaemonSet aws-node: ENABLE_POD_ENI ";
    assert_eq!(value("yes"), [format!("{at}is `yes`")]);
    assert_eq!(by(json!({ "name": "OTHER" }), None), [format!("{at}is not set; its default is false")]);
    let reference = json!({ "name": "ENABLE_POD_ENI", "valueFrom": { "configMapKeyRef": { "name": "cni", "key": "eni" } } });
    let map = |text: &str| Some(json!({ "data": { "eni": text } }));
    assert_eq!(by(reference.clone(), map("true")), Vec::<String>::new());
    assert_eq!(by(reference.clone(), map("false")), [format!("{at}is `false`")]);
    assert_eq!(by(reference.clone(), Some(Value::Null)), [format!("{at}is not set; its default is false")]);
    assert_eq!(
        by(reference.clone(), None),
        [
            "warning cannot-see: DaemonSet aws-node: ENABLE_POD_ENI comes from key eni of ConfigMap kube-system/cni, which could not be read"
        ]
    );
    assert_eq!(
        aws_node_config_maps(&[aws_node(&json!([reference]), &json!([]))]),
        [of("kube-system", "cni")]
    );
}

#[test]
fn what_follows_from_the_enforcing_mode() {
    let mode = |mode: &'static str| {
        move |facts: &mut EksFacts| with_env(facts, "POD_SECURITY_GROUP_ENFORCING_MODE", mode)
    };
    assert_eq!(
        after(mode("Strict")),
        ["error enforcing-mode-invalid: DaemonSet aws-node: POD_SECURITY_GROUP_ENFORCING_MODE is `Strict`"]
    );
    let told = |code, change: &dyn Fn(&mut EksFacts)| info(code, |facts| change(facts));
    assert!(
        told(Code::EnforcingMode, &mode("standard")).unwrap().contains("standard: traffic inside of a node")
    );
    assert!(
        told(Code::NodeSnat, &mode("standard")).unwrap().contains("AWS_VPC_K8S_CNI_EXTERNALSNAT is not true")
    );
    assert_eq!(told(Code::NodeSnat, &mode("strict")), None);
    let standard_and_snat = |facts: &mut EksFacts| {
        let env = [
            ("ENABLE_POD_ENI", "true"),
            ("POD_SECURITY_GROUP_ENFORCING_MODE", "standard"),
            ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true"),
        ];
        let env = Value::from_iter(env.map(|(name, value)| json!({ "name": name, "value": value })));
        facts.cluster.daemon_sets = Some(vec![aws_node(&env, &json!([]))]);
    };
    assert_eq!(told(Code::NodeSnat, &standard_and_snat), None);

    let beside = |facts: &mut EksFacts| {
        for name in ["node-local-dns", "calico-node"] {
            facts.cluster.daemon_sets.as_mut().unwrap().push(json!({ "metadata": { "name": name } }));
        }
        let proxy = json!({ "data": { "config": "apiVersion: x\nmode: \"ipvs\"\n" } });
        facts.cluster.config_maps.insert(of("kube-system", "kube-proxy-config"), proxy);
    };
    assert_eq!(
        after(beside),
        [
            "error strict-mode-conflict: ConfigMap kube-proxy-config: kube-proxy is in the mode ipvs, which needs the enforcing mode standard: services are not reached",
            "error strict-mode-conflict: DaemonSet node-local-dns: NodeLocal DNSCache (DaemonSet node-local-dns) is not reached by pods with security groups in the mode strict: they resolve no names",
            "warning strict-network-policy: DaemonSet calico-node: the network policies of calico-node do not hold for pods with security groups",
        ]
    );
    let in_standard = after(|facts| {
        mode("standard")(facts);
        beside(facts);
    });
    assert_eq!(in_standard, Vec::<String>::new());
}

#[test]
fn probes_in_the_mode_strict_need_the_init_containers_setting() {
    let probed = |facts: &mut EksFacts| {
        let seen = |name: &str, asks| PodSeen {
            at: of("data", name),
            node: "n1".into(),
            asks,
            probed: true,
            ..PodSeen::default()
        };
        facts.cluster.pods = Some(vec![seen("scheduler", true), seen("plain", false)]);
        change_pod(facts, |pod| {
            pod["spec"]["containers"][0]["livenessProbe"] = json!({ "httpGet": { "port": 80 } })
        });
    };
    assert_eq!(
        after(probed),
        [
            "warning early-demux: DaemonSet aws-node: DISABLE_TCP_EARLY_DEMUX is not true on its init container aws-vpc-cni-init, and there are probes by TCP, HTTP or gRPC in: rule etl (line 2), data/scheduler"
        ]
    );
    let set = |value: &'static str, mode: &'static str| {
        after(|facts| {
            probed(facts);
            with_env(facts, "POD_SECURITY_GROUP_ENFORCING_MODE", mode);
            let init = json!([{ "name": "DISABLE_TCP_EARLY_DEMUX", "value": value }]);
            let at = "/spec/template/spec/initContainers/0/env";
            *facts.cluster.daemon_sets.as_mut().unwrap()[0].pointer_mut(at).unwrap() = init;
        })
    };
    assert_eq!(
        (set("true", "strict").len(), set("false", "strict").len(), set("false", "standard").len()),
        (0, 1, 0)
    );
    let exec = after(|facts| {
        change_pod(facts, |pod| {
            pod["spec"]["containers"][0]["livenessProbe"] = json!({ "exec": { "command": ["true"] } })
        });
    });
    assert_eq!(exec, Vec::<String>::new());
}

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

#[test]
fn service_accounts_and_their_roles() {
    let with = |annotations: Value| {
        after(move |facts| {
            facts.cluster.accounts.insert(of("data", "etl"), account(&annotations));
        })
    };
    let at = "service account data/etl";
    assert_eq!(
        after(|facts| {
            facts.cluster.accounts.insert(of("data", "etl"), Value::Null);
        }),
        [format!("error service-account-missing: {at}: it does not exist, and rule etl (line 2) names it")]
    );
    let demands = format!("and rule etl (line 2) demands {ROLE}");
    assert_eq!(
        with(json!({})),
        [format!("error role-annotation: {at}: it has no such annotation, {demands}")]
    );
    let other = "arn:aws:iam::111122223333:role/other";
    assert_eq!(
        with(json!({ "eks.amazonaws.com/role-arn": other })),
        [format!("error role-annotation: {at}: it names {other}, {demands}")]
    );
    let with_role = |key: &str, value: &str| with(json!({ "eks.amazonaws.com/role-arn": ROLE, key: value }));
    let found = with_role("eks.amazonaws.com/audience", "vault");
    assert_eq!(found[0], format!("warning token-audience: {at}: the audience is `vault`"));
    assert!(
        found[1].starts_with("error dry-run-without-role") || found[0].starts_with("warning"),
        "{found:?}"
    );
    let expires = |text: &str| with_role("eks.amazonaws.com/token-expiration", text).join("\n");
    let warning = format!("warning token-expiration: {at}: ");
    assert_eq!((expires("600"), expires("86400")), (String::new(), String::new()));
    assert_eq!((expires("599"), expires("86401")), (format!("{warning}599 s"), format!("{warning}86401 s")));
    assert_eq!(
        expires("1h"),
        format!("{warning}`1h` is no number of seconds: the webhook's default (86400 s) holds")
    );
    let pods_own = after(|facts| {
        change_pod(facts, |pod| {
            pod["metadata"]["annotations"]["eks.amazonaws.com/token-expiration"] = "5".into()
        })
    });
    assert_eq!(pods_own, ["warning token-expiration: rule etl (line 2): 5 s"]);
    let default = info(Code::DefaultAccount, |facts| {
        change_pod(facts, |pod| pod["spec"]["serviceAccountName"] = "default".into());
    });
    assert_eq!(
        default.unwrap(),
        "service account data/default: rule etl (line 2) gives its pods a role by it"
    );
}

#[test]
fn an_arn_is_one_and_of_this_partition() {
    let with = |role: &str| {
        let role = role.to_owned();
        let found = after(move |facts| facts.rules[0].gives.role_arn = Some(role));
        found.into_iter().filter(|line| line.contains("role-arn-malformed")).collect::<String>()
    };
    let said = |role: &str, why: &str| {
        format!("error role-arn-malformed: rule etl (line 2): it demands `{role}`: {why}")
    };
    assert_eq!(with("etl-role"), said("etl-role", "it is no arn:PARTITION:iam::ACCOUNT:role/NAME"));
    assert_eq!(
        with("arn:aws:iam::1:role/a"),
        said("arn:aws:iam::1:role/a", "`1` is no account of 12 digits")
    );
    assert_eq!(
        with("arn:aws:iam::111122223333:user/a"),
        said("arn:aws:iam::111122223333:user/a", "`user/a` is no role")
    );
    let china = "arn:aws-cn:iam::111122223333:role/etl";
    assert_eq!(with(china), said(china, "its partition is `aws-cn`, and this cluster's nodes are in `aws`"));
    assert_eq!(with("arn:aws:iam::111122223333:role/team/etl"), "");
}

#[test]
fn the_template_must_not_stand_in_the_way() {
    let with = |change: &dyn Fn(&mut Value)| after(|facts| change_pod(facts, change));
    let at = "rule etl (line 2)";
    assert_eq!(
        with(&|pod| pod["spec"]["hostNetwork"] = true.into()),
        [format!("error template-host-network: {at}: its pod has hostNetwork: true")]
    );
    assert_eq!(
        with(&|pod| pod["spec"]["terminationGracePeriodSeconds"] = 0.into()),
        [format!("error template-grace-period: {at}: its pod has terminationGracePeriodSeconds: 0")]
    );
    assert_eq!(
        with(&|pod| pod["metadata"]["labels"]["eks.amazonaws.com/skip-pod-identity-webhook"] = "".into()),
        [format!(
            "error skip-label: {at}: its pod has the label eks.amazonaws.com/skip-pod-identity-webhook"
        )]
    );
    assert_eq!(
        with(&|pod| pod["spec"]["containers"][0]["env"] =
            json!([{ "name": "AWS_PROFILE", "value": "x" }, { "name": "AWS_REGION" }])),
        [format!("warning template-aws-env: {at}: container `base` sets AWS_PROFILE")]
    );
    let path = "/var/run/secrets/eks.amazonaws.com/serviceaccount/";
    let found = with(&|pod| {
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": path }])
    });
    assert!(found[0].contains("the API server refuses two mounts of one path"), "{found:?}");
    let found = after(|facts| facts.rules[0].pod = Err("TemplateInvalid: no image".into()));
    assert_eq!(
        found[0],
        format!("error template-invalid: {at}: its pod cannot be made: TemplateInvalid: no image")
    );
}

#[test]
fn the_dry_run_is_judged_by_what_admission_made() {
    let with = |change: &dyn Fn(&mut Value)| after(|facts| change_admitted(facts, change));
    let at = "rule etl (line 2)";
    let found = with(&|pod| pod["spec"]["containers"][0]["env"] = json!([]));
    assert!(
        found[0].starts_with(&format!(
            "error dry-run-without-role: {at}: the pod was admitted without credentials"
        )),
        "{found:?}"
    );
    assert_eq!(
        with(&|pod| pod["spec"]["containers"][0]["resources"] = json!({})),
        [format!(
            "error dry-run-without-groups: {at}: no container of the admitted pod asks for vpc.amazonaws.com/pod-eni: it would run with its node's security groups"
        )]
    );
    let found = with(&|pod| pod["spec"]["containers"][0]["resources"]["requests"] = json!({}));
    assert_eq!(
        found,
        [format!(
            "error dry-run-without-groups: {at}: its first container has vpc.amazonaws.com/pod-eni 1 as limit and nothing as request, not 1"
        )]
    );
    let found = with(&|pod| {
        let sidecar = json!({ "name": "mesh", "env": pod["spec"]["containers"][0]["env"], "volumeMounts": pod["spec"]["containers"][0]["volumeMounts"] });
        pod["spec"]["containers"].as_array_mut().unwrap().insert(0, sidecar);
    });
    assert_eq!(
        found,
        [format!(
            "error container-order: {at}: container `base` asks for the branch interface, and `mesh` stands in front of it"
        )]
    );
    let refused = |said: &'static str| {
        let mut facts = healthy();
        facts.rules[0].dry_run = DryRun::Refused(said.into());
        examine_eks(&facts).into_iter().find(|finding| finding.code == Code::DryRunRefused).unwrap()
    };
    assert_eq!(refused("no").what, "the API server refuses its pod: no");
    let sgp = "admission webhook \"mpod.vpc.k8s.aws\" denied the request: Failed to get Matching SGP for Pods, rejecting event, error x";
    assert!(
        refused(sgp)
            .remedy
            .starts_with("the controller of security groups does not know the service account")
    );
    let associated = |facts: &mut EksFacts| {
        facts.cluster.accounts.insert(of("data", "etl"), account(&json!({})));
        change_admitted(facts, |pod| {
            pod["metadata"]["labels"]["eks.amazonaws.com/pod-identity"] = "enabled".into();
            let folder = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
            pod["spec"]["containers"][0]["env"] = json!([
                { "name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials" },
                { "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": format!("{folder}/eks-pod-identity-token") },
            ]);
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{ "name": "eks-pod-identity-token", "mountPath": folder, "readOnly": true }]);
            let token = json!({ "audience": "pods.eks.amazonaws.com", "expirationSeconds": 80000, "path": "eks-pod-identity-token" });
            pod["spec"]["volumes"] = json!([{ "name": "eks-pod-identity-token", "projected": { "sources": [{ "serviceAccountToken": token }] } }]);
        });
    };
    assert_eq!(after(associated), Vec::<String>::new(), "no annotation is missed");
    let told = info(Code::PodIdentity, associated);
    assert_eq!(
        told.unwrap(),
        format!("{at}: it demands {ROLE}, and its pod gets the credentials of an association")
    );
}

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

#[test]
fn the_guard_stands_on_what_is_around_it() {
    let deployed = |token_in: &str, connection: Value| {
        let token = json!({ "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } });
        let own = json!({ "secretKeyRef": { "name": "windlass-database", "key": "connection" } });
        let container = |name: &str, from: &Value| {
            let mounts = if name == "windlass" || name == token_in {
                json!([{ "name": "t", "mountPath": "/x" }])
            } else {
                json!([])
            };
            json!({ "name": name, "volumeMounts": mounts, "env": [{ "name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "valueFrom": from }] })
        };
        PodSeen::read(&json!({
            "metadata": { "namespace": "airflow", "name": "scheduler" },
            "spec": { "volumes": [token], "containers": [container("scheduler", &connection), container("windlass", &own)] },
        }))
    };
    let airflow = json!({ "secretKeyRef": { "name": "airflow-metadata", "key": "connection" } });
    let with = |pod: PodSeen| after(move |facts| facts.cluster.pods = Some(vec![pod]));
    assert_eq!(with(deployed("", airflow.clone())), Vec::<String>::new());
    assert_eq!(
        with(deployed(
            "scheduler",
            json!({ "secretKeyRef": { "name": "windlass-database", "key": "connection" } })
        )),
        [
            "warning daemon-token-shared: pod airflow/scheduler: a token for the API server is mounted in: scheduler",
            "warning database-role-shared: pod airflow/scheduler: the same connection string as the daemon's is in: scheduler",
        ]
    );
    assert_eq!(
        after(|facts| facts.standalone_dag_processor = false),
        ["warning dag-code-in-scheduler: scheduler: [scheduler] standalone_dag_processor is not True"]
    );
    assert_eq!(
        after(|facts| {
            facts.cluster.access.insert(of("data", "etl"), Access::CreatesPods);
        }),
        ["warning worker-creates-pods: service account data/etl: it may create pods in namespace data"]
    );
    let found = after(|facts| {
        facts.cluster.admission_bindings.as_mut().unwrap()[0]["spec"]["validationActions"] =
            json!(["Warn", "Audit"])
    });
    assert_eq!(
        found,
        [
            "warning admission-policy-missing: ValidatingAdmissionPolicy windlass-identity-*: windlass-identity-airflow has no binding with the action Deny: whoever has the daemon's token can make pods of any identity"
        ]
    );
    let found = after(|facts| facts.cluster.admission_policies = Some(Vec::new()));
    assert_eq!(found.len(), 2, "{found:?}");
    // Without rules there is no guard.
    let found = after(|facts| {
        facts.rules[0].gives.rule = None;
        facts.standalone_dag_processor = false;
        facts.cluster.admission_policies = Some(Vec::new());
    });
    assert_eq!(found, Vec::<String>::new());
}
