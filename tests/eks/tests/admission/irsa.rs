//! The pod identity webhook, and what core's check says of the pods that it made.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use windlass_core::identity::irsa::{Credentials, DEFAULT_AUDIENCE, Fault, Wrong, check};
use windlass_eks::irsa::{Flags, Webhook};
use windlass_eks::review::Reply;

use crate::goldens::{self, Case, request};

/// What is compared of a pod.
fn compared(pod: &Value) -> Value {
    let pick = |object: &Value, fields: &[&str]| {
        let mut picked = json!({});
        for field in fields.iter().filter(|field| !object[**field].is_null()) {
            picked[*field] = object[*field].clone();
        }
        picked
    };
    let mut compared = pick(&pod["spec"], &["containers", "initContainers", "volumes"]);
    for list in ["containers", "initContainers"] {
        for container in compared.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            *container = pick(container, &["name", "env", "volumeMounts"]);
        }
    }
    if !pod["metadata"]["labels"].is_null() {
        compared["labels"] = pod["metadata"]["labels"].clone();
    }
    compared
}

/// Compares an answer with what was recorded; the pod as the API server would have it.
fn compare(id: &str, reply: &Reply, pod: &Value, expected: &Value) -> Value {
    assert_eq!(json!(reply.status), expected["status"], "{id}");
    if !expected["body"].is_null() {
        assert_eq!(json!(reply.body.trim_end()), expected["body"], "{id}");
        return pod.clone();
    }
    let review: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(review["apiVersion"].as_str().unwrap_or_default(), expected["apiVersion"], "{id}");
    let response = &review["response"];
    assert_eq!(response["uid"], expected["uid"], "{id}");
    assert_eq!(response["allowed"], expected["allowed"], "{id}");
    assert_eq!(response["status"]["message"], expected["message"], "{id}");
    let Some(patch) = response["patch"].as_str() else {
        assert_eq!(json!(false), expected["patched"], "{id}");
        return pod.clone();
    };
    assert_eq!(json!(true), expected["patched"], "{id}");
    assert_eq!(response["patchType"], "JSONPatch", "{id}");
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut after = pod.clone();
    json_patch::patch(&mut after, &patch).unwrap();
    let mut made = compared(&after);
    if let Some(range) = expected["expirationRange"].as_array() {
        let seconds =
            &mut made["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"];
        assert!(*seconds == range[0] || *seconds == range[1], "{id}: {seconds}");
        *seconds = expected["pod"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
            ["expirationSeconds"]
            .clone();
    }
    assert_eq!(made, expected["pod"], "{id}");
    after
}

fn body(case: &Case, pod: &Value) -> Vec<u8> {
    if let Some(raw) = case.input["rawBody"].as_str() {
        return raw.as_bytes().to_vec();
    }
    let version = case.input["reviewVersion"].as_str().unwrap_or("v1");
    let api_version = format!("admission.k8s.io/{version}");
    let review = json!({ "kind": "AdmissionReview", "apiVersion": api_version, "request": request(pod) });
    review.to_string().into_bytes()
}

#[test]
fn answers_as_the_real_webhook() {
    for case in goldens::irsa() {
        for jitter in [Duration::ZERO, Webhook::JITTER_MAX] {
            let webhook = Webhook { jitter, ..case.webhook() };
            let content_type = case.input["contentType"].as_str().unwrap_or("application/json");
            let handle = |pod: &Value| webhook.handle(content_type, &body(&case, pod));
            let pod = &case.input["pod"];
            let after = compare(&case.id, &handle(pod), pod, &case.expected);
            if let Some(again) = case.expected.get("again") {
                let twice = compare(&case.id, &handle(&after), &after, again);
                assert_eq!(twice, after, "{}: the second call changes nothing", case.id);
            }
        }
    }
}

/// The kind of a fault, and of what is wrong.
fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::NoContainer => "no container",
        Fault::NotInjected { .. } => "silent",
        Fault::Wrong { what, .. } => match what {
            Wrong::Skipped => "skipped",
            Wrong::Role { .. } => "role",
            Wrong::Shadowed { .. } => "shadowed",
            Wrong::NoToken { .. } => "no token",
            Wrong::Uri { .. } => "uri",
            _ => "other",
        },
    }
}

/// Recordings whose pod does not get the identity of its account, and why. Those with nothing at all are told by
/// `patched`.
const FAULTS: [(&str, &str); 8] = [
    ("irsa-045", "skipped"),
    ("irsa-051", "role"),
    ("irsa-057", "role"),
    ("irsa-058", "role"),
    ("irsa-061", "shadowed"),
    ("irsa-063", "no token"),
    ("irsa-100", "uri"),
    ("irsa-114", "skipped"),
];

