//! The Kubernetes client's models, as far as a pod needs them. Airflow reads templates and overrides into these
//! before it merges: unknown fields are dropped, values are coerced to the declared type, required fields demanded.

use std::fmt::Write;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::python::{AsInt, Py, int_json};

mod time;

/// Class and field table of `V1Pod` and all below it; see `generate.py data` in the fixtures.
const TABLE: &str = include_str!("v1_pod.schema");

/// A JSON object whose fields have the types that a class declares.
pub(crate) type Object = Map<String, Value>;

/// Declared type of a field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Bool,
    Time,
    /// Kept as it is: IntOrString, raw JSON.
    Any,
    /// Index of a class.
    Model(usize),
    List(Box<Kind>),
    /// Keys are texts.
    Dict(Box<Kind>),
}

#[derive(Debug)]
struct Field {
    json: &'static str,
    attribute: Option<&'static str>,
    required: bool,
    kind: Kind,
}

/// A model class of the Kubernetes client.
#[derive(Debug)]
pub(crate) struct Class {
    name: &'static str,
    /// Sorted by JSON key.
    fields: Vec<Field>,
}

/// A value that does not fit the field that it stands in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {what}")]
pub struct FieldError {
    /// Such as `spec.containers[0].name`.
    pub path: String,
    /// What is wrong with it, as the end of a sentence.
    pub what: String,
}

fn classes() -> &'static [Class] {
    static CLASSES: OnceLock<Vec<Class>> = OnceLock::new();
    CLASSES.get_or_init(|| parse_table(TABLE))
}

fn parse_table(table: &'static str) -> Vec<Class> {
    let lines = || table.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = lines().filter(|line| !line.starts_with(' ')).collect();
    let mut classes: Vec<Class> = Vec::with_capacity(names.len());
    for line in lines() {
        match (line.strip_prefix(' '), classes.last_mut()) {
            (None, _) => classes.push(Class { name: line, fields: Vec::new() }),
            (Some(field), Some(class)) => class.fields.extend(parse_field(field, &names)),
            (Some(_), None) => {}
        }
    }
    for class in &mut classes {
        class.fields.sort_by_key(|field| field.json);
    }
    classes
}

fn parse_field(line: &'static str, names: &[&str]) -> Option<Field> {
    let (name, kind) = line.split_once(' ')?;
    let required = name.starts_with('*');
    let name = name.trim_start_matches('*');
    let (json, attribute) =
        name.split_once('@').map_or((name, None), |(json, attribute)| (json, Some(attribute)));
    Some(Field { json, attribute, required, kind: parse_kind(kind, names)? })
}

fn parse_kind(text: &str, names: &[&str]) -> Option<Kind> {
    let inside = |prefix| text.strip_prefix(prefix).and_then(|rest: &str| rest.strip_suffix(']'));
    if let Some(item) = inside("list[") {
        return Some(Kind::List(Box::new(parse_kind(item, names)?)));
    }
    if let Some(item) = inside("dict[str,") {
        return Some(Kind::Dict(Box::new(parse_kind(item, names)?)));
    }
    Some(match text {
        "str" => Kind::Text,
        "int" => Kind::Int,
        "bool" => Kind::Bool,
        "datetime" => Kind::Time,
        "object" => Kind::Any,
        class => Kind::Model(names.iter().position(|name| *name == class)?),
    })
}

