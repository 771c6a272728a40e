//! From the values of a pickle to JSON: plain data as it is, objects of the Kubernetes client by their attributes
//! (rows that an Airflow before 2.4 wrote), times as texts. Any other object is refused by name.

use std::fmt::Write;

use serde_json::{Map, Number, Value as Json};
use windlass_core::pod;

use super::value::{Arena, Id, Object, Value};
use super::{DecodeError, time};

/// Deepest nesting. A pod has about 15 levels.
const DEPTH_MAX: usize = 64;
/// Most bytes after shared values are written out; a chain of shared lists would double with each level.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a value costs of them apart from its text.
const VALUE_BYTES: usize = 16;

/// Modules whose classes are the Kubernetes client's models.
const MODEL_MODULES: [&str; 2] = ["kubernetes.client.models", "kubernetes_asyncio.client.models"];

/// The class of an object of the Kubernetes client.
pub(super) fn model_class<'v>(arena: &'v Arena<'_>, id: Id) -> Option<&'v str> {
    let Value::Object(object) = arena.get(id) else { return None };
    let (module, class) = arena.global(object.class)?;
    let known = MODEL_MODULES
        .iter()
        .any(|known| module.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    known.then_some(class)
}

/// The value as JSON. `name` says where it stands, for errors.
pub(super) fn to_json(arena: &Arena<'_>, id: Id, name: &str) -> Result<Json, DecodeError> {
    let mut writer = Writer { arena, path: name.to_owned(), open: Vec::new(), left: BYTES_MAX };
    writer.value(id)
}

struct Writer<'v, 'a> {
    arena: &'v Arena<'a>,
    /// Of the value being written.
    path: String,
    /// Collections being written: one met again contains itself.
    open: Vec<Id>,
    left: usize,
}

impl Writer<'_, '_> {
    fn value(&mut self, id: Id) -> Result<Json, DecodeError> {
        self.charge(VALUE_BYTES)?;
        if self.open.len() > DEPTH_MAX || self.open.contains(&id) {
            return Err(DecodeError::TooDeep { path: self.path.clone() });
        }
        self.open.push(id);
        let json = self.open_value(id)?;
        self.open.pop();
        Ok(json)
    }

    fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| DecodeError::TooLarge {
            what: format!("a pod_override of over {BYTES_MAX} bytes"),
        })?;
        Ok(())
    }

    fn open_value(&mut self, id: Id) -> Result<Json, DecodeError> {
        let arena = self.arena;
        match arena.get(id) {
            Value::None => Ok(Json::Null),
            Value::Bool(b) => Ok(Json::Bool(*b)),
            Value::Int(i) => Number::from_i128(*i).map(Json::Number).ok_or_else(|| self.foreign(id)),
            Value::Float(f) => Number::from_f64(*f).map(Json::Number).ok_or_else(|| self.foreign(id)),
            Value::Str(text) => {
                self.charge(text.len())?;
                Ok(Json::String(text.to_string()))
            }
            Value::List(items) | Value::Tuple(items) => self.list(items),
            Value::Dict(pairs) => {
                let mut object = Map::new();
                for (key, value) in pairs {
                    let key = self.key(*key)?;
                    let value = self.within(&key, *value)?;
                    object.insert(key, value);
                }
                Ok(Json::Object(object))
            }
            Value::Object(object) => match model_class(arena, id) {
                Some(class) => self.model(class, object),
                None => time::iso(arena, object).map(Json::String).ok_or_else(|| self.foreign(id)),
            },
            Value::BigInt | Value::Bytes(_) | Value::Set(_) | Value::Global { .. } => Err(self.foreign(id)),
        }
    }

    fn foreign(&self, id: Id) -> DecodeError {
        DecodeError::Foreign { path: self.path.clone(), found: self.arena.describe(id) }
    }

    fn list(&mut self, items: &[Id]) -> Result<Json, DecodeError> {
        let mut list = Vec::with_capacity(items.len().min(1000));
        for (at, item) in items.iter().enumerate() {
            let before = self.path.len();
            let _ = write!(self.path, "[{at}]");
            list.push(self.value(*item)?);
            self.path.truncate(before);
        }
        Ok(Json::Array(list))
    }

    fn within(&mut self, key: &str, value: Id) -> Result<Json, DecodeError> {
        self.charge(key.len())?;
        let before = self.path.len();
        self.path.push('.');
        self.path.extend(key.chars().take(80));
        let json = self.value(value)?;
        self.path.truncate(before);
        Ok(json)
    }

    /// Keys as `json.dumps` writes those that are no texts.
    fn key(&self, id: Id) -> Result<String, DecodeError> {
        match self.arena.get(id) {
            Value::Str(text) => Ok(text.to_string()),
            Value::None => Ok("null".to_owned()),
            Value::Bool(b) => Ok(b.to_string()),
            Value::Int(i) => Ok(i.to_string()),
            _ => Err(self.foreign(id)),
        }
    }

    /// The attributes of a model: those that are None are not set, as in its `sanitize_for_serialization`.
    fn model(&mut self, class: &str, object: &Object) -> Result<Json, DecodeError> {
        let mut json = Map::new();
        let pairs = match object.state.map(|state| self.arena.get(state)) {
            Some(Value::Dict(pairs)) => pairs.as_slice(),
            _ => &[],
        };
        for (key, value) in pairs {
            let Some(attribute) = self.arena.text(*key).and_then(|key| attribute(class, key)) else {
                continue;
            };
            if matches!(self.arena.get(*value), Value::None) {
                continue;
            }
            let key = pod::json_key(class, attribute);
            let value = self.within(&key, *value)?;
            json.insert(key, value);
        }
        Ok(Json::Object(json))
    }
}

/// The attribute that a private variable of a model holds: `_image` is `image`; `_exec`, whose variable would begin
/// with two underscores, is stored under its class (`_V1Probe__exec`). None for what is no field.
fn attribute<'k>(class: &str, variable: &'k str) -> Option<&'k str> {
    let rest = variable.strip_prefix('_')?;
    rest.strip_prefix(class).and_then(|rest| rest.strip_prefix("__")).or(Some(rest))
}
