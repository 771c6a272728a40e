//! POST, PUT and PATCH: admission, defaults, optimistic locking, subresources.

use std::sync::Arc;

use serde_json::{Value, json};

use super::delete::{self, DeleteOptions};
use super::namespace;
use super::pod;
use super::quota;
use super::resource::{NAMESPACES, Resource, SERVICE_ACCOUNTS, unknown_fields};
use super::status::{ApiError, Cause, success};
use super::store::{Key, Tx};
use super::{Api, identity, validate};
use crate::clock;

/// Query options of a write.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    /// `fieldValidation=Strict`.
    pub(crate) strict: bool,
}

/// POST of an object.
pub(crate) fn create(
    api: &Api,
    resource: &'static Resource,
    namespace: &str,
    body: Value,
    options: WriteOptions,
) -> Result<Arc<Value>, ApiError> {
    let mut object = decode(resource, body, options)?;
    let meta = &mut object["metadata"];
    if !meta.is_object() {
        *meta = json!({});
    }
    match meta["namespace"].as_str().unwrap_or_default() {
        other if !other.is_empty() && other != namespace => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        _ if resource.namespaced => meta["namespace"] = json!(namespace),
        _ => {}
    }
    if meta["name"].as_str().unwrap_or_default().is_empty()
        && let Some(prefix) = meta["generateName"].as_str()
    {
        meta["name"] = json!(format!("{prefix}{}", identity::suffix()));
    }
    for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        meta.as_object_mut().map(|m| m.remove(field));
    }
    meta["uid"] = json!(identity::uid());
    meta["creationTimestamp"] = json!(clock::now_text());
    first_form(api, resource, &mut object);
    let key = Key::new(namespace, object["metadata"]["name"].as_str().unwrap_or_default());
    api.store.write(|tx| {
        admit_namespace(tx, resource, &key)?;
        validate::check(resource, &object)?;
        if resource.kind == "Pod" {
            admit_account(api, tx, &key, &object)?;
        }
        if tx.get(resource.plural, &key).is_some() {
            return Err(ApiError::already_exists(resource.plural, &key.name));
        }
        if resource.kind == "Pod" {
            quota::admit(tx, &key)?;
        }
        if options.dry_run {
            return Ok(Arc::new(object));
        }
        let stored = tx.put(resource.plural, &key, object);
        namespace::after_create(tx, resource, &key);
        quota::refresh(tx, resource, &key.namespace);
        // A quota is counted by that refresh.
        Ok(tx.get(resource.plural, &key).filter(|_| resource.kind == "ResourceQuota").unwrap_or(stored))
    })
}

fn decode(resource: &'static Resource, body: Value, options: WriteOptions) -> Result<Value, ApiError> {
    let sent = options.strict.then(|| body.clone());
    let object = resource.decode(body)?;
    let unknown = sent.map_or_else(Vec::new, |sent| unknown_fields(&sent, &object));
    if unknown.is_empty() {
        return Ok(object);
    }
    let kind = resource.kind;
    Err(ApiError::bad_request(format!(
        "{kind} in version \"v1\" cannot be handled as a {kind}: strict decoding error: {}",
        unknown.join(", ")
    )))
}

/// Defaults and the first status, by kind.
fn first_form(api: &Api, resource: &Resource, object: &mut Value) {
    match resource.kind {
        "Pod" => {
            object["metadata"]["generation"] = json!(1);
            if api.options.service_account_admission
                && object["spec"].is_object()
                && object["spec"]["serviceAccountName"].is_null()
                && object["spec"]["serviceAccount"].is_null()
            {
                object["spec"]["serviceAccountName"] = json!("default");
            }
            pod::set_defaults(object);
            object["status"] = pod::first_status(object);
        }
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"] = json!({ "finalizers": ["kubernetes"] });
            object["status"] = json!({ "phase": "Active" });
        }
        "Node" if object["status"]["allocatable"].is_null() && !object["status"]["capacity"].is_null() => {
            object["status"]["allocatable"] = object["status"]["capacity"].clone();
        }
        "Secret" => {
            use base64::Engine as _;
            let plain = object.as_object_mut().and_then(|o| o.remove("stringData"));
            for (name, text) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
                let bytes = text.as_str().unwrap_or_default();
                let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
                object["data"][name] = json!(encoded);
            }
            if object["type"].is_null() {
                object["type"] = json!("Opaque");
            }
        }
        _ => {}
    }
}