impl Class {
    /// The class of that name. None for one that this version of the table does not know.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        classes().iter().find(|class| class.name == name)
    }

    fn field(&self, json: &str) -> Option<&Field> {
        self.fields.binary_search_by_key(&json, |field| field.json).ok().map(|at| &self.fields[at])
    }

    /// The class of a field that holds one model.
    pub(crate) fn model_of(&self, json: &str) -> Option<&'static Self> {
        match &self.field(json)?.kind {
            Kind::Model(index) => classes().get(*index),
            _ => None,
        }
    }

    /// The class of the items of a field that holds a list of models.
    pub(crate) fn item_of(&self, json: &str) -> Option<&'static Self> {
        match &self.field(json)?.kind {
            Kind::List(item) => match **item {
                Kind::Model(index) => classes().get(index),
                _ => None,
            },
            _ => None,
        }
    }

    /// JSON key of a Python attribute (`image_pull_policy`).
    fn json_key(&self, attribute: &str) -> Option<&'static str> {
        let by_name = self.fields.iter().find(|field| field.attribute == Some(attribute));
        by_name
            .or_else(|| self.field(&camel(attribute)).filter(|field| field.attribute.is_none()))
            .map(|f| f.json)
    }

    /// Whether Python takes the field's value for true. An object of the client is, also when it holds nothing.
    pub(crate) fn truthy(&self, json: &str, value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Bool(b) => *b,
            Value::Number(n) => n.as_f64() != Some(0.0),
            Value::String(s) => !s.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => {
                !items.is_empty() || matches!(self.field(json).map(|f| &f.kind), Some(Kind::Model(_)))
            }
        }
    }

    /// The value as an object of this class.
    pub(crate) fn read(&self, value: &Py) -> Result<Object, FieldError> {
        self.read_at(value, &Path { parent: None, step: Step::Root })
    }

    fn read_at(&self, value: &Py, path: &Path<'_>) -> Result<Object, FieldError> {
        let mut object = Object::new();
        match value {
            Py::Dict(entries) => {
                for (key, value) in entries {
                    let Py::Str(key) = key else { continue };
                    let Some(field) = self.field(key) else { continue };
                    if *value == Py::None {
                        continue;
                    }
                    let value = field.kind.read(value, &path.then(Step::Field(key)))?;
                    object.insert(key.clone(), value);
                }
            }
            // The client looks for its keys in the list and, where it finds one, indexes the list with it.
            Py::List(items) if items.iter().any(|i| matches!(i, Py::Str(s) if self.field(s).is_some())) => {
                return Err(path.error("is a list where an object is expected"));
            }
            // Anything else counts as an object without fields.
            _ => {}
        }
        match self.fields.iter().find(|field| field.required && !object.contains_key(field.json)) {
            Some(missing) => Err(path.then(Step::Field(missing.json)).error("is missing and must be set")),
            None => Ok(object),
        }
    }
}

impl Kind {
    fn read(&self, value: &Py, path: &Path<'_>) -> Result<Value, FieldError> {
        if *value == Py::None {
            return Ok(Value::Null);
        }
        match self {
            Self::Text => Ok(Value::String(value.to_text())),
            Self::Bool => Ok(Value::Bool(value.truthy())),
            Self::Any => value.to_json().ok_or_else(|| path.error("is a number that JSON does not have")),
            Self::Int => match value.to_int() {
                AsInt::Int(i) => {
                    int_json(i).map(Value::Number).ok_or_else(|| path.error("is no 64-bit number"))
                }
                AsInt::Keep => value.to_json().ok_or_else(|| path.error("is no number")),
                AsInt::Invalid => {
                    Err(path.error(format!("is `{}` where a whole number is expected", value.to_text())))
                }
            },
            Self::Time => match value {
                Py::Str(text) => match time::parse(text) {
                    Some(time) => Ok(Value::String(time.iso('T'))),
                    None => Err(path.error(format!("is `{text}` where a time (RFC 3339) is expected"))),
                },
                // The client parses texts only.
                _ => Err(path.error("must be a text in quotes that holds a time")),
            },
            Self::Model(index) => match classes().get(*index) {
                Some(class) => class.read_at(value, path).map(Value::Object),
                None => Ok(Value::Null),
            },
            Self::List(item) => read_list(item, value, path),
            Self::Dict(item) => {
                let Py::Dict(entries) = value else {
                    return Err(path.error("must be a mapping"));
                };
                let mut object = Object::new();
                for (key, value) in entries {
                    let key = key.json_key();
                    let value = item.read(value, &path.then(Step::Field(&key)))?;
                    object.insert(key, value);
                }
                Ok(Value::Object(object))
            }
        }
    }
}

/// A list is whatever Python iterates over: of a text its characters, of a mapping its keys.
fn read_list(item: &Kind, value: &Py, path: &Path<'_>) -> Result<Value, FieldError> {
    let read = |(at, value): (usize, &Py)| item.read(value, &path.then(Step::Item(at)));
    let items = match value {
        Py::List(items) => items.iter().enumerate().map(read).collect::<Result<_, _>>()?,
        Py::Dict(entries) => {
            entries.iter().map(|(key, _)| key).enumerate().map(read).collect::<Result<_, _>>()?
        }
        Py::Str(text) => {
            let characters: Vec<Py> = text.chars().map(|c| Py::Str(c.into())).collect();
            characters.iter().enumerate().map(read).collect::<Result<_, _>>()?
        }
        _ => return Err(path.error("must be a list")),
    };
    Ok(Value::Array(items))
}

