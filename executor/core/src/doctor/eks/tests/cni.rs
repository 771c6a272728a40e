//! `aws-node`: its version, and what its settings lead to.

use super::*;

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
