//! From path and method to the operation.

use std::sync::Arc;

use http::{Method, header};
use serde_json::{Value, json};

use super::delete::{self, DeleteOptions};
use super::list::{self, Scope, selector};
use super::request::{Call, Reply, Shape};
use super::resource::{NAMESPACES, Resource, by_plural};
use super::status::ApiError;
use super::store::Key;
use super::watch;
use super::write::{self, Update, WriteOptions};
use super::{Api, discovery, log, table};

/// Serves a request.
pub(crate) fn serve(api: &Arc<Api>, call: &Call) -> Reply {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let answer = match path.as_slice() {
        ["version"] => Ok(Reply::json(200, &discovery::version())),
        ["readyz" | "livez" | "healthz", ..] => Ok(Reply::text(200, "ok")),
        ["api"] => plain(call, &discovery::api_versions(&api.address)),
        ["api", "v1"] => plain(call, &discovery::core()),
        ["openapi", "v3"] => Ok(Reply::json(200, &discovery::openapi_index())),
        ["openapi", "v3", "api", "v1"] => Ok(Reply::json(200, &discovery::openapi_core())),
        ["apis"] => plain(call, &discovery::groups()),
        ["apis", "authorization.k8s.io"] => plain(call, &discovery::group()),
        ["apis", "authorization.k8s.io", "v1"] => plain(call, &discovery::authorization()),
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => access_review(call),
        ["api", "v1", rest @ ..] => core(api, call, rest),
        _ => return Reply::text(404, "404 page not found\n"),
    };
    answer.unwrap_or_else(Reply::from)
}

/// Discovery is given only in its plain form; a client that accepts nothing else than the aggregated one falls back.
fn plain(call: &Call, body: &Value) -> Result<Reply, ApiError> {
    call.shape().map(|_| Reply::json(200, body))
}

/// The one token may do everything.
fn access_review(call: &Call) -> Result<Reply, ApiError> {
    if call.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let mut review = call.json("SelfSubjectAccessReview")?;
    review["kind"] = json!("SelfSubjectAccessReview");
    review["apiVersion"] = json!("authorization.k8s.io/v1");
    review["status"] = json!({ "allowed": true });
    Ok(Reply::json(201, &review))
}

/// Everything under `/api/v1`.
fn core(api: &Arc<Api>, call: &Call, path: &[&str]) -> Result<Reply, ApiError> {
    let known = |plural: &str| by_plural(plural).ok_or_else(ApiError::no_such_resource);
    match *path {
        ["namespaces"] => collection(api, call, &NAMESPACES, None),
        ["namespaces", name] => object(api, call, &NAMESPACES, &Key::new("", name), None),
        ["namespaces", name, "status"] => object(api, call, &NAMESPACES, &Key::new("", name), Some("status")),
        ["namespaces", namespace, plural] => collection(api, call, namespaced(plural)?, Some(namespace)),
        ["namespaces", namespace, plural, name] => {
            object(api, call, namespaced(plural)?, &Key::new(namespace, name), None)
        }
        ["namespaces", namespace, plural, name, sub] => {
            object(api, call, namespaced(plural)?, &Key::new(namespace, name), Some(sub))
        }
        [plural] => collection(api, call, known(plural)?, None),
        [plural, name] if !known(plural)?.namespaced => {
            object(api, call, known(plural)?, &Key::new("", name), None)
        }
        [plural, name, sub] if !known(plural)?.namespaced => {
            object(api, call, known(plural)?, &Key::new("", name), Some(sub))
        }
        _ => Err(ApiError::no_such_resource()),
    }
}

fn namespaced(plural: &str) -> Result<&'static Resource, ApiError> {
    by_plural(plural).filter(|r| r.namespaced).ok_or_else(ApiError::no_such_resource)
}