/// The `NamespaceLifecycle` admission plugin.
fn admit_namespace(tx: &Tx<'_>, resource: &Resource, key: &Key) -> Result<(), ApiError> {
    if !resource.namespaced {
        return Ok(());
    }
    let Some(namespace) = tx.get(NAMESPACES.plural, &Key::new("", &key.namespace)) else {
        return Err(ApiError::not_found("namespaces", &key.namespace));
    };
    if namespace["status"]["phase"] == "Terminating" {
        return Err(ApiError::namespace_terminating(resource.plural, &key.name, &key.namespace));
    }
    Ok(())
}

/// The `ServiceAccount` admission plugin: the account must exist. It mounts no token here.
fn admit_account(api: &Api, tx: &Tx<'_>, key: &Key, pod: &Value) -> Result<(), ApiError> {
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if !api.options.service_account_admission || account.is_empty() {
        return Ok(());
    }
    if tx.get(SERVICE_ACCOUNTS.plural, &Key::new(&key.namespace, account)).is_some() {
        return Ok(());
    }
    let why = format!(
        "error looking up service account {}/{account}: serviceaccount {account:?} not found",
        key.namespace
    );
    Err(ApiError::forbidden("pods", &key.name, &why))
}

/// What an update is made from.
pub(crate) enum Update {
    Put(Value),
    /// Content type and body.
    Patch(String, Value),
}

/// PUT or PATCH of an object or of its status.
pub(crate) fn update(
    api: &Api,
    resource: &'static Resource,
    key: &Key,
    subresource: Option<&str>,
    change: &Update,
    options: WriteOptions,
) -> Result<Arc<Value>, ApiError> {
    api.store.write(|tx| {
        let old =
            tx.get(resource.plural, key).ok_or_else(|| ApiError::not_found(resource.plural, &key.name))?;
        let new = match change {
            Update::Put(body) => decode(resource, body.clone(), options)?,
            Update::Patch(kind, patch) => {
                decode(resource, super::patch::apply(kind, &old, patch.clone())?, options)?
            }
        };
        let is_put = matches!(change, Update::Put(_));
        let new = updated(resource, key, subresource, &old, new, is_put)?;
        if new == *old || options.dry_run {
            return Ok(if options.dry_run { Arc::new(new) } else { old });
        }
        if delete::is_ready_to_go(&new) {
            // The last finalizer was removed from an object that waited for it.
            delete::remove(tx, resource, key);
            return Ok(Arc::new(new));
        }
        let stored = tx.put(resource.plural, key, new);
        quota::refresh(tx, resource, &key.namespace);
        Ok(stored)
    })
}

/// The stored form of an update: what the request may not change comes from the old object.
fn updated(
    resource: &Resource,
    key: &Key,
    subresource: Option<&str>,
    old: &Value,
    mut new: Value,
    is_put: bool,
) -> Result<Value, ApiError> {
    check_identity(resource, key, old, &new, is_put)?;
    let meta = &mut new["metadata"];
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        copy(&old["metadata"], meta, field);
    }
    if subresource == Some("status") {
        copy(&old["metadata"], meta, "ownerReferences");
        let status = new["status"].take();
        let meta = new["metadata"].take();
        new = old.clone();
        new["metadata"] = meta;
        new["status"] = status;
        copy_missing(&old["status"], &mut new["status"], "qosClass");
    } else {
        copy(old, &mut new, "status");
    }
    if resource.kind == "Pod" && subresource.is_none() {
        pod::set_defaults(&mut new);
        copy_missing(&old["spec"], &mut new["spec"], "serviceAccountName");
        copy_missing(&old["spec"], &mut new["spec"], "serviceAccount");
        pod::check_spec_change(&key.name, old, &new)?;
        if old["spec"] != new["spec"] {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
    }
    validate::check(resource, &new)?;
    Ok(new)
}

