//! `PodGenerator.reconcile_pods`: how template, task and pod_override become one pod.
//!
//! The later pod wins field by field, but only with values that Python takes for true: 0, False, "" and empty lists
//! or mappings never override. Lists are replaced, except those that are appended (named below). Containers are
//! merged by position, init containers by name.

use serde_json::Value;

use super::model::{Class, Object};

/// Lists of a container that are appended: the template's first, doubles kept.
const CONTAINER_LISTS: [&str; 5] = ["volumeMounts", "env", "envFrom", "ports", "volumeDevices"];

/// `base` overridden by `client`; both are of class V1Pod.
pub(super) fn reconcile(pod: &Class, mut base: Object, mut client: Object) -> Object {
    merge_field(pod, "spec", &mut base, &mut client, reconcile_spec);
    merge_field(pod, "metadata", &mut base, &mut client, reconcile_metadata);
    fill(pod, base, client)
}

type Merge = fn(&Class, Object, Object) -> Object;

/// Merges one model field that both objects have; else leaves it to `fill`.
fn merge_field(class: &Class, field: &str, base: &mut Object, client: &mut Object, merge: Merge) {
    let Some(class) = class.model_of(field) else { return };
    if let (Some(Value::Object(b)), Some(Value::Object(c))) = (base.get_mut(field), client.get_mut(field)) {
        let merged = merge(class, std::mem::take(b), std::mem::take(c));
        client.insert(field.to_owned(), Value::Object(merged));
        base.remove(field);
    }
}

/// `merge_objects`: takes from `base` each field that is missing or false in `client`.
fn fill(class: &Class, base: Object, mut client: Object) -> Object {
    for (field, value) in base {
        if !client.get(&field).is_some_and(|own| class.truthy(&field, own)) {
            client.insert(field, value);
        }
    }
    client
}

/// `extend_object_field`: the list of `base`, then that of `client`.
fn extend(field: &str, base: &mut Object, client: &mut Object) {
    let Some(Value::Array(items)) = base.get_mut(field) else { return };
    if let Some(Value::Array(own)) = client.get_mut(field)
        && !items.is_empty()
    {
        let mut all = std::mem::take(items);
        all.append(own);
        client.insert(field.to_owned(), Value::Array(all));
        base.remove(field);
    }
}

fn take_list(object: &mut Object, field: &str) -> Vec<Value> {
    match object.get_mut(field) {
        Some(Value::Array(items)) => std::mem::take(items),
        _ => Vec::new(),
    }
}

fn reconcile_spec(spec: &Class, mut base: Object, mut client: Object) -> Object {
    if let Some(container) = spec.item_of("containers") {
        let (own, other) = (take_list(&mut client, "containers"), take_list(&mut base, "containers"));
        client.insert("containers".to_owned(), Value::Array(by_position(container, other, own)));
    }
    let (own, other) = (take_list(&mut client, "initContainers"), take_list(&mut base, "initContainers"));
    if let Some(container) = spec.item_of("initContainers")
        && !(own.is_empty() && other.is_empty())
    {
        client.insert("initContainers".to_owned(), Value::Array(by_name(container, other, own)));
    }
    extend("volumes", &mut base, &mut client);
    fill(spec, base, client)
}

fn reconcile_metadata(metadata: &Class, mut base: Object, mut client: Object) -> Object {
    for field in ["labels", "annotations"] {
        if let (Some(Value::Object(b)), Some(Value::Object(c))) = (base.get_mut(field), client.get_mut(field))
        {
            b.append(c);
            std::mem::swap(b, c);
        }
    }
    // The provider extends finalizers, ownerReferences and managedFields too, and drops the result: they are replaced.
    fill(metadata, base, client)
}

fn reconcile_container(container: &Class, base: Value, client: Value) -> Value {
    match (base, client) {
        (Value::Object(mut base), Value::Object(mut client)) => {
            for field in CONTAINER_LISTS {
                extend(field, &mut base, &mut client);
            }
            Value::Object(fill(container, base, client))
        }
        // An item that is null counts as not there.
        (base, Value::Null) => base,
        (_, client) => client,
    }
}

/// `reconcile_containers`: first with first, whatever their names.
fn by_position(container: &Class, base: Vec<Value>, client: Vec<Value>) -> Vec<Value> {
    let (mut base, mut client) = (base.into_iter(), client.into_iter());
    let mut merged = Vec::with_capacity(base.len().max(client.len()));
    loop {
        match (base.next(), client.next()) {
            (Some(b), Some(c)) => merged.push(reconcile_container(container, b, c)),
            (Some(one), None) | (None, Some(one)) => merged.push(one),
            (None, None) => return merged,
        }
    }
}

/// `reconcile_init_containers`: of several overrides with one name the last counts.
fn by_name(container: &Class, base: Vec<Value>, client: Vec<Value>) -> Vec<Value> {
    let name = |value: &Value| value.get("name").cloned();
    let mut merged = Vec::with_capacity(base.len() + client.len());
    let mut matched = Vec::new();
    for b in base {
        let own = name(&b);
        match client.iter().rfind(|c| name(c) == own) {
            Some(c) => {
                merged.push(reconcile_container(container, b, c.clone()));
                matched.push(own);
            }
            None => merged.push(b),
        }
    }
    merged.extend(client.into_iter().filter(|c| !matched.contains(&name(c))));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reconciled(base: Value, client: Value) -> Value {
        let (Value::Object(base), Value::Object(client)) = (base, client) else { panic!("objects") };
        Value::Object(reconcile(Class::named("V1Pod").unwrap(), base, client))
    }

    #[test]
    fn an_empty_object_overrides_and_an_empty_list_does_not() {
        let base = json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}, "args": ["x"]}],
            "nodeSelector": {"k": "v"}, "affinity": {"podAffinity": {}}}});
        let client = json!({"spec": {"containers": [{"name": "b", "resources": {}, "args": []}], "nodeSelector": {},
            "affinity": {}}});
        let want = json!({"spec": {"containers": [{"name": "b", "resources": {}, "args": ["x"]}],
            "nodeSelector": {"k": "v"}, "affinity": {}}});
        assert_eq!(reconciled(base, client), want);
    }

    #[test]
    fn an_empty_base_list_stays_and_the_last_of_equal_init_containers_counts() {
        let base = json!({"metadata": {"finalizers": []}, "spec": {"containers": [], "volumes": [],
            "initContainers": [{"name": "i", "env": [{"name": "A"}]}]}});
        let client = json!({"metadata": {"name": "n"}, "spec": {"containers": [{"name": "a"}], "volumes": [{"name": "v"}],
            "initContainers": [{"name": "i", "image": "1"}, {"name": "i", "image": "2"}, {"name": "j"}]}});
        let want = json!({"metadata": {"finalizers": [], "name": "n"}, "spec": {"containers": [{"name": "a"}],
            "volumes": [{"name": "v"}],
            "initContainers": [{"name": "i", "image": "2", "env": [{"name": "A"}]}, {"name": "j"}]}});
        assert_eq!(reconciled(base, client), want);
    }
}