fn collection(
    api: &Arc<Api>,
    call: &Call,
    resource: &'static Resource,
    namespace: Option<&str>,
) -> Result<Reply, ApiError> {
    let scope = Scope { resource, namespace };
    match call.method {
        Method::GET if call.query.flag("watch") => {
            let body = watch::watch(api, &scope, &call.query, call.shape()?)?;
            Ok(Reply::stream("application/json", body))
        }
        Method::GET => list::list(api, &scope, &call.query, call.shape()?).map(|l| Reply::json(200, &l)),
        Method::POST if resource.namespaced == namespace.is_some() => {
            let shape = call.shape()?;
            let options = write_options(call, "CreateOptions")?;
            let body = call.json(resource.kind)?;
            let made = write::create(api, resource, namespace.unwrap_or_default(), body, options)?;
            Ok(Reply::json(201, &shown(resource, shape, &made, call)))
        }
        Method::DELETE => delete_collection(api, call, &scope),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn delete_collection(api: &Api, call: &Call, scope: &Scope<'_>) -> Result<Reply, ApiError> {
    let resource = scope.resource;
    let options = delete_options(call)?;
    let selector = selector(resource, &call.query)?;
    let snapshot = api.store.snapshot(resource.plural, scope.namespace, None)?;
    let mut items = Vec::new();
    for (key, found) in snapshot.objects {
        if selector.matches(&found) {
            // One that went in between is deleted, which is what was asked for.
            let _ = api.store.write(|tx| delete::delete(tx, resource, &key, &options));
            items.push(found);
        }
    }
    let items: Vec<&Value> = items.iter().map(AsRef::as_ref).collect();
    let meta = json!({ "resourceVersion": snapshot.version.to_string() });
    let body = json!({ "kind": format!("{}List", resource.kind), "apiVersion": "v1", "metadata": meta,
                       "items": items });
    Ok(Reply::json(200, &body))
}

fn object(
    api: &Arc<Api>,
    call: &Call,
    resource: &'static Resource,
    key: &Key,
    sub: Option<&str>,
) -> Result<Reply, ApiError> {
    let served = sub.is_none_or(|sub| resource.subresources.iter().any(|(name, _, _)| *name == sub));
    if !served {
        return Err(ApiError::no_such_resource());
    }
    let method = call.method.as_str();
    match (sub, method) {
        (Some("log"), "GET") => log::log(api, key, &call.query),
        (Some("binding"), "POST") => {
            write::bind(api, key, &call.json("Binding")?).map(|b| Reply::json(201, &b))
        }
        (Some("eviction"), "POST") => {
            write::evict(api, key, &call.json("Eviction")?).map(|b| Reply::json(201, &b))
        }
        (None | Some("status"), "GET") => {
            let shape = call.shape()?;
            let found = list::get(api, resource, key, &call.query)?;
            Ok(Reply::json(200, &shown(resource, shape, &found, call)))
        }
        (None | Some("status"), "PUT" | "PATCH") => {
            let shape = call.shape()?;
            let (change, options) = change(call, resource)?;
            let stored = write::update(api, resource, key, sub, &change, options)?;
            Ok(Reply::json(200, &shown(resource, shape, &stored, call)))
        }
        (None, "DELETE") => {
            let options = delete_options(call)?;
            let gone = api.store.write(|tx| delete::delete(tx, resource, key, &options))?;
            Ok(Reply::json(200, &gone))
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn change(call: &Call, resource: &Resource) -> Result<(Update, WriteOptions), ApiError> {
    if call.method == Method::PUT {
        return Ok((Update::Put(call.json(resource.kind)?), write_options(call, "UpdateOptions")?));
    }
    let kind = call.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
    let patch = serde_json::from_slice(&call.body)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")));
    let options = write_options(call, "PatchOptions")?;
    match kind.as_str() {
        "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/json-patch+json" => Ok((Update::Patch(kind, patch?), options)),
        _ => Err(ApiError::unsupported_patch()),
    }
}

fn write_options(call: &Call, kind: &str) -> Result<WriteOptions, ApiError> {
    Ok(WriteOptions {
        dry_run: call.query.dry_run(kind)?,
        strict: call.query.get("fieldValidation") == Some("Strict"),
    })
}

/// From the body if there is one, else from the query.
fn delete_options(call: &Call) -> Result<DeleteOptions, ApiError> {
    let mut options = if call.body.is_empty() {
        let grace_s = call.query.integer("gracePeriodSeconds")?;
        DeleteOptions { grace_s, ..DeleteOptions::default() }
    } else {
        DeleteOptions::from_body(&call.json("DeleteOptions")?)?
    };
    options.dry_run |= call.query.dry_run("DeleteOptions")?;
    Ok(options)
}

fn shown(resource: &Resource, shape: Shape, object: &Value, call: &Call) -> Value {
    match shape {
        Shape::Whole => object.clone(),
        Shape::Partial => table::partial(object),
        Shape::Table => {
            let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
            table::table(resource, &[object], &meta, call.query.get("includeObject"), true)
        }
    }
}
