use serde_json::{Value, json};

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/airflow-worker";
const FOLDER: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";

fn container(name: &str) -> Value {
    json!({
        "name": name,
        "env": [
            { "name": "AWS_ROLE_ARN", "value": ROLE },
            { "name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": format!("{FOLDER}/token") },
        ],
        "volumeMounts": [{ "name": "aws-iam-token", "mountPath": FOLDER, "readOnly": true }],
    })
}

fn pod_identity(name: &str) -> Value {
    json!({
        "name": name,
        "env": [
            { "name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": POD_IDENTITY_URI },
            { "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/pods/eks-pod-identity-token" },
        ],
        "volumeMounts": [{ "name": "eks-pod-identity-token", "mountPath": "/pods/" }],
    })
}

fn pod(containers: &[Value]) -> Value {
    let token = |path: &str, audience: &str| json!([{ "serviceAccountToken": { "path": path, "audience": audience, "expirationSeconds": 86400 } }]);
    json!({
        "metadata": { "name": "p", "labels": {}, "annotations": {} },
        "spec": { "containers": containers, "volumes": [
            { "name": "aws-iam-token", "projected": { "sources": token("token", DEFAULT_AUDIENCE) } },
            { "name": "eks-pod-identity-token",
              "projected": { "sources": token("eks-pod-identity-token", POD_IDENTITY_AUDIENCE) } },
        ] },
    })
}

fn with_env(mut container: Value, entry: Value) -> Value {
    container["env"].as_array_mut().unwrap().push(entry);
    container
}

fn wrong(pod: &Value) -> (String, Wrong) {
    let fault = check(pod, ROLE, DEFAULT_AUDIENCE).unwrap_err();
    assert!(!fault.is_silent(), "{fault}");
    match fault {
        Fault::Wrong { container, what, .. } => (container, what),
        other => panic!("{other}"),
    }
}

