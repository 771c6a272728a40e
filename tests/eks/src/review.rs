//! The envelope of a webhook's question and answer, as the pod identity webhook reads and writes it.
//!
//! It echoes `apiVersion` and `kind`, so that `admission.k8s.io/v1` and `v1beta1` both work, and answers 200 with
//! `allowed: false` to a body that it cannot read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// What a webhook says of one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Allowed as it is.
    Allow,
    /// Allowed with a JSON patch (RFC 6902), one operation an element.
    Patch(Vec<Value>),
    /// Allowed as this object; the patch is made from the difference.
    Mutated(Value),
    /// Refused.
    Deny {
        /// HTTP status that the API server gives its client; below 400 it takes 400.
        code: u16,
        /// For the client.
        message: String,
    },
    /// No AdmissionReview at all.
    Http {
        /// HTTP status.
        status: u16,
        /// Text.
        body: String,
    },
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON, or the text of an error.
    pub body: String,
}

/// Reads a review, asks `decide` about its `request`, and writes the review that answers it. `decide` returns the
/// `response` without its uid, or another answer.
pub fn answer(content_type: &str, body: &[u8], decide: impl FnOnce(&Value) -> Result<Value, Reply>) -> Reply {
    if content_type != "application/json" {
        let body = "Invalid Content-Type, expected `application/json`\n".to_owned();
        return Reply { status: 415, body };
    }
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => {
            let problem = format!("couldn't get version/kind; json parse error: {}", go_words(&error));
            return reply(&Value::Null, denied(&problem, None));
        }
    };
    match review.get("request").filter(|request| request.is_object()) {
        None => reply(&review, denied("bad content", None)),
        Some(request) => match decide(request) {
            Ok(response) => reply(&review, response),
            Err(other) => other,
        },
    }
}

/// `response` of an allowed request.
pub fn allowed(patch: Option<&[Value]>) -> Value {
    match patch {
        None => json!({ "allowed": true }),
        Some(patch) => {
            let patch = STANDARD.encode(Value::from(patch).to_string());
            json!({ "allowed": true, "patch": patch, "patchType": "JSONPatch" })
        }
    }
}

/// `response` of a refused request. Without a code the API server answers its client with 400.
pub fn denied(message: &str, code: Option<u16>) -> Value {
    let mut status = json!({ "message": message });
    if let Some(code) = code {
        status["code"] = json!(code);
    }
    json!({ "allowed": false, "status": status })
}

/// The answer to `request` that a verdict stands for.
///
/// # Errors
/// The HTTP answer of [`Verdict::Http`].
pub fn response(request: &Value, verdict: Verdict) -> Result<Value, Reply> {
    match verdict {
        Verdict::Allow => Ok(allowed(None)),
        Verdict::Patch(patch) => Ok(allowed(Some(&patch))),
        Verdict::Mutated(object) => Ok(allowed(Some(&difference(&request["object"], &object)))),
        Verdict::Deny { code, message } => Ok(denied(&message, Some(code))),
        Verdict::Http { status, body } => Err(Reply { status, body }),
    }
}

/// The JSON patch from one object to the other.
fn difference(from: &Value, to: &Value) -> Vec<Value> {
    match serde_json::to_value(json_patch::diff(from, to)) {
        Ok(Value::Array(operations)) => operations,
        // A patch is an array of plain operations.
        _ => Vec::new(),
    }
}

fn reply(review: &Value, mut response: Value) -> Reply {
    let uid = review["request"]["uid"].as_str().unwrap_or_default();
    response["uid"] = json!(uid);
    let mut answer = Map::new();
    for field in ["kind", "apiVersion"] {
        if let Some(value) = review.get(field) {
            answer.insert(field.to_owned(), value.clone());
        }
    }
    answer.insert("response".to_owned(), response);
    Reply { status: 200, body: Value::Object(answer).to_string() }
}

/// Go's sentence for a body that ends too soon; our parser's own for other errors.
fn go_words(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() }
}
