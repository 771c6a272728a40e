//! What Go's JSON decoders refuse of a pod, in their words, as far as the webhooks read the pod.

use serde_json::Value;

/// A Go type.
enum Type {
    Text,
    Bool,
    /// `map[string]string`.
    TextMap,
    /// A map that is not looked into, by its name.
    Map(&'static str),
    List(&'static Struct),
    Struct(&'static Struct),
}

/// A Go struct: its name, and those of its fields that are checked.
struct Struct(&'static str, &'static [(&'static str, Type)]);

const POD: Struct = Struct("Pod", &[("metadata", Type::Struct(&META)), ("spec", Type::Struct(&SPEC))]);
const META: Struct = Struct(
    "ObjectMeta",
    &[
        ("name", Type::Text),
        ("generateName", Type::Text),
        ("namespace", Type::Text),
        ("labels", Type::TextMap),
        ("annotations", Type::TextMap),
    ],
);
const SPEC: Struct = Struct(
    "PodSpec",
    &[
        ("containers", Type::List(&CONTAINER)),
        ("initContainers", Type::List(&CONTAINER)),
        ("volumes", Type::List(&VOLUME)),
        ("nodeSelector", Type::TextMap),
        ("serviceAccountName", Type::Text),
        ("hostNetwork", Type::Bool),
    ],
);
const CONTAINER: Struct = Struct(
    "Container",
    &[
        ("name", Type::Text),
        ("image", Type::Text),
        ("env", Type::List(&ENV)),
        ("resources", Type::Struct(&RESOURCES)),
        ("volumeMounts", Type::List(&MOUNT)),
    ],
);
const ENV: Struct = Struct("EnvVar", &[("name", Type::Text), ("value", Type::Text)]);
const MOUNT: Struct = Struct(
    "VolumeMount",
    &[("name", Type::Text), ("mountPath", Type::Text), ("subPath", Type::Text), ("readOnly", Type::Bool)],
);
const RESOURCES: Struct = Struct(
    "ResourceRequirements",
    &[("limits", Type::Map("v1.ResourceList")), ("requests", Type::Map("v1.ResourceList"))],
);
const VOLUME: Struct = Struct("Volume", &[("name", Type::Text)]);

/// The sentence of the first field that does not fit; None: the value can be a pod.
pub(crate) fn refusal(pod: &Value) -> Option<String> {
    of_struct(pod, &POD, None)
}

/// Go's word for a JSON value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The struct that has a field, and the field's path from the pod; None is the pod itself.
type Field<'a> = Option<(&'static str, &'a str)>;

fn of_struct(value: &Value, expected: &Struct, field: Field<'_>) -> Option<String> {
    let Value::Object(object) = value else { return mismatch(value, &format!("v1.{}", expected.0), field) };
    object.iter().find_map(|(key, value)| {
        let (_, of) = expected.1.iter().find(|(name, _)| name == key)?;
        let path = field.map_or_else(|| key.clone(), |(_, path)| format!("{path}.{key}"));
        of_type(value, of, Some((expected.0, &path)))
    })
}

fn of_type(value: &Value, expected: &Type, field: Field<'_>) -> Option<String> {
    match (expected, value) {
        (Type::Text, Value::String(_)) | (Type::Bool, Value::Bool(_)) | (Type::Map(_), Value::Object(_)) => {
            None
        }
        (Type::Text, other) => mismatch(other, "string", field),
        (Type::Bool, other) => mismatch(other, "bool", field),
        (Type::Map(name), other) => mismatch(other, name, field),
        (Type::TextMap, Value::Object(entries)) => {
            entries.values().find_map(|value| of_type(value, &Type::Text, field))
        }
        (Type::TextMap, other) => mismatch(other, "map[string]string", field),
        (Type::List(of), Value::Array(values)) => values.iter().find_map(|value| of_struct(value, of, field)),
        (Type::List(of), other) => mismatch(other, &format!("[]v1.{}", of.0), field),
        (Type::Struct(of), other) => of_struct(other, of, field),
    }
}

/// `null` fits every type.
fn mismatch(value: &Value, expected: &str, field: Field<'_>) -> Option<String> {
    let found = match value {
        Value::Null => return None,
        other => kind(other),
    };
    let place = match field {
        None => "value".to_owned(),
        Some((owner, path)) => format!("struct field {owner}.{path}"),
    };
    Some(format!("json: cannot unmarshal {found} into Go {place} of type {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sentences_of_go() {
        let cases = [
            (json!({"spec": {"containers": "no"}}), "string", "PodSpec.spec.containers", "[]v1.Container"),
            (json!({"spec": {"containers": [1]}}), "number", "PodSpec.spec.containers", "v1.Container"),
            (json!({"spec": []}), "array", "Pod.spec", "v1.PodSpec"),
            (json!({"metadata": true}), "bool", "Pod.metadata", "v1.ObjectMeta"),
            (json!({"metadata": {"labels": {"a": 1}}}), "number", "ObjectMeta.metadata.labels", "string"),
            (
                json!({"spec": {"containers": [{"resources": {"limits": []}}]}}),
                "array",
                "ResourceRequirements.spec.containers.resources.limits",
                "v1.ResourceList",
            ),
        ];
        for (pod, kind, field, go_type) in cases {
            let text =
                format!("json: cannot unmarshal {kind} into Go struct field {field} of type {go_type}");
            assert_eq!(refusal(&pod), Some(text));
        }
        let text = "json: cannot unmarshal string into Go value of type v1.Pod";
        assert_eq!(refusal(&json!("pod")).as_deref(), Some(text));
        let nulls =
            json!({"metadata": {"labels": {"a": null}}, "spec": {"containers": [null], "hostNetwork": null}});
        assert_eq!(refusal(&nulls), None);
    }
}