#[test]
fn core_judges_what_the_webhook_made() {
    let mut faults = Vec::new();
    for case in goldens::irsa().iter().filter(|case| case.input.get("rawBody").is_none()) {
        let admission = case.webhook().admit(&request(&case.input["pod"]));
        if !admission.allowed {
            continue;
        }
        let injected = admission.patch.is_some();
        let pod = admission.pod_after.unwrap_or_else(|| case.input["pod"].clone());
        let role = role_of(case);
        let audience = audience_of(case);
        let id = &case.id[1..9];
        match check(&pod, &role, &audience) {
            Ok(credentials) => {
                let pod_identity = case.input.get("identities").is_some();
                let expected = if pod_identity { Credentials::PodIdentity } else { Credentials::WebIdentity };
                assert!(injected, "{}", case.id);
                assert_eq!(credentials, expected, "{}", case.id);
                let other = check(&pod, "arn:aws:iam::111122223333:role/another", &audience);
                assert_eq!(other.is_ok(), pod_identity, "{}: another role", case.id);
                let other = check(&pod, &role, "another");
                assert_eq!(other.is_ok(), pod_identity, "{}: another audience", case.id);
            }
            Err(fault) => {
                assert_eq!(fault.is_silent(), !injected, "{}: {fault}", case.id);
                if injected {
                    faults.push((id.to_owned(), kind(&fault)));
                }
            }
        }
    }
    assert_eq!(faults, FAULTS.map(|(id, kind)| (id.to_owned(), kind)));
}

/// The role that an operator would expect: the annotation's, else the config map's.
fn role_of(case: &Case) -> String {
    let annotated = case.annotation("role-arn").filter(|role| !role.is_empty());
    match (annotated, &case.input["flags"]["compose"], &case.input["configMap"]) {
        (Some(role), Value::Object(compose), _) if !role.contains("arn:") => {
            let text = |field: &str| compose[field].as_str().unwrap().to_owned();
            format!("arn:{}:iam::{}:role/{role}", text("partition"), text("accountID"))
        }
        (Some(role), _, _) => role.to_owned(),
        (None, _, Value::String(map)) => mapped(case, map)["RoleARN"].as_str().unwrap().to_owned(),
        (None, _, _) => "arn:aws:iam::111122223333:role/airflow-worker".to_owned(),
    }
}

fn audience_of(case: &Case) -> String {
    match (case.annotation("role-arn"), &case.input["configMap"]) {
        (None, Value::String(map)) => mapped(case, map)["Audience"].as_str().unwrap().to_owned(),
        _ => case.annotation("audience").unwrap_or(DEFAULT_AUDIENCE).to_owned(),
    }
}

fn mapped(case: &Case, map: &str) -> Value {
    let map: Value = serde_json::from_str(map).unwrap();
    let account = case.input["pod"]["spec"]["serviceAccountName"].as_str().unwrap();
    let key = format!("airflow/{account}");
    map.get(&key).unwrap_or(&map[format!("*/{account}")]).clone()
}

/// A webhook that knows one account, with these annotations beside its role.
fn knows(annotations: &[(&str, &str)]) -> Webhook {
    let mut all = json!({ "eks.amazonaws.com/role-arn": "arn:r" });
    for (name, value) in annotations {
        all[format!("eks.amazonaws.com/{name}")] = json!(value);
    }
    let account = json!({ "metadata": { "namespace": "airflow", "name": "worker", "annotations": all } });
    Webhook { flags: Flags::on_eks("eu-west-1"), service_accounts: vec![account], ..Webhook::default() }
}

fn pod(container: Value) -> Value {
    json!({
        "metadata": { "name": "p", "namespace": "airflow" },
        "spec": { "serviceAccountName": "worker", "containers": [container] },
    })
}

fn admitted(webhook: &Webhook, pod: &Value) -> Value {
    webhook.admit(&request(pod)).pod_after.expect("a patch that fits")
}

#[test]
fn expirations_regions_and_audiences() {
    let bare = pod(json!({ "name": "base" }));
    let expiration = |text: &str, of_pod: Option<&str>| {
        let mut pod = bare.clone();
        if let Some(text) = of_pod {
            pod["metadata"]["annotations"] = json!({ "eks.amazonaws.com/token-expiration": text });
        }
        let pod = admitted(&knows(&[("token-expiration", text)]), &pod);
        pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"]
            .clone()
    };
    for (account, of_pod, expected) in [
        ("599", None, 600),
        ("-1", None, 600),
        ("+700", None, 700),
        ("700 ", None, 86_400),
        ("1e3", None, 86_400),
        ("9999999999999999999", None, 86_400),
        ("999999", None, 999_999),
        ("700", Some("800"), 800),
        ("700", Some(""), 700),
    ] {
        assert_eq!(expiration(account, of_pod), expected, "{account:?} {of_pod:?}");
    }
    let env = |text: &str| {
        let pod = admitted(&knows(&[("sts-regional-endpoints", text)]), &bare);
        pod["spec"]["containers"][0]["env"][0]["name"].clone()
    };
    for text in ["f", "F", "FALSE", "False"] {
        assert_eq!(env(text), "AWS_DEFAULT_REGION", "{text}");
    }
    for text in ["t", "T", "TRUE", "True", "fAlse", "", " 0"] {
        assert_eq!(env(text), "AWS_STS_REGIONAL_ENDPOINTS", "{text}");
    }
}