fn check_identity(
    resource: &Resource,
    key: &Key,
    old: &Value,
    new: &Value,
    is_put: bool,
) -> Result<(), ApiError> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let name = text(&new["name"]);
    if name != key.name {
        let problem =
            format!("the name of the object ({name}) does not match the name on the URL ({})", key.name);
        return Err(ApiError::bad_request(problem));
    }
    let (uid, old_uid) = (text(&new["uid"]), text(&old["uid"]));
    if !uid.is_empty() && uid != old_uid {
        if is_put {
            let why =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}");
            return Err(ApiError::conflict(resource.plural, &key.name, &why));
        }
        let cause = Cause::invalid("metadata.uid", &uid, "field is immutable");
        return Err(ApiError::invalid(resource.kind, &key.name, &[cause]));
    }
    let version = text(&new["resourceVersion"]);
    if !version.is_empty() && version != text(&old["resourceVersion"]) {
        return Err(ApiError::modified(resource.plural, &key.name));
    }
    Ok(())
}

/// Makes `field` of `to` what it is in `from`: absent included.
fn copy(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => drop(to.as_object_mut().and_then(|o| o.remove(field))),
    }
}

fn copy_missing(from: &Value, to: &mut Value, field: &str) {
    if to[field].is_null() {
        copy(from, to, field);
    }
}

/// POST of a Binding: the scheduler's decision.
pub(crate) fn bind(api: &Api, key: &Key, binding: &Value) -> Result<Value, ApiError> {
    if binding["metadata"]["name"] != key.name.as_str() {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::internal("target.name: Required value"));
    }
    let refused = |why: &str| ApiError::conflict("pods/binding", &key.name, why);
    api.store.write(|tx| {
        let old = tx.get("pods", key).ok_or_else(|| ApiError::not_found("pods", &key.name))?;
        let uid = binding["metadata"]["uid"].as_str().unwrap_or_default();
        let old_uid = old["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != old_uid {
            let why =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}");
            return Err(ApiError::conflict("pods", &key.name, &why));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Err(refused(&format!("pod {} is being deleted, cannot be assigned to a host", key.name)));
        }
        if !pod::node_name(&old).is_empty() {
            let bound = pod::node_name(&old);
            return Err(refused(&format!("pod {} is already assigned to node {bound:?}", key.name)));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
            return Err(refused(&format!("pod {} has non-empty .spec.schedulingGates", key.name)));
        }
        let mut new = Value::clone(&old);
        new["spec"]["nodeName"] = json!(node);
        pod::set_condition(&mut new, "PodScheduled", "True", "", "");
        tx.put("pods", key, new);
        Ok(success(201, None))
    })
}

/// POST of an Eviction: the condition that says who did it, then an ordinary delete. No disruption budgets here.
pub(crate) fn evict(api: &Api, key: &Key, eviction: &Value) -> Result<Value, ApiError> {
    let options = DeleteOptions::from_body(&eviction["deleteOptions"])?;
    api.store.write(|tx| {
        let old = tx.get("pods", key).ok_or_else(|| ApiError::not_found("pods", &key.name))?;
        if !pod::is_finished(&old) {
            let mut new = Value::clone(&old);
            let message = "Eviction API: evicting";
            pod::set_condition(&mut new, "DisruptionTarget", "True", "EvictionByEvictionAPI", message);
            tx.put("pods", key, new);
        }
        delete::delete(tx, &super::resource::PODS, key, &options)?;
        Ok(success(201, None))
    })
}
