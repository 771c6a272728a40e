//! Pods that the rules do not make, and what the policy says of each.

use serde_json::{Value, json};

/// The DAG of the pod, the changes, and what is said of them.
pub(crate) type Case<'a> = (&'a str, Vec<(&'a str, Value)>, &'a str);

pub(crate) fn all() -> Vec<Case<'static>> {
    let of = [
        metadata(),
        of_the_gate_and_nodes(),
        of_the_host(),
        of_privileges(),
        of_trusted_containers(),
        of_tokens(),
        of_keys(),
    ];
    of.concat()
}

fn metadata() -> Vec<Case<'static>> {
    vec![
        (
            "etl",
            vec![("/spec/serviceAccountName", json!("admin"))],
            "spec.serviceAccountName is `admin` where `etl` belongs",
        ),
        (
            "other",
            vec![("/spec/serviceAccountName", json!("etl"))],
            "spec.serviceAccountName is `etl` where `workers` belongs",
        ),
        (
            "etl",
            vec![("/metadata/namespace", json!("finance"))],
            "metadata.namespace is `finance` where `tasks` belongs",
        ),
        (
            "etl",
            vec![("/metadata/labels/team", json!("ops"))],
            "metadata.labels[team] is `ops` where `etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/labels/team", Value::Null)],
            "metadata.labels[team] is `` where `etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/annotations/owner.example.org~1team", json!("ops"))],
            "metadata.annotations[owner.example.org/team] is `ops` where `etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/labels/eks.amazonaws.com~1skip-pod-identity-webhook", json!("true"))],
            "metadata.labels[eks.amazonaws.com/skip-pod-identity-webhook] is `true`",
        ),
        (
            "etl",
            vec![("/metadata/annotations/eks.amazonaws.com~1skip-containers", json!("base"))],
            "metadata.annotations[eks.amazonaws.com/skip-containers] is `base`",
        ),
        (
            "other",
            vec![("/metadata/annotations/k8s.v1.cni.cncf.io~1networks", json!("host"))],
            "metadata.annotations[k8s.v1.cni.cncf.io/networks] is `host`",
        ),
    ]
}

fn of_the_gate_and_nodes() -> Vec<Case<'static>> {
    vec![
        (
            "etl",
            vec![("/metadata/annotations/windlass.dev~1role-arn", Value::Null)],
            "metadata.annotations[windlass.dev/role-arn] is `` where `arn:aws:iam::111122223333:role/etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/annotations/windlass.dev~1security-groups", json!("sg-1"))],
            "metadata.annotations[windlass.dev/security-groups] is `sg-1` where `sg-0123456789abcdef0` belongs",
        ),
        (
            "etl",
            vec![("/spec/schedulingGates", Value::Null)],
            "spec.schedulingGates is without `windlass.dev/identity`",
        ),
        (
            "etl",
            vec![("/spec/nodeSelector", Value::Null)],
            "spec.nodeSelector[pool] is `` where `etl` belongs",
        ),
        (
            "other",
            vec![("/spec/imagePullSecrets/-", json!({"name": "theirs"}))],
            "spec.imagePullSecrets is `theirs`",
        ),
    ]
}

fn of_the_host() -> Vec<Case<'static>> {
    let base =
        |field: &str| -> &'static str { Box::leak(format!("/spec/containers/0/{field}").into_boxed_str()) };
    vec![
        ("other", vec![("/spec/hostNetwork", json!(true))], "spec.hostNetwork is `true`"),
        ("other", vec![("/spec/hostPID", json!(true))], "spec.hostPID is `true`"),
        ("other", vec![("/spec/hostIPC", json!(true))], "spec.hostIPC is `true`"),
        ("etl", vec![("/spec/shareProcessNamespace", json!(true))], "spec.shareProcessNamespace is `true`"),
        ("other", vec![("/spec/nodeName", json!("n1"))], "spec.nodeName is `n1`"),
        ("etl", vec![("/spec/runtimeClassName", json!("kata"))], "spec.runtimeClassName is `kata`"),
        (
            "etl",
            vec![("/spec/volumes/-", json!({"name": "h", "hostPath": {"path": "/"}}))],
            "spec.volumes[h].hostPath is `/`",
        ),
        (
            "etl",
            vec![("/spec/volumes/0", json!({"name": "node", "hostPath": {"path": "/"}}))],
            "spec.volumes[node].hostPath is `/`",
        ),
        (
            "etl",
            vec![("/spec/volumes/-", json!({"name": "f", "flexVolume": {"driver": "x/y"}}))],
            "spec.volumes[f].flexVolume is `x/y`",
        ),
        (
            "etl",
            vec![(base("volumeMounts"), json!([{"name": "node", "mountPath": "/host"}]))],
            "spec.containers[base].volumeMounts[node] is `/host `",
        ),
        (
            "etl",
            vec![("/spec/containers/1/volumeMounts/0/subPath", Value::Null)],
            "spec.containers[logs].volumeMounts[node] is `/node `",
        ),
        (
            "other",
            vec![(base("ports"), json!([{"containerPort": 80, "hostPort": 80}]))],
            "spec.containers[base].ports.hostPort is `80`",
        ),
    ]
}

