//! The create of one pod: what is sent, and what each of the many ways to say no means.

use std::time::Duration;

use http::Method;
use serde_json::Value;
use windlass_core::cluster::{CreateAnswer, GetAnswer};
use windlass_core::identity::policy;
use windlass_core::ids::{Attempt, LaunchId, PodRef};
use windlass_core::outcome::Reason;
use windlass_core::pod_view::PodView;

use crate::error::ClusterError;
use crate::lean::{LeanPod, look_behind_gate};
use crate::observe::Verb;
use crate::status::{ApiStatus, words};
use crate::transport::{Call, Cluster};

/// What the answer to a POST says, before anything else is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum CreateVerdict {
    /// 2xx with the pod as admission left it.
    Created(Box<PodView>),
    /// 409 AlreadyExists: whose it is must be looked up.
    Exists,
    /// All that needs no second look.
    Answer(CreateAnswer),
}

/// What leads to success later, not by asking the same again.
const REMEDY_NAMESPACE: &str = "create the namespace and its Role (deploy/rbac), or name another in \
     `[kubernetes_executor] namespace` or `pod_override`";
const REMEDY_ACCOUNT: &str =
    "create the service account, or name another in the pod template, `pod_override` or the identity rules";
const REMEDY_SIZE: &str = "make the pod smaller: its template, `pod_override` or executor_config";
const REMEDY_POLICY: &str =
    "where the identity rules or the pod template were changed: apply `windlass identity render` again";
/// The API server gives up when we do: what takes longer each time lets no pod come to be.
const REMEDY_SLOW: &str = "where admission webhooks take longer, raise create.timeout-ms and term.lease-ms";
const REMEDY_RBAC: &str = "give Windlass's service account the Role of deploy/rbac in this namespace";

/// Reads an answer to the create of `launch`'s pod. Pure: status, `Retry-After` in milliseconds, body.
///
/// Only a `Status` of an API server refuses for good. A page of something in between (load balancer, proxy) says
/// nothing about the pod, so it is [`CreateAnswer::Unknown`].
pub fn classify_create(
    status: u16,
    retry_after_ms: Option<u64>,
    body: &[u8],
    launch: &LaunchId,
    attempt: Attempt,
) -> CreateVerdict {
    if (200..300).contains(&status) {
        return match serde_json::from_slice::<LeanPod>(body) {
            Ok(pod) if !pod.metadata.uid.is_empty() => {
                let mut view = pod.view_as(launch.clone(), attempt);
                look_behind_gate(&mut view, body);
                CreateVerdict::Created(Box::new(view))
            }
            _ => unknown(status, "its answer is no pod".into()),
        };
    }
    if status == 429 {
        return CreateVerdict::Answer(CreateAnswer::TooManyRequests { retry_after_ms });
    }
    if status == 413 {
        // The API server says this one without a body.
        let said =
            if body.is_empty() { "the pod is larger than the API server takes".into() } else { words(body) };
        return refused(said, REMEDY_SIZE);
    }
    let Some(said) = ApiStatus::read(body) else { return unknown(status, words(body)) };
    if policy::is_refusal(&said.message) {
        return refused_as(Reason::IdentityDenied, said.message, REMEDY_POLICY);
    }
    match status {
        409 => conflict(&said),
        403 => forbidden(said),
        404 if said.about() == "namespaces" => not_ready(said.message, REMEDY_NAMESPACE),
        // A path that the server does not know is no judgement on the pod.
        404 => unknown(status, said.message),
        // A webhook may deny with any 4xx; 400 and 422 are the API server's own for a pod that is none.
        400 | 402 | 405..=407 | 410..=499 => {
            refused(said.message, "correct the pod template or `pod_override`")
        }
        // etcd's limit comes as a 500, and asking again cannot help.
        500 if said.message.contains("request is too large") => refused(said.message, REMEDY_SIZE),
        504 => unknown(status, format!("{} ({REMEDY_SLOW})", said.message)),
        // 401: our credentials, not the pod. 408, 5xx: also a webhook that cannot be reached
        // (`failed calling webhook`), after which nothing exists; a GET will tell.
        _ => unknown(status, said.message),
    }
}

fn conflict(said: &ApiStatus) -> CreateVerdict {
    match said.reason.as_str() {
        "AlreadyExists" => CreateVerdict::Exists,
        // Two creates updated one ResourceQuota at once: nothing was created.
        _ if said.about() == "resourcequotas" => {
            CreateVerdict::Answer(CreateAnswer::QuotaFull { message: said.message.clone() })
        }
        _ => unknown(409, said.message.clone()),
    }
}