#[test]
fn containers_are_written_anew() {
    let container = json!({
        "name": "base", "image": "i", "args": [], "stdin": false, "tty": true, "unknownField": 1,
        "resources": { "limits": { "cpu": "1" } }, "securityContext": {},
        "env": [{ "name": "EMPTY", "value": "" }, { "name": "SET", "value": "x", "unknown": 1 }],
        "volumeMounts": [{ "name": "m", "mountPath": "/m", "readOnly": false, "subPath": "" }],
    });
    let pod = admitted(&knows(&[]), &pod(container));
    let mut made = pod["spec"]["containers"][0].clone();
    let env = made["env"].as_array_mut().unwrap();
    env.truncate(2);
    made["volumeMounts"].as_array_mut().unwrap().truncate(1);
    let expected = json!({
        "name": "base", "image": "i", "tty": true,
        "resources": { "limits": { "cpu": "1" } }, "securityContext": {},
        "env": [{ "name": "EMPTY" }, { "name": "SET", "value": "x" }],
        "volumeMounts": [{ "name": "m", "mountPath": "/m" }],
    });
    assert_eq!(made, expected);
}

#[test]
fn where_the_token_lies() {
    let mut webhook = knows(&[]);
    webhook.flags.mount_path = "/run//aws/../aws/".to_owned();
    let bare = pod(json!({ "name": "base" }));
    let pod = admitted(&webhook, &bare);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["env"][4]["value"], "/run/aws/token");
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/run//aws/../aws/");
    let mut windows = bare.clone();
    windows["spec"]["nodeSelector"] = json!({ "beta.kubernetes.io/os": "windows" });
    let windows = admitted(&knows(&[]), &windows);
    assert_eq!(check(&windows, "arn:r", DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
    let mut with_volumes = bare;
    with_volumes["spec"]["volumes"] = json!([]);
    assert_eq!(admitted(&knows(&[]), &with_volumes)["spec"]["volumes"].as_array().unwrap().len(), 1);
}

#[test]
fn an_account_that_the_cache_lacks() {
    let bare = pod(json!({ "name": "base" }));
    let mut webhook = knows(&[]);
    webhook.api_service_accounts = Some(std::mem::take(&mut webhook.service_accounts));
    assert_eq!(webhook.admit(&request(&bare)).patch, None);
    webhook.flags.grace_ms = 100;
    assert_eq!(check(&admitted(&webhook, &bare), "arn:r", DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
    // An account that the cache has, without a role, is not looked up.
    webhook.service_accounts = vec![json!({ "metadata": { "namespace": "airflow", "name": "worker" } })];
    assert_eq!(webhook.admit(&request(&bare)).patch, None);
}

#[test]
fn hand_set_variables_count_by_name_only() {
    let reference =
        json!({ "name": "AWS_ROLE_ARN", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    let made = admitted(&knows(&[]), &pod(json!({ "name": "base", "env": [reference] })));
    let names: Vec<&str> = made["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["AWS_ROLE_ARN", "AWS_STS_REGIONAL_ENDPOINTS", "AWS_DEFAULT_REGION", "AWS_REGION"]);
    let fault = check(&made, "arn:r", DEFAULT_AUDIENCE).unwrap_err();
    assert!(matches!(fault, Fault::Wrong { what: Wrong::ValueFrom { .. }, .. }), "{fault}");
}

#[test]
fn objects_that_are_no_pod() {
    let refused = |object: Value| {
        let admission = knows(&[]).admit(&json!({ "namespace": "airflow", "object": object }));
        assert!(!admission.allowed && admission.patch.is_none());
        admission.message.unwrap()
    };
    assert_eq!(refused(Value::Null), "unexpected end of JSON input");
    assert_eq!(refused(json!("x")), "json: cannot unmarshal string into Go value of type v1.Pod");
    assert_eq!(
        refused(json!({ "metadata": { "labels": { "a": 1 } } })),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    );
    let env = json!([{ "name": "A", "value": true }]);
    assert_eq!(
        refused(json!({ "spec": { "containers": [{ "name": "base", "env": env }] } })),
        "json: cannot unmarshal bool into Go struct field EnvVar.spec.containers.env.value of type string"
    );
    let nulls = json!({ "metadata": null, "spec": { "containers": null, "hostNetwork": null } });
    assert!(knows(&[]).admit(&json!({ "namespace": "airflow", "object": nulls })).allowed);
}