/// JSON key for a Python attribute of a model class: how an object of the Kubernetes client in a pickle, which knows
/// attributes only, becomes API JSON. An attribute of a class or version that is not in the table is put in camel
/// case; reading drops it later.
pub fn json_key(class: &str, attribute: &str) -> String {
    let known = Class::named(class).and_then(|class| class.json_key(attribute));
    known.map_or_else(|| camel(attribute), str::to_owned)
}

fn camel(attribute: &str) -> String {
    let mut out = String::with_capacity(attribute.len());
    for (at, word) in attribute.trim_start_matches('_').split('_').enumerate() {
        let mut characters = word.chars();
        match characters.next() {
            Some(first) if at > 0 => out.extend(first.to_uppercase().chain(characters)),
            _ => out.push_str(word),
        }
    }
    out
}

/// Where a value stands, linked along the call stack: written out only for an error.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    fn then(&'a self, step: Step<'a>) -> Path<'a> {
        Path { parent: Some(self), step }
    }

    fn error(&self, what: impl Into<String>) -> FieldError {
        let mut path = String::new();
        self.write(&mut path);
        FieldError { path: if path.is_empty() { "the pod".into() } else { path }, what: what.into() }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Root => {}
            Step::Field(name) if out.is_empty() => out.push_str(name),
            Step::Field(name) => {
                let _ = write!(out, ".{name}");
            }
            Step::Item(at) => {
                let _ = write!(out, "[{at}]");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        let (classes_in, fields_in): (Vec<_>, Vec<_>) = lines.partition(|line| !line.starts_with(' '));
        assert_eq!(classes().len(), classes_in.len());
        assert_eq!(classes().iter().map(|c| c.fields.len()).sum::<usize>(), fields_in.len());
    }

    fn read(pod: Value) -> Result<Value, String> {
        let class = Class::named("V1Pod").unwrap();
        class.read(&Py::from(&pod)).map(Value::Object).map_err(|e| e.to_string())
    }

    #[test]
    fn values_are_coerced_as_the_client_does() {
        let given = json!({"kind": "Pod", "metadata": {"labels": {"n": 1, "b": true, "none": null}, "x": 1}, "spec": {
            "containers": [{"name": false, "args": "ab", "ports": [{"containerPort": "80"}], "command": {"k": 1}}],
            "hostNetwork": "false", "terminationGracePeriodSeconds": 1.9, "priority": [1]}});
        let want = json!({"kind": "Pod", "metadata": {"labels": {"n": "1", "b": "True", "none": null}}, "spec": {
            "containers": [{"name": "False", "args": ["a", "b"], "ports": [{"containerPort": 80}], "command": ["k"]}],
            "hostNetwork": true, "terminationGracePeriodSeconds": 1, "priority": [1]}});
        assert_eq!(read(given).unwrap(), want);
    }

    #[test]
    fn a_field_that_does_not_fit_is_named() {
        let cases = [
            (json!({"spec": {}}), "`spec.containers` is missing and must be set"),
            (json!({"spec": {"containers": [{}]}}), "`spec.containers[0].name` is missing and must be set"),
            (json!({"metadata": {"labels": ["a"]}}), "`metadata.labels` must be a mapping"),
            (json!({"metadata": {"finalizers": 1}}), "`metadata.finalizers` must be a list"),
            (json!({"spec": ["containers"]}), "`spec` is a list where an object is expected"),
            (
                json!({"metadata": {"generation": "x"}}),
                "`metadata.generation` is `x` where a whole number is expected",
            ),
            (
                json!({"metadata": {"creationTimestamp": "soon"}}),
                "`metadata.creationTimestamp` is `soon` where a time (RFC 3339) is expected",
            ),
        ];
        for (given, want) in cases {
            assert_eq!(read(given).unwrap_err(), want);
        }
    }

    #[test]
    fn attributes_have_their_json_keys() {
        assert_eq!(json_key("V1PodStatus", "pod_ips"), "podIPs");
        assert_eq!(json_key("V1Probe", "_exec"), "exec");
        assert_eq!(json_key("V1PodSpec", "set_hostname_as_fqdn"), "setHostnameAsFQDN");
        assert_eq!(json_key("V1Gone", "some_field"), "someField");
    }
}
