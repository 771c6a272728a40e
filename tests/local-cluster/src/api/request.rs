//! One request, taken apart; and its answer before it is HTTP.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::status::{ApiError, Cause};

/// Body of an answer: whole, or a stream (watch, followed log). An error in a stream cuts the connection.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request whose body is read.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Parameters of the query.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query {
    raw: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = form_urlencoded::parse(raw.as_bytes()).into_owned().collect();
        Self { raw: raw.to_owned(), pairs }
    }

    /// Empty counts as absent, as in the real server.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| !matches!(v, "0" | "false" | "False" | "f"))
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        raw.parse()
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {raw:?}: invalid syntax")))
    }

    /// `dryRun`: only `All` exists.
    pub(crate) fn dry_run(&self, options_kind: &str) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let cause = Cause::unsupported("dryRun", &format!("[{other:?}]"), &["All"]);
                Err(ApiError::invalid_options(options_kind, &cause))
            }
        }
    }
}

/// How an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Whole,
    /// Rows for kubectl's columns.
    Table,
    /// Metadata alone.
    Partial,
}

impl Call {
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// From `Accept`: the first form that this server can give.
    pub(crate) fn shape(&self) -> Result<Shape, ApiError> {
        let accept = self.header(header::ACCEPT);
        if accept.is_empty() {
            return Ok(Shape::Whole);
        }
        accept.split(',').find_map(shape_of).ok_or_else(ApiError::not_acceptable)
    }

    /// The body as JSON.
    pub(crate) fn json(&self, kind: &str) -> Result<Value, ApiError> {
        let content_type = self.header(header::CONTENT_TYPE);
        if !content_type.is_empty() && !content_type.starts_with("application/json") {
            return Err(ApiError::unsupported_body());
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json \
                 parse error: {e}"
            ))
        })
    }
}

fn shape_of(media: &str) -> Option<Shape> {
    let mut parts = media.split(';').map(str::trim);
    let kind = parts.next()?;
    if !matches!(kind, "application/json" | "*/*" | "application/*") {
        return None;
    }
    let mut shape = Shape::Whole;
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", "Table")) => shape = Shape::Table,
            Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => shape = Shape::Partial,
            // Aggregated discovery and the like: not served, the client's next choice is.
            Some(("as", _)) => return None,
            _ => {}
        }
    }
    Some(shape)
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) content_type: &'static str,
    /// Seconds of `Retry-After`.
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) body: Body,
}

impl Reply {
    pub(crate) fn json(code: u16, body: &Value) -> Self {
        // A body of our own making always serialises; an empty one would show as a client error.
        let bytes = serde_json::to_vec(body).unwrap_or_default();
        Self::bytes(code, "application/json", bytes)
    }

    pub(crate) fn text(code: u16, text: &str) -> Self {
        Self::bytes(code, "text/plain; charset=utf-8", text.as_bytes().to_vec())
    }

    fn bytes(code: u16, content_type: &'static str, bytes: Vec<u8>) -> Self {
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        Self { code, content_type, retry_after_s: None, body }
    }

    pub(crate) fn stream(content_type: &'static str, body: Body) -> Self {
        Self { code: StatusCode::OK, content_type, retry_after_s: None, body }
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        Self { retry_after_s: error.retry_after_s, ..Self::json(error.code, &error.body()) }
    }
}
