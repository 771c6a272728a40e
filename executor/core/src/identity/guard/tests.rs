use serde_json::json;

use super::*;
use crate::identity::Identity;
use crate::identity::rules::Place;

fn template() -> Value {
    json!({
        "metadata": {"namespace": "airflow", "labels": {"dag_id": "d", "team": "fin"}},
        "spec": {
            "serviceAccountName": "fin-worker",
            "containers": [
                {"name": "base", "image": "i", "env": [{"name": "AWS_REGION", "value": "eu-west-1"}]},
                {"name": "logs", "image": "l", "volumeMounts": [{"name": "node", "mountPath": "/node"}]},
                {"name": "plain", "image": "p"}
            ],
            "volumes": [{"name": "node", "hostPath": {"path": "/var/log"}}]
        }
    })
}

/// What the guard says of the template with `change` merged in at `pointer`.
fn said(pointer: &str, change: Value) -> Vec<String> {
    said_with(pointer, change, &Freedoms::new())
}

fn said_with(pointer: &str, change: Value, allowed: &Freedoms) -> Vec<String> {
    let measure = Measure::of(&template());
    let mut pod = template();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let slot = pod.pointer_mut(parent).unwrap();
    match slot {
        Value::Array(items) if last == "-" => items.push(change),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = change,
        other => other[last] = change,
    }
    violations(&measure, &pod, allowed).iter().map(Violation::to_string).collect()
}

#[test]
fn the_template_itself_may_do_as_it_likes() {
    let measure = Measure::of(&template());
    assert_eq!(violations(&measure, &template(), &Freedoms::new()), []);
}

/// Where something is changed, to what, and what the guard says.
type Case = (String, Value, &'static str);

fn at(field: &str) -> String {
    format!("/spec/containers/0/{field}")
}

fn each_is_said(cases: Vec<Case>) {
    for (pointer, change, want) in cases {
        let said = said(&pointer, change.clone());
        assert!(said.iter().any(|text| text == want), "{pointer} = {change}: {said:?}");
    }
}

#[test]
fn each_way_of_the_pods_own_is_seen() {
    each_is_said(vec![
        (
            "/spec/serviceAccountName".into(),
            json!("admin"),
            "spec.serviceAccountName is `admin` where `fin-worker` belongs",
        ),
        (
            "/metadata/namespace".into(),
            json!("other"),
            "metadata.namespace is `other` where `airflow` belongs",
        ),
        (
            "/spec/automountServiceAccountToken".into(),
            json!(true),
            "spec.automountServiceAccountToken is `true`",
        ),
        ("/spec/hostNetwork".into(), json!(true), "spec.hostNetwork is `true`"),
        ("/spec/hostPID".into(), json!(true), "spec.hostPID is `true`"),
        ("/spec/hostIPC".into(), json!(true), "spec.hostIPC is `true`"),
        ("/spec/shareProcessNamespace".into(), json!(true), "spec.shareProcessNamespace is `true`"),
        ("/spec/nodeName".into(), json!("n1"), "spec.nodeName is `n1`"),
        ("/spec/runtimeClassName".into(), json!("r"), "spec.runtimeClassName is `r`"),
        ("/spec/imagePullSecrets".into(), json!([{"name": "s"}]), "spec.imagePullSecrets is `s`"),
        (
            "/spec/securityContext".into(),
            json!({"windowsOptions": {"hostProcess": true}}),
            "spec.securityContext.windowsOptions.hostProcess is `true`",
        ),
        (
            "/spec/securityContext".into(),
            json!({"sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}]}),
            "spec.securityContext.sysctls[net.ipv4.ip_forward] is `1`",
        ),
        (
            "/metadata/annotations".into(),
            json!({"eks.amazonaws.com/skip-containers": "base"}),
            "metadata.annotations[eks.amazonaws.com/skip-containers] is `base`",
        ),
        (
            "/metadata/labels".into(),
            json!({"eks.amazonaws.com/fargate-profile": "p"}),
            "metadata.labels[eks.amazonaws.com/fargate-profile] is `p`",
        ),
        // A container of the template's that sees the node,
    ]);
}

#[test]
fn each_way_by_volumes_is_seen() {
    each_is_said(vec![
        (
            "/spec/volumes/-".into(),
            json!({"name": "h", "hostPath": {"path": "/"}}),
            "spec.volumes[h].hostPath is `/`",
        ),
        (
            "/spec/volumes/0".into(),
            json!({"name": "node", "hostPath": {"path": "/"}}),
            "spec.volumes[node].hostPath is `/`",
        ),
        (
            "/spec/volumes/-".into(),
            json!({"name": "f", "flexVolume": {"driver": "x/y"}}),
            "spec.volumes[f].flexVolume is `x/y`",
        ),
        (
            "/spec/volumes/-".into(),
            json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}]}}),
            "spec.volumes[t].projected.serviceAccountToken is `vault`",
        ),
        (
            at("volumeMounts"),
            json!([{"name": "node", "mountPath": "/host"}]),
            "spec.containers[base].volumeMounts[node] is `/host `",
        ),
        (
            at("volumeMounts"),
            json!([{"name": "x", "mountPath": "/run/secrets/eks.amazonaws.com/serviceaccount"}]),
            "spec.containers[base].volumeMounts[x] is `/run/secrets/eks.amazonaws.com/serviceaccount`",
        ),
        (
            at("volumeMounts"),
            json!([{"name": "x", "mountPath": "/tmp/../run/secrets/eks.amazonaws.com"}]),
            "spec.containers[base].volumeMounts[x] is `/tmp/../run/secrets/eks.amazonaws.com`",
        ),
        // A container of the template's that sees the node, with another program in it.
        (
            "/spec/containers/1".into(),
            json!({"name": "logs", "image": "mine", "volumeMounts": [{"name": "node", "mountPath": "/node"}]}),
            "spec.containers[logs] is set or changed",
        ),
    ]);
}

