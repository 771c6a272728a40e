//! The bodies are those of a kube-apiserver 1.37, as it sent them, but for names and cut words.

use super::*;
use serde_json::json;

fn launch() -> LaunchId {
    "abcdefghijklmnopqrstuvwxyz".parse().unwrap()
}

fn answered(status: u16, retry_after_ms: Option<u64>, body: &[u8]) -> CreateVerdict {
    classify_create(status, retry_after_ms, body, &launch(), Attempt::FIRST)
}

/// `{"kind":"Status",...}` as the API server composes it.
fn said(status: u16, reason: &str, message: &str, details: Value) -> CreateVerdict {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": status,
    });
    answered(status, None, body.to_string().as_bytes())
}

fn pods() -> Value {
    json!({ "name": "a", "kind": "pods" })
}

fn forbidden_with(message: &str) -> CreateVerdict {
    said(403, "Forbidden", &format!("pods \"a\" is forbidden: {message}"), pods())
}

fn refusal(verdict: CreateVerdict) -> String {
    match verdict {
        CreateVerdict::Answer(CreateAnswer::Refused { reason: Reason::PodRejected, message }) => message,
        other => panic!("not refused: {other:?}"),
    }
}

fn not_ready(verdict: CreateVerdict) -> String {
    match verdict {
        CreateVerdict::Answer(CreateAnswer::NamespaceNotReady { message }) => message,
        other => panic!("not what passes: {other:?}"),
    }
}

fn is_quota(verdict: &CreateVerdict) -> bool {
    matches!(verdict, CreateVerdict::Answer(CreateAnswer::QuotaFull { .. }))
}

fn is_unknown(verdict: &CreateVerdict) -> bool {
    matches!(verdict, CreateVerdict::Answer(CreateAnswer::Unknown { .. }))
}

#[test]
fn a_201_is_the_pod_also_when_admission_took_its_labels() {
    let body = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"etl","uid":"ddf87536","resourceVersion":"222","creationTimestamp":"2026-11-24T03:23:53Z","labels":{"other":"1"}},"spec":{"containers":[{"name":"base","image":"x"}]},"status":{"phase":"Pending","qosClass":"BestEffort"}}"#;
    let CreateVerdict::Created(view) = answered(201, None, body.as_bytes()) else { panic!("not created") };
    assert_eq!((view.launch, view.attempt, view.uid.0.as_str()), (launch(), Attempt::FIRST, "ddf87536"));
    assert!(is_unknown(&answered(201, None, b"")), "a success without a pod proves nothing");
}

#[test]
fn the_three_meanings_of_409() {
    let exists = said(409, "AlreadyExists", "pods \"a\" already exists", pods());
    assert_eq!(exists, CreateVerdict::Exists);
    let quota = said(
        409,
        "Conflict",
        "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply your \
         changes to the latest version and try again",
        json!({ "name": "q", "kind": "resourcequotas" }),
    );
    assert!(is_quota(&quota));
    let other = said(409, "Conflict", "Operation cannot be fulfilled on pods \"a\": x", pods());
    assert!(is_unknown(&other), "{other:?}");
}

#[test]
fn a_403_by_quota_waits_and_by_a_missing_limit_does_not() {
    assert!(is_quota(&forbidden_with("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1")));
    assert!(is_quota(&forbidden_with("status unknown for quota: q, resources: pods")));
    let limit = refusal(forbidden_with("failed quota: cpu: must specify limits.cpu for: base"));
    assert!(limit.contains("must specify limits.cpu"), "{limit}");
}

#[test]
fn a_403_of_the_whole_namespace_may_pass() {
    let rbac = said(
        403,
        "Forbidden",
        "pods is forbidden: User \"system:serviceaccount:airflow:windlass\" cannot create resource \"pods\" in API \
         group \"\" in the namespace \"etl\"",
        json!({ "kind": "pods" }),
    );
    let rbac = not_ready(rbac);
    assert!(
        rbac.contains("system:serviceaccount:airflow:windlass") && rbac.contains("deploy/rbac"),
        "{rbac}"
    );
    let ending = said(
        403,
        "Forbidden",
        "pods \"a\" is forbidden: unable to create new content in namespace etl because it is being terminated",
        json!({ "name": "a", "kind": "pods", "causes": [{ "reason": "NamespaceTerminating",
            "message": "namespace etl is being terminated", "field": "metadata.namespace" }] }),
    );
    assert!(not_ready(ending).contains("being deleted"));
    let young = not_ready(forbidden_with(
        "error looking up service account etl/default: serviceaccount \"default\" not found",
    ));
    assert!(young.contains("etl/default") && young.contains("controller manager"), "{young}");
}

#[test]
fn other_403_name_what_refuses_and_what_to_do() {
    let account = refusal(forbidden_with(
        "error looking up service account etl/ghost: serviceaccount \"ghost\" not found",
    ));
    assert!(account.contains("etl/ghost") && account.contains("create the service account"), "{account}");
    let policy = refusal(forbidden_with("violates PodSecurity \"restricted:latest\": runAsNonRoot != true"));
    assert!(policy.contains("PodSecurity") && policy.contains("admission refuses"), "{policy}");
    let lagging =
        "Failed to get Matching SGP for Pods, rejecting event, error ServiceAccount \"x\" not found";
    assert!(is_unknown(&forbidden_with(lagging)), "the webhook's cache will know the account in a moment");
}