fn of_privileges() -> Vec<Case<'static>> {
    const CONTEXT: &str = "/spec/containers/0/securityContext";
    const INIT: &str = "/spec/initContainers/-";
    let container = |context: Value| vec![(CONTEXT, context)];
    vec![
        (
            "etl",
            container(json!({"privileged": true})),
            "spec.containers[base].securityContext.privileged is `true`",
        ),
        (
            "etl",
            container(json!({"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}})),
            "spec.containers[base].securityContext.capabilities.add is `CHOWN`; \
             spec.containers[base].securityContext.capabilities.add is `SYS_ADMIN`",
        ),
        (
            "other",
            vec![("/spec/hostUsers", json!(false)), (CONTEXT, json!({"procMount": "Unmasked"}))],
            "spec.containers[base].securityContext.procMount is `Unmasked`",
        ),
        (
            "etl",
            container(json!({"seccompProfile": {"type": "Unconfined"}})),
            "spec.containers[base].securityContext.seccompProfile.type is `Unconfined`",
        ),
        (
            "etl",
            container(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "spec.containers[base].securityContext.appArmorProfile.type is `Unconfined`",
        ),
        (
            "etl",
            container(json!({"seLinuxOptions": {"type": "spc_t"}})),
            "spec.containers[base].securityContext.seLinuxOptions.type is `spc_t`",
        ),
        (
            "etl",
            vec![("/spec/securityContext/seLinuxOptions/level", json!("s0:c1"))],
            "spec.securityContext.seLinuxOptions.level is `s0:c1`",
        ),
        (
            "etl",
            vec![("/spec/securityContext/sysctls/-", json!({"name": "kernel.sem", "value": "1"}))],
            "spec.securityContext.sysctls[kernel.sem] is `1`",
        ),
        (
            "etl",
            vec![(INIT, json!({"name": "i", "image": "i", "securityContext": {"privileged": true}}))],
            "spec.initContainers[i].securityContext.privileged is `true`",
        ),
    ]
}

/// Another program in a container that may more than the worker.
fn of_trusted_containers() -> Vec<Case<'static>> {
    vec![
        ("etl", vec![("/spec/containers/1/image", json!("mine"))], "spec.containers[logs] is set or changed"),
        (
            "etl",
            vec![("/spec/containers/1/command/-", json!("-x"))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/containers/1/env/-", json!({"name": "LD_PRELOAD"}))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/containers/1/livenessProbe/exec/command/0", json!("mine"))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/containers/1/lifecycle", json!({"postStart": {"exec": {"command": ["mine"]}}}))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/initContainers/0/args/0", json!("mine"))],
            "spec.initContainers[mesh] is set or changed",
        ),
    ]
}

fn of_tokens() -> Vec<Case<'static>> {
    const VOLUME: &str = "/spec/volumes/-";
    const MOUNTS: &str = "/spec/containers/0/volumeMounts";
    let token = |name: &str, audience: &str| json!({"name": name, "projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": "t"}}]}});
    let scratch = (VOLUME, json!({"name": "x", "emptyDir": {}}));
    let mount = |path: &str| vec![scratch.clone(), (MOUNTS, json!([{"name": "x", "mountPath": path}]))];
    vec![
        (
            "etl",
            vec![("/spec/automountServiceAccountToken", json!(true))],
            "spec.automountServiceAccountToken is `true` where `false` belongs",
        ),
        (
            "etl",
            vec![(VOLUME, token("t", "bank"))],
            "spec.volumes[t].projected.serviceAccountToken is `bank`",
        ),
        // Under the names that webhooks use, with other audiences.
        (
            "other",
            vec![(VOLUME, token("eks-pod-identity-token", "bank"))],
            "spec.volumes[eks-pod-identity-token].projected.serviceAccountToken is `bank`",
        ),
        (
            "other",
            vec![(VOLUME, token("kube-api-access-mine", ""))],
            "spec.volumes[kube-api-access-mine].projected.serviceAccountToken is ``",
        ),
        (
            "other",
            vec![(MOUNTS, json!([{"name": "vault", "mountPath": "/v"}]))],
            "spec.containers[base].volumeMounts[vault] is `/v `",
        ),
        (
            "other",
            mount("/var/run/secrets/eks.amazonaws.com/serviceaccount"),
            "spec.containers[base].volumeMounts[x] is `/var/run/secrets/eks.amazonaws.com/serviceaccount`",
        ),
        (
            "other",
            mount("//run/./secrets/kubernetes.io/serviceaccount/deep"),
            "spec.containers[base].volumeMounts[x] is `//run/./secrets/kubernetes.io/serviceaccount/deep`",
        ),
        ("other", mount("/a/../run"), "spec.containers[base].volumeMounts[x] is `/a/../run`"),
    ]
}

fn of_keys() -> Vec<Case<'static>> {
    const ENV: &str = "/spec/containers/0/env/-";
    vec![
        (
            "etl",
            vec![(ENV, json!({"name": "AWS_SECRET_ACCESS_KEY", "value": "hidden"}))],
            "spec.containers[base].env[AWS_SECRET_ACCESS_KEY] is set",
        ),
        (
            "etl",
            vec![("/spec/containers/0/env/-", json!({"name": "AWS_CONFIG_FILE", "value": "/tmp/mine"}))],
            "spec.containers[base].env[AWS_CONFIG_FILE] is set",
        ),
        (
            "etl",
            vec![(ENV, json!({"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/admin"}))],
            "spec.containers[base].env[AWS_ROLE_ARN] is set",
        ),
        (
            "etl",
            vec![(
                ENV,
                json!({"name": "AWS_ROLE_ARN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            )],
            "spec.containers[base].env[AWS_ROLE_ARN] is set",
        ),
        (
            "other",
            vec![(
                ENV,
                json!({"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.169.254/"}),
            )],
            "spec.containers[base].env[AWS_CONTAINER_CREDENTIALS_FULL_URI] is set",
        ),
    ]
}
