//! The objects by which the API server knows the webhooks, as EKS has them, and one that is not of AWS.
//!
//! Names, policies and rules as seen on EKS (security groups: read in amazon-vpc-resource-controller v1.8.2; the pod
//! identity webhook's: from published dumps). All of them fail open, and declare no side effects, so that dry runs show
//! what they do. Only their address is ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::server::{MUTATE_IRSA, MUTATE_SGP, MUTATE_SIDECAR, VALIDATE_SGP, Webhooks};

/// Seconds that the API server waits for an answer; then it goes on without.
pub const TIMEOUT_S: u32 = 10;

/// MutatingWebhookConfiguration `pod-identity-webhook`. It is asked again when a later webhook changes the pod.
pub fn irsa_mutating(webhooks: &Webhooks) -> Value {
    let mut webhook = webhook("iam-for-pods.amazonaws.com", webhooks, MUTATE_IRSA, &["CREATE"]);
    webhook["admissionReviewVersions"] = json!(["v1beta1"]);
    webhook["reinvocationPolicy"] = json!("IfNeeded");
    let skip = windlass_core::identity::irsa::LABEL_SKIP;
    webhook["objectSelector"] = json!({ "matchExpressions": [{ "key": skip, "operator": "DoesNotExist" }] });
    configuration("MutatingWebhookConfiguration", "pod-identity-webhook", webhook)
}

/// MutatingWebhookConfiguration `vpc-resource-mutating-webhook`: security groups for pods.
pub fn sgp_mutating(webhooks: &Webhooks) -> Value {
    let mut webhook = webhook("mpod.vpc.k8s.aws", webhooks, MUTATE_SGP, &["CREATE"]);
    webhook["reinvocationPolicy"] = json!("Never");
    configuration("MutatingWebhookConfiguration", "vpc-resource-mutating-webhook", webhook)
}

/// ValidatingWebhookConfiguration `vpc-resource-validating-webhook`, its part about pods.
pub fn sgp_validating(webhooks: &Webhooks) -> Value {
    let webhook = webhook("vpod.vpc.k8s.aws", webhooks, VALIDATE_SGP, &["CREATE", "UPDATE"]);
    configuration("ValidatingWebhookConfiguration", "vpc-resource-validating-webhook", webhook)
}

/// MutatingWebhookConfiguration of somebody who puts sidecars into pods. It is asked after those of AWS, as its name comes
/// after theirs.
pub fn sidecar_mutating(webhooks: &Webhooks) -> Value {
    let webhook = webhook("sidecars.example.com", webhooks, MUTATE_SIDECAR, &["CREATE"]);
    configuration("MutatingWebhookConfiguration", "x-sidecar-injector", webhook)
}

fn configuration(kind: &str, name: &str, webhook: Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": { "name": name },
        "webhooks": [webhook],
    })
}

fn webhook(name: &str, webhooks: &Webhooks, path: &str, operations: &[&str]) -> Value {
    json!({
        "name": name,
        "clientConfig": { "url": webhooks.url(path), "caBundle": STANDARD.encode(webhooks.ca_bundle()) },
        "rules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": operations, "scope": "*",
        }],
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_S,
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {},
        "objectSelector": {},
    })
}