/// Both statuses: of a validation that is false, and of one that could not be evaluated.
#[test]
fn a_refusal_of_the_identity_policy_is_a_denied_identity() {
    let denied = "ValidatingAdmissionPolicy 'windlass-identity-airflow' with binding 'windlass-identity-airflow' denied \
                  request: identity rule `etl` does not let a pod have this: spec.hostNetwork is `true`; take it out, or \
                  have the platform add \"host\" to the rule's may-override";
    for (status, reason) in [(403, "Forbidden"), (422, "Invalid")] {
        let verdict = said(status, reason, &format!("pods \"a\" is forbidden: {denied}"), pods());
        let CreateVerdict::Answer(CreateAnswer::Refused { reason, message }) = verdict else {
            panic!("not refused: {verdict:?}")
        };
        assert_eq!(reason, Reason::IdentityDenied);
        assert_eq!(message, format!("pods \"a\" is forbidden: {denied} ({REMEDY_POLICY})"));
    }
    let other = refusal(forbidden_with(
        "ValidatingAdmissionPolicy 'images' with binding 'images' denied request: no",
    ));
    assert!(other.contains("admission refuses this pod"), "{other}");
}

#[test]
fn a_missing_namespace_may_come_and_a_missing_path_says_nothing() {
    let gone = said(
        404,
        "NotFound",
        "namespaces \"nope\" not found",
        json!({ "name": "nope", "kind": "namespaces" }),
    );
    let message = not_ready(gone);
    assert_eq!(message, format!("namespaces \"nope\" not found ({REMEDY_NAMESPACE})"));
    assert!(is_unknown(&answered(404, None, b"404 page not found\n")));
}

#[test]
fn a_pod_that_is_none_is_refused_with_the_servers_words() {
    let imageless = said(
        422,
        "Invalid",
        "Pod \"a\" is invalid: spec.containers[0].image: Required value",
        json!({ "name": "a", "kind": "Pod", "causes": [{ "reason": "FieldValueRequired",
            "message": "Required value", "field": "spec.containers[0].image" }] }),
    );
    assert!(
        refusal(imageless).starts_with("Pod \"a\" is invalid: spec.containers[0].image: Required value (")
    );
    let shape = said(
        400,
        "BadRequest",
        "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field \
         PodSpec.spec.containers of type []v1.Container",
        Value::Null,
    );
    assert!(refusal(shape).contains("spec.containers"));
    let policy =
        "pods \"g\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no g";
    assert!(refusal(said(422, "Invalid", policy, pods())).contains("denied request: no g"));
    assert!(refusal(said(500, "", "etcdserver: request is too large", Value::Null)).contains("smaller"));
    assert!(refusal(answered(413, None, b"")).starts_with("the pod is larger than"));
}

#[test]
fn a_429_carries_how_long_to_wait() {
    let too_many = |ms| CreateVerdict::Answer(CreateAnswer::TooManyRequests { retry_after_ms: ms });
    assert_eq!(answered(429, Some(1_000), b"Too many requests"), too_many(Some(1_000)));
    assert_eq!(answered(429, None, b""), too_many(None));
}

#[test]
fn what_is_no_judgement_on_the_pod_is_unknown() {
    let webhook = said(
        500,
        "InternalError",
        "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post \
         \"https://10.0.0.1/x?timeout=1s\": dial tcp 10.0.0.1:443: connect: connection refused",
        json!({ "causes": [{ "message": "failed calling webhook" }] }),
    );
    let CreateVerdict::Answer(CreateAnswer::Unknown { error }) = &webhook else { panic!("{webhook:?}") };
    assert!(error.contains("w.example.com"), "{error}");
    for status in [302, 401, 403, 408, 500, 502, 503, 504] {
        assert!(is_unknown(&answered(status, None, b"<html>proxy</html>")), "{status}");
    }
    assert!(is_unknown(&said(401, "Unauthorized", "Unauthorized", Value::Null)), "our token, not the pod");
    let late =
        said(504, "Timeout", "Timeout: request did not complete within the allotted timeout", Value::Null);
    let CreateVerdict::Answer(CreateAnswer::Unknown { error }) = &late else { panic!("{late:?}") };
    assert_eq!(
        error,
        "the API server answered the create with 504: Timeout: request did not complete within the allotted timeout \
         (where admission webhooks take longer, raise create.timeout-ms and term.lease-ms)"
    );
}

#[test]
fn a_name_from_an_override_reaches_no_other_path() {
    for bad in ["", ".", "..", "a/b", "a?x=1", "a%2fb", "a#b", "a b"] {
        assert!(!is_path_segment(bad), "{bad}");
    }
    assert!(is_path_segment("task-1.abc"));
}
