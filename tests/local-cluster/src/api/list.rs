//! GET and LIST: resourceVersion rules, selectors, paging.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Api;
use super::request::{Query, Shape};
use super::resource::Resource;
use super::selector::Selector;
use super::status::{ApiError, Cause};
use super::store::{Key, Snapshot};
use super::table;

/// What a list or watch is about.
pub(crate) struct Scope<'a> {
    pub(crate) resource: &'static Resource,
    /// `None`: all namespaces, or cluster scope.
    pub(crate) namespace: Option<&'a str>,
}

/// GET of one object.
pub(crate) fn get(
    api: &Api,
    resource: &'static Resource,
    key: &Key,
    query: &Query,
) -> Result<Arc<Value>, ApiError> {
    if let Some(asked) = version(query)? {
        not_too_large(api, asked)?;
    }
    api.store.get(resource.plural, key).ok_or_else(|| ApiError::not_found(resource.plural, &key.name))
}

/// LIST.
pub(crate) fn list(api: &Api, scope: &Scope<'_>, query: &Query, shape: Shape) -> Result<Value, ApiError> {
    if query.get("sendInitialEvents").is_some() {
        return Err(refused("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    let selector = selector(scope.resource, query)?;
    let limit = usize::try_from(query.integer("limit")?.unwrap_or(0)).unwrap_or(0);
    let (snapshot, after) = read_from(api, scope, query, limit)?;
    let unselected = query.get("labelSelector").is_none() && query.get("fieldSelector").is_none();
    let mut matching = snapshot
        .objects
        .into_iter()
        .filter(|(key, object)| after.as_ref().is_none_or(|a| key > a) && selector.matches(object));
    let mut page = Vec::new();
    let mut last = None;
    for (key, object) in matching.by_ref() {
        page.push(object);
        last = Some(key);
        if limit > 0 && page.len() == limit {
            break;
        }
    }
    let mut meta = json!({ "resourceVersion": snapshot.version.to_string() });
    let left = matching.count();
    if let (true, Some(last)) = (left > 0, last) {
        meta["continue"] = json!(token(i64::try_from(snapshot.version).unwrap_or(-1), &last));
        if unselected {
            meta["remainingItemCount"] = json!(left);
        }
    }
    Ok(shown(scope.resource, shape, &page, &meta, query))
}

/// The objects of the version that the request asks for, and the key after which the page starts.
fn read_from(
    api: &Api,
    scope: &Scope<'_>,
    query: &Query,
    limit: usize,
) -> Result<(Snapshot, Option<Key>), ApiError> {
    let asked = version(query)?;
    let matching = query.get("resourceVersionMatch");
    let read = |version| api.store.snapshot(scope.resource.plural, scope.namespace, version);
    if let Some(raw) = query.get("continue") {
        if asked.is_some_and(|v| v > 0) {
            let text = "specifying resource version is not allowed when using continue";
            return Err(ApiError::bad_request(text));
        }
        let (at, start) = parse_token(raw)?;
        let at = u64::try_from(at).ok();
        let snapshot = read(at).map_err(|_| ApiError::expired_page(token(-1, &start)))?;
        return Ok((snapshot, Some(start)));
    }
    let exact = match (matching, asked) {
        (Some(_), None) => {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(refused("resourceVersionMatch", why));
        }
        (Some("Exact"), Some(0)) => {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            return Err(refused("resourceVersionMatch", why));
        }
        (Some("Exact"), _) => true,
        (Some("NotOlderThan"), _) => false,
        (Some(other), _) => {
            let cause = Cause::unsupported(
                "resourceVersionMatch",
                &format!("{other:?}"),
                &["Exact", "NotOlderThan", ""],
            );
            return Err(ApiError::invalid_options("ListOptions", &cause));
        }
        // The rule from before resourceVersionMatch existed: a first page is exact.
        (None, Some(v)) => v > 0 && limit > 0,
        (None, None) => false,
    };
    if let Some(asked) = asked {
        not_too_large(api, asked)?;
    }
    match asked {
        Some(asked) if exact => {
            let snapshot = read(Some(asked)).map_err(|_| ApiError::expired_list())?;
            Ok((snapshot, None))
        }
        // "0" may be answered from a cache of any age; how old is up to the test.
        Some(0) => Ok((read(api.faults.stale_version()).or_else(|_| read(None))?, None)),
        _ => Ok((read(None)?, None)),
    }
}

pub(crate) fn selector(resource: &Resource, query: &Query) -> Result<Selector, ApiError> {
    let text = |name| query.get(name).unwrap_or_default();
    Selector::parse(resource, text("labelSelector"), text("fieldSelector"))
}

/// `resourceVersion` of a get or list.
fn version(query: &Query) -> Result<Option<u64>, ApiError> {
    let Some(raw) = query.get("resourceVersion") else { return Ok(None) };
    raw.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {raw:?}: strconv.ParseUint: parsing {raw:?}: \
             invalid syntax"
        ))
    })
}

/// The real server waits 3 s for the version to come, then answers 504; here the answer comes at once.
fn not_too_large(api: &Api, asked: u64) -> Result<(), ApiError> {
    let current = api.store.version();
    if asked > current { Err(ApiError::version_too_large(asked, current)) } else { Ok(()) }
}

pub(crate) fn refused(field: &str, why: &str) -> ApiError {
    ApiError::invalid_options("ListOptions", &Cause::forbidden(field, why))
}

fn token(version: i64, last: &Key) -> String {
    let start = format!("/{}/{}\0", last.namespace, last.name);
    URL_SAFE_NO_PAD.encode(json!({ "v": "meta.k8s.io/v1", "rv": version, "start": start }).to_string())
}

fn parse_token(raw: &str) -> Result<(i64, Key), ApiError> {
    let invalid =
        || ApiError::bad_request("invalid continue token: continue key is not valid: not of this server");
    let bytes = URL_SAFE_NO_PAD.decode(raw).map_err(|_| invalid())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let start = token["start"].as_str().ok_or_else(invalid)?.trim_end_matches('\0');
    let mut parts = start.splitn(3, '/').skip(1);
    match (token["rv"].as_i64(), parts.next(), parts.next()) {
        (Some(version), Some(namespace), Some(name)) => Ok((version, Key::new(namespace, name))),
        _ => Err(invalid()),
    }
}

fn shown(resource: &Resource, shape: Shape, page: &[Arc<Value>], meta: &Value, query: &Query) -> Value {
    match shape {
        Shape::Table => {
            let objects: Vec<&Value> = page.iter().map(AsRef::as_ref).collect();
            table::table(resource, &objects, meta, query.get("includeObject"), true)
        }
        Shape::Partial => {
            let items: Vec<Value> = page.iter().map(|o| table::partial(o)).collect();
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                    "items": items })
        }
        Shape::Whole => {
            let items: Vec<&Value> = page.iter().map(AsRef::as_ref).collect();
            json!({ "kind": format!("{}List", resource.kind), "apiVersion": "v1", "metadata": meta, "items": items })
        }
    }
}