#[test]
fn each_way_by_containers_is_seen() {
    each_is_said(vec![
        (
            at("securityContext"),
            json!({"privileged": true}),
            "spec.containers[base].securityContext.privileged is `true`",
        ),
        (
            at("securityContext"),
            json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
            "spec.containers[base].securityContext.capabilities.add is `SYS_ADMIN`",
        ),
        (
            at("securityContext"),
            json!({"procMount": "Unmasked"}),
            "spec.containers[base].securityContext.procMount is `Unmasked`",
        ),
        (
            at("securityContext"),
            json!({"seccompProfile": {"type": "Unconfined"}}),
            "spec.containers[base].securityContext.seccompProfile.type is `Unconfined`",
        ),
        (
            at("securityContext"),
            json!({"seLinuxOptions": {"type": "spc_t"}}),
            "spec.containers[base].securityContext.seLinuxOptions.type is `spc_t`",
        ),
        (
            at("ports"),
            json!([{"containerPort": 80, "hostPort": 80}]),
            "spec.containers[base].ports.hostPort is `80`",
        ),
        (
            at("env"),
            json!([{"name": "AWS_ACCESS_KEY_ID", "value": "AKIA"}]),
            "spec.containers[base].env[AWS_ACCESS_KEY_ID] is set or changed",
        ),
        (
            "/spec/initContainers".into(),
            json!([{"name": "i", "securityContext": {"privileged": true}}]),
            "spec.initContainers[i].securityContext.privileged is `true`",
        ),
    ]);
}

#[test]
fn what_gives_no_other_identity_is_free() {
    for (pointer, change) in [
        ("/spec/containers/0/image", json!("other")),
        (
            "/spec/containers/0/env",
            json!([{"name": "AWS_REGION", "value": "us-east-1"}, {"name": "X", "value": "1"}]),
        ),
        ("/spec/containers/2/image", json!("other")),
        ("/spec/volumes/-", json!({"name": "e", "emptyDir": {}})),
        ("/spec/tolerations", json!([{"operator": "Exists"}])),
        ("/spec/securityContext", json!({"runAsUser": 50000, "seccompProfile": {"type": "RuntimeDefault"}})),
        ("/metadata/labels/dag_id", json!("e")),
    ] {
        assert_eq!(said(pointer, change.clone()), Vec::<String>::new(), "{pointer} = {change}");
    }
}

#[test]
fn what_a_rule_allows_is_free() {
    let allowed = Freedoms::from([Freedom::Host]);
    assert_eq!(said_with("/spec/hostNetwork", json!(true), &allowed), Vec::<String>::new());
    assert_eq!(said_with("/spec/serviceAccountName", json!("x"), &allowed).len(), 1);
}

#[test]
fn the_old_field_of_the_service_account_counts_too() {
    let mut pod = template();
    pod["spec"]["serviceAccountName"] = Value::Null;
    pod["spec"]["serviceAccount"] = json!("admin");
    let said = violations(&Measure::of(&template()), &pod, &Freedoms::new());
    assert_eq!(said[0].to_string(), "spec.serviceAccountName is `admin` where `fin-worker` belongs");
}

#[test]
fn a_rules_labels_and_node_selector_must_arrive() {
    let text = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into_iter().collect();
    let rule = Rule {
        name: "fin".into(),
        place: Place { line: 7, column: 1 },
        when: Vec::new(),
        gives: Identity {
            labels: text("team", "fin"),
            node_selector: text("pool", "fin"),
            ..Identity::default()
        },
        may_override: Freedoms::new(),
    };
    let mut pod = template();
    pod["metadata"]["labels"]["team"] = json!("ops");
    let lost = lost(&rule, &pod);
    assert_eq!(
        sentence(&rule, "executor_config", &lost),
        "identity rule `fin` (line 7) does not let executor_config change this: metadata.labels[team] is `ops` where `fin` \
         belongs; spec.nodeSelector[pool] is not `fin` any more; take it out, or have the platform add \"labels\", \
         \"node-selector\" to the rule's may-override"
    );
}

proptest::proptest! {
    #[test]
    fn no_pod_makes_it_panic(text in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
        if let Ok(pod) = serde_json::from_str::<Value>(&text) {
            violations(&Measure::of(&template()), &pod, &Freedoms::new());
            violations(&Measure::of(&pod), &template(), &Freedoms::new());
        }
    }
}
