//! EKS' pod identity webhook (IRSA and Pod Identity) as a function of what it knows and one request.
//!
//! The rules are those of amazon-eks-pod-identity-webhook at commit 3bf80a34, and its recordings are the test. Which
//! version and flags EKS runs is not published; `region` with `regional_sts` gives what pods on EKS show. Not here: the
//! times of its caches and look-ups, and refusals of fields that it does not use.

mod account;
mod inject;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::go;
use crate::review::{self, Reply, Verdict};

/// The program's flags, with its defaults. The names in JSON are those of the recordings.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Flags {
    /// `--aws-default-region`; empty: no variable.
    pub region: String,
    /// `--sts-regional-endpoint`.
    #[serde(rename = "regionalSTS")]
    pub regional_sts: bool,
    /// `--token-expiration`, seconds; below 600 it is 600.
    pub token_expiration: i64,
    /// `--service-account-lookup-grace-period`, milliseconds. 0: an account that the cache lacks is not looked up.
    pub grace_ms: u64,
    /// `--watch-config-map`.
    pub watch_config_map: bool,
    /// `--annotation-prefix`.
    pub annotation_prefix: String,
    /// `--token-mount-path`.
    pub mount_path: String,
    /// `--token-audience`.
    pub audience: String,
    /// `--compose-role-arn`, with what the instance says of itself.
    pub compose: Option<Compose>,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            region: String::new(),
            regional_sts: false,
            token_expiration: inject::DAY_S,
            grace_ms: 0,
            watch_config_map: false,
            annotation_prefix: "eks.amazonaws.com".to_owned(),
            mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
            audience: windlass_core::identity::irsa::DEFAULT_AUDIENCE.to_owned(),
            compose: None,
        }
    }
}

impl Flags {
    /// What pods on EKS show, in this region.
    pub fn on_eks(region: &str) -> Self {
        Self { region: region.to_owned(), regional_sts: true, ..Self::default() }
    }
}

/// What a role's name is completed with.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compose {
    /// Twelve digits.
    #[serde(rename = "accountID")]
    pub account_id: String,
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
}

/// An association of EKS Pod Identity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Of the account.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
}

/// The webhook, and what it knows at the moment of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Webhook {
    /// How it was started.
    pub flags: Flags,
    /// The accounts in its cache.
    pub service_accounts: Vec<Value>,
    /// The accounts that a look-up finds in the grace period; None: those of the cache.
    pub api_service_accounts: Option<Vec<Value>>,
    /// Associations of EKS Pod Identity.
    pub identities: Vec<Identity>,
    /// Key `config` of ConfigMap `pod-identity-webhook`.
    pub config_map: Option<String>,
    /// What is taken off a Pod Identity token's life of one day, at most [`Webhook::JITTER_MAX`]; the real one draws it.
    #[serde(skip)]
    pub jitter: Duration,
}

/// What the webhook says.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// Whether the pod may be created.
    pub allowed: bool,
    /// Why not.
    pub message: Option<String>,
    /// JSON patch; there is one even where it changes nothing, once the account has an identity.
    pub patch: Option<Vec<Value>>,
    /// The patched pod, if there is a patch and it fits.
    pub pod_after: Option<Value>,
}

impl From<Admission> for Verdict {
    fn from(admission: Admission) -> Self {
        match (admission.allowed, admission.patch) {
            (true, None) => Self::Allow,
            (true, Some(patch)) => Self::Patch(patch),
            // The webhook names no code, and the API server takes 400 then.
            (false, _) => Self::Deny { code: 400, message: admission.message.unwrap_or_default() },
        }
    }
}

impl Webhook {
    /// 22 hours is the shortest life that a token of one day can get.
    pub const JITTER_MAX: Duration = Duration::from_secs(7200);

    /// Judges an AdmissionReview's `request`: its `object`, in its `namespace`.
    pub fn admit(&self, request: &Value) -> Admission {
        let pod = &request["object"];
        let refusal = match pod {
            Value::Null => Some("unexpected end of JSON input".to_owned()),
            pod => go::refusal(pod),
        };
        if let Some(message) = refusal {
            return Admission { allowed: false, message: Some(message), patch: None, pod_after: None };
        }
        let namespace = request["namespace"].as_str().unwrap_or_default();
        let patch = self.plan(pod, namespace).map(|plan| inject::patch(pod, &plan));
        let pod_after = patch.as_deref().and_then(|patch| patched(pod, patch));
        Admission { allowed: true, message: None, patch, pod_after }
    }

    /// Answers an HTTP request, bodies that are no review included.
    pub fn handle(&self, content_type: &str, body: &[u8]) -> Reply {
        review::answer(content_type, body, |request| {
            let admission = self.admit(request);
            Ok(match (admission.allowed, admission.patch) {
                (true, patch) => review::allowed(patch.as_deref()),
                (false, _) => review::denied(&admission.message.unwrap_or_default(), None),
            })
        })
    }
}

/// None: an operation does not fit the object.
fn patched(pod: &Value, patch: &[Value]) -> Option<Value> {
    let patch: json_patch::Patch = serde_json::from_value(json!(patch)).ok()?;
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).ok()?;
    Some(pod)
}
