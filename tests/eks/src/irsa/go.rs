//! What Go's `encoding/json` refuses of a pod, in its words, as far as the webhook reads the pod.

use serde_json::Value;

/// A Go type.
enum Type {
    Text,
    Bool,
    /// `map[string]string`.
    TextMap,
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
        ("volumeMounts", Type::List(&MOUNT)),
    ],
);
const ENV: Struct = Struct("EnvVar", &[("name", Type::Text), ("value", Type::Text)]);
const MOUNT: Struct = Struct(
    "VolumeMount",
    &[("name", Type::Text), ("mountPath", Type::Text), ("subPath", Type::Text), ("readOnly", Type::Bool)],
);
const VOLUME: Struct = Struct("Volume", &[("name", Type::Text)]);

/// Why the object is no pod; None: it is one.
pub(super) fn refusal(object: &Value) -> Option<String> {
    if object.is_null() {
        return Some("unexpected end of JSON input".to_owned());
    }
    let problem = of_struct(object, &POD, None)?;
    Some(match problem.field {
        None => {
            format!("json: cannot unmarshal {} into Go value of type {}", problem.found, problem.expected)
        }
        Some((owner, path)) => format!(
            "json: cannot unmarshal {} into Go struct field {owner}.{path} of type {}",
            problem.found, problem.expected
        ),
    })
}

struct Problem {
    found: &'static str,
    expected: String,
    /// The struct that has the field, and the path from the pod.
    field: Option<(&'static str, String)>,
}

type Field<'a> = Option<(&'static str, &'a str)>;

fn of_struct(value: &Value, expected: &Struct, field: Field<'_>) -> Option<Problem> {
    let Value::Object(object) = value else { return mismatch(value, format!("v1.{}", expected.0), field) };
    object.iter().find_map(|(key, value)| {
        let (_, of) = expected.1.iter().find(|(name, _)| name == key)?;
        let path = field.map_or_else(|| key.clone(), |(_, path)| format!("{path}.{key}"));
        of_type(value, of, Some((expected.0, &path)))
    })
}

fn of_type(value: &Value, expected: &Type, field: Field<'_>) -> Option<Problem> {
    match (expected, value) {
        (Type::Text, Value::String(_)) | (Type::Bool, Value::Bool(_)) => None,
        (Type::Text, other) => mismatch(other, "string".to_owned(), field),
        (Type::Bool, other) => mismatch(other, "bool".to_owned(), field),
        (Type::TextMap, Value::Object(entries)) => {
            entries.values().find_map(|value| of_type(value, &Type::Text, field))
        }
        (Type::TextMap, other) => mismatch(other, "map[string]string".to_owned(), field),
        (Type::List(of), Value::Array(values)) => values.iter().find_map(|v| of_struct(v, of, field)),
        (Type::List(of), other) => mismatch(other, format!("[]v1.{}", of.0), field),
        (Type::Struct(of), other) => of_struct(other, of, field),
    }
}

/// `null` fits every type.
fn mismatch(value: &Value, expected: String, field: Field<'_>) -> Option<Problem> {
    let found = match value {
        Value::Null => return None,
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Some(Problem { found, expected, field: field.map(|(owner, path)| (owner, path.to_owned())) })
}