#[test]
fn both_kinds_of_credentials() {
    assert_eq!(check(&pod(&[container("base")]), ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
    assert_eq!(check(&pod(&[pod_identity("base")]), ROLE, DEFAULT_AUDIENCE), Ok(Credentials::PodIdentity));
    let mut with_init = pod(&[container("base"), container("sidecar")]);
    with_init["spec"]["initContainers"] = json!([container("init")]);
    assert_eq!(check(&with_init, ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
}

#[test]
fn nothing_anywhere_is_the_silent_webhook() {
    let bare = pod(&[json!({ "name": "sidecar" }), json!({ "name": "base", "env": [] })]);
    let fault = check(&bare, ROLE, DEFAULT_AUDIENCE).unwrap_err();
    assert!(fault.is_silent());
    assert_eq!(fault, Fault::NotInjected { container: "base".into(), role: ROLE.into() });
    assert!(fault.to_string().contains("it was down"));
    let mut labelled = bare;
    labelled["metadata"]["labels"] = json!({ LABEL_SKIP: "" });
    assert_eq!(wrong(&labelled), ("base".into(), Wrong::SkipLabel));
}

#[test]
fn an_object_without_containers() {
    for object in [json!({}), json!({ "kind": "Status" }), json!({ "spec": { "containers": [] } })] {
        assert_eq!(check(&object, ROLE, DEFAULT_AUDIENCE), Err(Fault::NoContainer));
    }
}

#[test]
fn a_container_that_was_left_out() {
    let added_later = pod(&[container("base"), json!({ "name": "proxy" })]);
    assert_eq!(wrong(&added_later), ("proxy".into(), Wrong::LeftOut));
    let mut named = added_later;
    named["metadata"]["annotations"] = json!({ ANNOTATION_SKIP: "proxy" });
    assert_eq!(check(&named, ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
}

#[test]
fn the_worker_is_never_skipped() {
    let mut skipped = pod(&[json!({ "name": "first" }), container("base")]);
    skipped["metadata"]["annotations"] = json!({ ANNOTATION_SKIP: "base,first" });
    assert_eq!(wrong(&skipped), ("base".into(), Wrong::Skipped));
    // Without a `base` the first is the worker.
    let mut first = pod(&[container("worker"), container("other")]);
    first["metadata"]["annotations"] = json!({ ANNOTATION_SKIP: "worker" });
    assert_eq!(wrong(&first), ("worker".into(), Wrong::Skipped));
}

#[test]
fn a_lasting_fault_goes_before_the_silent_one() {
    let mut bare = pod(&[json!({ "name": "base" })]);
    bare["spec"]["initContainers"] =
        json!([{ "name": "init", "env": [{ "name": "AWS_ACCESS_KEY_ID", "value": "x" }] }]);
    assert_eq!(wrong(&bare), ("init".into(), Wrong::Shadowed { name: "AWS_ACCESS_KEY_ID" }));
}

#[test]
fn the_role_is_a_plain_value_and_the_expected_one() {
    let entry = |value: Value| pod(&[with_env(container("base"), value)]);
    let other = entry(json!({ "name": "AWS_ROLE_ARN", "value": "arn:x" }));
    assert_eq!(wrong(&other).1, Wrong::Role { found: "arn:x".into() });
    let reference = json!({ "name": "AWS_ROLE_ARN", "valueFrom": { "configMapKeyRef": { "name": "c" } } });
    assert_eq!(wrong(&entry(reference)).1, Wrong::ValueFrom { name: "AWS_ROLE_ARN" });
    let alone = pod(&[json!({ "name": "base", "env": [{ "name": "AWS_ROLE_ARN", "value": ROLE }] })]);
    assert_eq!(wrong(&alone).1, Wrong::Half { name: "AWS_WEB_IDENTITY_TOKEN_FILE" });
}

#[test]
fn the_token_is_mounted_where_the_variable_says() {
    let mut elsewhere = pod(&[container("base")]);
    elsewhere["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] = json!("/elsewhere");
    let path = format!("{FOLDER}/token");
    assert_eq!(wrong(&elsewhere).1, Wrong::NoToken { name: "AWS_WEB_IDENTITY_TOKEN_FILE", path });
    let mut empty_dir = pod(&[container("base")]);
    empty_dir["spec"]["volumes"][0] = json!({ "name": "aws-iam-token", "emptyDir": {} });
    assert!(matches!(wrong(&empty_dir).1, Wrong::NoToken { .. }));
    // A folder whose name only begins alike is another one.
    let mut alike = pod(&[container("base")]);
    alike["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] =
        json!("/var/run/secrets/eks.amazonaws.com/service");
    assert!(matches!(wrong(&alike).1, Wrong::NoToken { .. }));
    let mut covered = pod(&[container("base")]);
    let mounts = covered["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap();
    mounts.push(json!({ "name": "mine", "mountPath": FOLDER }));
    assert!(matches!(wrong(&covered).1, Wrong::NoToken { .. }));
    let mut single_file = pod(&[container("base")]);
    single_file["spec"]["containers"][0]["volumeMounts"][0] =
        json!({ "name": "aws-iam-token", "mountPath": format!("{FOLDER}/token"), "subPath": "token" });
    assert_eq!(check(&single_file, ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
    let mut windows = pod(&[container("base")]);
    let file = "C:\\var\\run\\secrets\\eks.amazonaws.com\\serviceaccount\\token";
    windows["spec"]["containers"][0]["env"][1]["value"] = json!(file);
    assert_eq!(check(&windows, ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
}

#[test]
fn the_token_is_for_the_expected_audience() {
    let mut other = pod(&[container("base")]);
    let token = &mut other["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    token["audience"] = json!("sts.amazonaws.com.cn");
    assert!(matches!(wrong(&other).1, Wrong::Audience { .. }));
    assert_eq!(check(&other, ROLE, "sts.amazonaws.com.cn"), Ok(Credentials::WebIdentity));
    let token = &mut other["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    token.as_object_mut().unwrap().remove("audience");
    assert_eq!(check(&other, ROLE, ""), Ok(Credentials::WebIdentity));
}

#[test]
fn variables_that_the_sdks_heed_first() {
    let set = |container: Value, name: &str| {
        pod(&[with_env(container, json!({ "name": name, "valueFrom": { "secretKeyRef": {} } }))])
    };
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONFIG_FILE"] {
        assert!(matches!(wrong(&set(container("base"), name)).1, Wrong::Shadowed { name: n } if n == name));
        assert!(
            matches!(wrong(&set(pod_identity("base"), name)).1, Wrong::Shadowed { name: n } if n == name)
        );
    }
    let name = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    assert_eq!(check(&set(container("base"), name), ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
    assert_eq!(wrong(&set(pod_identity("base"), name)).1, Wrong::Shadowed { name });
    let emptied = pod(&[with_env(container("base"), json!({ "name": "AWS_ACCESS_KEY_ID" }))]);
    assert_eq!(check(&emptied, ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
}

#[test]
fn web_identity_goes_before_pod_identity() {
    let half = json!({ "name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/x" });
    assert_eq!(wrong(&pod(&[with_env(pod_identity("base"), half)])).1, Wrong::Half { name: "AWS_ROLE_ARN" });
    let uri = json!({ "name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://x" });
    assert_eq!(
        wrong(&pod(&[with_env(pod_identity("base"), uri.clone())])).1,
        Wrong::Uri { found: "http://x".into() }
    );
    assert_eq!(
        check(&pod(&[with_env(container("base"), uri)]), ROLE, DEFAULT_AUDIENCE),
        Ok(Credentials::WebIdentity)
    );
}

#[test]
fn the_list_for_guards_is_sorted_and_whole() {
    let names = shadowing_env();
    assert!(names.is_sorted());
    for container in [container("base"), pod_identity("base")] {
        for entry in container["env"].as_array().unwrap() {
            assert!(names.contains(&entry["name"].as_str().unwrap()));
        }
    }
    for name in env::SHADOWS.iter().chain(&env::SHADOWS_POD_IDENTITY) {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn every_fault_says_what_to_do() {
    let faults = [
        Wrong::Skipped,
        Wrong::SkipLabel,
        Wrong::LeftOut,
        Wrong::Role { found: "r".into() },
        Wrong::ValueFrom { name: "N" },
        Wrong::Half { name: "N" },
        Wrong::Uri { found: "u".into() },
        Wrong::NoToken { name: "N", path: "/p".into() },
        Wrong::Audience { found: String::new(), expected: "a".into() },
        Wrong::Shadowed { name: "N" },
    ];
    for what in faults {
        let fault = Fault::Wrong { container: "base".into(), role: ROLE.into(), what };
        let text = fault.to_string();
        assert!(text.starts_with("container `base` would not run as arn:"), "{text}");
        assert!(!text.contains("  ") && text.len() < 400, "{text}");
    }
}
