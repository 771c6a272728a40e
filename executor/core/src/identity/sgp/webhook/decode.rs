//! What Go says of JSON that is no pod, for the fields that decide.

use serde_json::Value;

/// A field of one of Go's structs.
struct GoField {
    name: &'static str,
    /// As Go prints it.
    go_type: &'static str,
    shape: Shape,
}

/// What JSON fits a field, apart from null, which fits all.
enum Shape {
    Text,
    Flag,
    Texts,
    Struct(&'static Struct),
    List(&'static Struct),
    /// Not looked into.
    Map,
}

struct Struct {
    name: &'static str,
    fields: &'static [GoField],
}

const fn field(name: &'static str, go_type: &'static str, shape: Shape) -> GoField {
    GoField { name, go_type, shape }
}

static POD: Struct = Struct {
    name: "Pod",
    fields: &[
        field("metadata", "v1.ObjectMeta", Shape::Struct(&OBJECT_META)),
        field("spec", "v1.PodSpec", Shape::Struct(&POD_SPEC)),
    ],
};

static OBJECT_META: Struct = Struct {
    name: "ObjectMeta",
    fields: &[
        field("annotations", "map[string]string", Shape::Texts),
        field("labels", "map[string]string", Shape::Texts),
        field("namespace", "string", Shape::Text),
    ],
};

static POD_SPEC: Struct = Struct {
    name: "PodSpec",
    fields: &[
        field("containers", "[]v1.Container", Shape::List(&CONTAINER)),
        field("hostNetwork", "bool", Shape::Flag),
        field("nodeSelector", "map[string]string", Shape::Texts),
        field("serviceAccountName", "string", Shape::Text),
    ],
};

static CONTAINER: Struct = Struct {
    name: "Container",
    fields: &[field("resources", "v1.ResourceRequirements", Shape::Struct(&RESOURCES))],
};

static RESOURCES: Struct = Struct {
    name: "ResourceRequirements",
    fields: &[
        field("limits", "v1.ResourceList", Shape::Map),
        field("requests", "v1.ResourceList", Shape::Map),
    ],
};

/// The sentence of the first field that does not fit; `None` if it can be a pod.
pub(super) fn error(pod: &Value) -> Option<String> {
    match pod {
        Value::Null => Some("there is no content to decode".into()),
        Value::Object(_) => in_struct(&POD, pod, ""),
        other => Some(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ \
             APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            go_kind(other)
        )),
    }
}

/// `path` is that of the struct, with a dot at its end.
fn in_struct(of: &Struct, value: &Value, path: &str) -> Option<String> {
    of.fields.iter().find_map(|field| {
        let path = format!("{path}{}", field.name);
        in_field(of.name, field, value.get(field.name)?, &path)
    })
}

fn in_field(within: &str, field: &GoField, value: &Value, path: &str) -> Option<String> {
    let unfit = |value: &Value, go_type: &str| {
        let kind = go_kind(value);
        format!("json: cannot unmarshal {kind} into Go struct field {within}.{path} of type {go_type}")
    };
    let fits = |fits: bool| (!fits).then(|| unfit(value, field.go_type));
    if value.is_null() {
        return None;
    }
    match &field.shape {
        Shape::Text => fits(value.is_string()),
        Shape::Flag => fits(value.is_boolean()),
        Shape::Map => fits(value.is_object()),
        Shape::Texts => {
            let Value::Object(entries) = value else { return fits(false) };
            let other = entries.values().find(|entry| !entry.is_string() && !entry.is_null());
            other.map(|entry| unfit(entry, "string"))
        }
        Shape::Struct(inner) => {
            fits(value.is_object()).or_else(|| in_struct(inner, value, &format!("{path}.")))
        }
        Shape::List(inner) => {
            let Value::Array(items) = value else { return fits(false) };
            items.iter().find_map(|item| match item {
                Value::Null => None,
                Value::Object(_) => in_struct(inner, item, &format!("{path}.")),
                other => Some(unfit(other, field.go_type.trim_start_matches("[]"))),
            })
        }
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
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
            assert_eq!(error(&pod), Some(text));
        }
        assert!(
            error(&json!("pod")).unwrap().contains("cannot unmarshal string into Go value of type struct {")
        );
        let nulls =
            json!({"metadata": {"labels": {"a": null}}, "spec": {"containers": [null], "hostNetwork": null}});
        assert_eq!(error(&nulls), None);
    }
}