/// The reason is `Forbidden` for all of these; only the text tells them apart.
fn forbidden(said: ApiStatus) -> CreateVerdict {
    let text = said.message.as_str();
    if said.is_full_quota() {
        return CreateVerdict::Answer(CreateAnswer::QuotaFull { message: said.message });
    }
    if said.has_cause("NamespaceTerminating") {
        return not_ready(
            said.message,
            "the namespace is being deleted: name another one, or create it anew",
        );
    }
    // The vpc-resource-controller's webhook when a service account was made a moment ago: its cache lags.
    if text.contains("Failed to get Matching SGP") {
        return unknown(403, said.message);
    }
    // Each namespace is given its `default` by a controller, a moment after it was created.
    if text.contains("error looking up service account")
        && text.ends_with("serviceaccount \"default\" not found")
    {
        return not_ready(said.message, "see that the controller manager runs");
    }
    if text.contains("error looking up service account") {
        return refused(said.message, REMEDY_ACCOUNT);
    }
    if text.contains("cannot create resource \"pods\"") {
        // Also in the first moments of an API server that does not know its roles yet.
        return not_ready(said.message, REMEDY_RBAC);
    }
    refused(
        said.message,
        "admission refuses this pod: correct the pod template or `pod_override`, or the policy",
    )
}

fn refused(message: String, remedy: &str) -> CreateVerdict {
    refused_as(Reason::PodRejected, message, remedy)
}

fn refused_as(reason: Reason, message: String, remedy: &str) -> CreateVerdict {
    let message = format!("{message} ({remedy})");
    CreateVerdict::Answer(CreateAnswer::Refused { reason, message })
}

/// Of the whole namespace, and it may pass: the engine waits before it takes it for a refusal.
fn not_ready(message: String, remedy: &str) -> CreateVerdict {
    let message = format!("{message} ({remedy})");
    CreateVerdict::Answer(CreateAnswer::NamespaceNotReady { message })
}

fn unanswered(error: &ClusterError) -> String {
    match error {
        ClusterError::TimedOut { .. } => format!("{}; {REMEDY_SLOW}", error.line()),
        _ => error.line(),
    }
}

fn unknown(status: u16, message: String) -> CreateVerdict {
    let error = format!("the API server answered the create with {status}: {message}");
    CreateVerdict::Answer(CreateAnswer::Unknown { error })
}

impl Cluster {
    /// Sends the create of `pod` once. The server is told what is left of `timeout` when the request leaves, and the
    /// connection is closed when it has passed, on which an API server drops what it has not yet written.
    pub async fn create(
        &self,
        pod: &Value,
        launch: &LaunchId,
        attempt: Attempt,
        timeout: Duration,
    ) -> CreateAnswer {
        let text = |pointer| pod.pointer(pointer).and_then(Value::as_str).filter(|t| is_path_segment(t));
        let (Some(namespace), Some(name)) = (text("/metadata/namespace"), text("/metadata/name")) else {
            let message = "the rendered pod has no usable metadata.namespace or metadata.name".into();
            return CreateAnswer::Refused { reason: Reason::TemplateInvalid, message };
        };
        let at = PodRef { namespace: namespace.to_owned(), name: name.to_owned() };
        let call = Call {
            body: Some(pod.to_string().into_bytes()),
            tell_timeout: true,
            ..Call::plain(
                Verb::Create,
                Method::POST,
                format!("/api/v1/namespaces/{namespace}/pods?fieldManager=windlass"),
                format!("create pod {at}"),
            )
        };
        let answer = match self.call(call, timeout).await {
            Ok(answer) => answer,
            Err(error) => return CreateAnswer::Unknown { error: unanswered(&error) },
        };
        match classify_create(answer.status, answer.retry_after_ms, &answer.body, launch, attempt) {
            CreateVerdict::Created(view) => CreateAnswer::Created(view),
            CreateVerdict::Answer(answer) => answer,
            CreateVerdict::Exists => self.whose(&at, launch, attempt).await,
        }
    }

    /// The name is taken: by our own pod (an earlier create whose answer was lost), or by another.
    async fn whose(&self, at: &PodRef, launch: &LaunchId, attempt: Attempt) -> CreateAnswer {
        match self.get(at, launch, attempt).await {
            GetAnswer::Found(Some(view)) if view.deleting => {
                CreateAnswer::NameTaken { why: format!("pod {at} of this launch is being deleted") }
            }
            GetAnswer::Found(Some(view)) => CreateAnswer::Adopted(view),
            GetAnswer::Found(None) => {
                CreateAnswer::NameTaken { why: format!("pod {at} exists and is not of this launch") }
            }
            // It was there a moment ago, perhaps ours and already run: not a free name to create again.
            GetAnswer::Gone => CreateAnswer::Unknown {
                error: format!("pod {at} existed when it was created and is gone now"),
            },
            GetAnswer::Failed { error } => CreateAnswer::Unknown {
                error: format!("pod {at} exists, whose it is could not be read: {error}"),
            },
        }
    }
}

/// What may stand in a URL's path as it is. Names of Kubernetes objects are narrower than this; what is not may come
/// from a `pod_override` and must not reach another path.
pub(crate) fn is_path_segment(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(good)
}

#[cfg(test)]
mod tests;
