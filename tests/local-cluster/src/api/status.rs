//! Kubernetes `Status` bodies: what every refused request is answered with.
//!
//! The texts are those of kube-apiserver 1.37 where clients parse or show them; the conformance suite compares.

use serde_json::{Value, json};

/// A refused request: becomes an HTTP answer with a `Status` body.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
    /// `metadata.continue` of an expired list: the token that goes on without a consistent snapshot.
    continue_token: Option<String>,
    /// Seconds, sent as `Retry-After`.
    pub(crate) retry_after_s: Option<u64>,
}

/// One field error of a 422.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Cause {
    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let message =
            if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub(crate) fn invalid(field: impl Into<String>, value: &str, detail: &str) -> Self {
        let message = format!("Invalid value: {value:?}: {detail}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &str) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {value:?}"),
        }
    }

    pub(crate) fn not_found(field: impl Into<String>, value: &str) -> Self {
        Self { reason: "FieldValueNotFound", field: field.into(), message: format!("Not found: {value:?}") }
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    pub(crate) fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let list = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value}: supported values: {list}"),
        }
    }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Option<Value>) -> Self {
        Self { code, reason, message: message.into(), details, continue_token: None, retry_after_s: None }
    }

    pub(crate) fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found"), Some(names(resource, name)))
    }

    pub(crate) fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource", Some(json!({})))
    }

    pub(crate) fn already_exists(resource: &str, name: &str) -> Self {
        let message = format!("{resource} {name:?} already exists");
        Self::new(409, "AlreadyExists", message, Some(names(resource, name)))
    }

    /// 409 Conflict; `kind` is what the real server puts into the text: a resource, or the kind for preconditions.
    pub(crate) fn conflict(kind: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
        Self::new(409, "Conflict", message, Some(names(kind, name)))
    }

    pub(crate) fn modified(resource: &str, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn forbidden(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("{resource} {name:?} is forbidden: {why}");
        Self::new(403, "Forbidden", message, Some(names(resource, name)))
    }

    pub(crate) fn namespace_terminating(resource: &str, name: &str, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(resource, name, &why);
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        error
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, None)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", None)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message, Some(json!({})))
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json";
        Self::new(406, "NotAcceptable", message, Some(json!({})))
    }

    pub(crate) fn unsupported_body() -> Self {
        let message = "the body of the request was in an unknown format - accepted media types include: \
                       application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Self::new(415, "UnsupportedMediaType", message, None)
    }

    pub(crate) fn unsupported_patch() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type", Some(json!({})))
    }

    /// What the real server says when a JSON patch does not apply: the cause is only in its log.
    pub(crate) fn patch_does_not_apply() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message, Some(json!({})))
    }

    /// 422 with the causes, as validation answers.
    pub(crate) fn invalid(kind: &str, name: &str, causes: &[Cause]) -> Self {
        let listed: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let text = match listed.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut details = json!({ "kind": kind, "causes": causes_json(causes) });
        if !name.is_empty() {
            details["name"] = json!(name);
        }
        Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {text}"), Some(details))
    }

    /// 422 of the options in the query (`ListOptions`, `CreateOptions`): they have a group and no name.
    pub(crate) fn invalid_options(kind: &str, cause: &Cause) -> Self {
        let message = format!("{kind}.meta.k8s.io \"\" is invalid: {}: {}", cause.field, cause.message);
        let details = json!({ "group": "meta.k8s.io", "kind": kind,
                              "causes": causes_json(std::slice::from_ref(cause)) });
        Self::new(422, "Invalid", message, Some(details))
    }

    /// 410 of a watch or an exact list whose resourceVersion is compacted.
    pub(crate) fn gone(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"), None)
    }

    /// 410 of a list at an exact resourceVersion that is compacted.
    pub(crate) fn expired_list() -> Self {
        Self::new(410, "Expired", "The resourceVersion for the provided list is too old.", None)
    }

    /// 410 of a list page whose snapshot is compacted; carries the token to go on inconsistently.
    pub(crate) fn expired_page(continue_token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can \
                       start a new list without the continue parameter, or use the continue token in this response \
                       to retrieve the remainder of the results. Continuing with the provided token results in an \
                       inconsistent list - objects that were created, modified, or deleted between the time the \
                       first chunk was returned and now may show up in the list.";
        Self { continue_token: Some(continue_token), ..Self::new(410, "Expired", message, None) }
    }

    pub(crate) fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let details = json!({ "retryAfterSeconds": 1, "causes": [{
            "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }] });
        Self { retry_after_s: Some(1), ..Self::new(504, "Timeout", message, Some(details)) }
    }

    /// 429 as API priority and fairness answers when its queue is full.
    pub(crate) fn too_many_requests(retry_after_s: u64) -> Self {
        let message = "Too many requests, please try again later.";
        let details = json!({ "retryAfterSeconds": retry_after_s });
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(429, "TooManyRequests", message, Some(details))
        }
    }

    /// 500 without a reason, as the server wraps an error that is no Status.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message, None)
    }

    /// An injected 5xx.
    pub(crate) fn injected(code: u16) -> Self {
        let reason = match code {
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        Self::new(code, reason, "injected fault of the local cluster", None)
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                               "message": self.message, "code": self.code });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        if let Some(token) = &self.continue_token {
            body["metadata"]["continue"] = json!(token);
        }
        body
    }
}

fn names(kind: &str, name: &str) -> Value {
    json!({ "name": name, "kind": kind })
}

fn causes_json(causes: &[Cause]) -> Vec<Value> {
    causes.iter().map(|c| json!({ "reason": c.reason, "message": c.message, "field": c.field })).collect()
}

/// Body of an accepted request that has no object to show (binding, delete of small kinds).
pub(crate) fn success(code: u16, details: Option<Value>) -> Value {
    let mut body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    match details {
        Some(details) => body["details"] = details,
        None => body["code"] = json!(code),
    }
    body
}
