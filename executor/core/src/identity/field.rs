//! Reading JSON objects of Kubernetes with errors that name the field.
//!
//! As in Go, `null` is the same as absent, and stands for the empty text in a list or a map of texts.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pod::FieldError;

static NULL: Value = Value::Null;

/// A value and where it stands. The path is put together only if there is an error to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
    value: &'a Value,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Field<'a> {
    /// A whole object. `name` begins the paths; it may be empty.
    pub(crate) fn root(name: &'a str, value: &'a Value) -> Self {
        Self { parent: None, step: Step::Name(name), value }
    }

    /// The field `name` of an object; null where either is absent.
    pub(crate) fn get(&'a self, name: &'a str) -> Result<Self, FieldError> {
        let value = match self.value {
            Value::Object(fields) => fields.get(name).unwrap_or(&NULL),
            Value::Null => &NULL,
            _ => return Err(self.must_be("an object")),
        };
        Ok(Self { parent: Some(self), step: Step::Name(name), value })
    }

    /// Whether it is null or absent.
    pub(crate) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// A text; empty where absent.
    pub(crate) fn text(&self) -> Result<String, FieldError> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            _ => Err(self.must_be("a text")),
        }
    }

    /// A text that an object can't be without.
    pub(crate) fn required_text(&self) -> Result<String, FieldError> {
        let text = self.text()?;
        if text.is_empty() { Err(self.error("is missing")) } else { Ok(text) }
    }

    /// A boolean; false where absent.
    pub(crate) fn flag(&self) -> Result<bool, FieldError> {
        match self.value {
            Value::Bool(flag) => Ok(*flag),
            Value::Null => Ok(false),
            _ => Err(self.must_be("true or false")),
        }
    }

    /// The items of a list; none where absent.
    pub(crate) fn items(&'a self) -> Result<Vec<Self>, FieldError> {
        let items = match self.value {
            Value::Array(items) => items.as_slice(),
            Value::Null => &[],
            _ => return Err(self.must_be("a list")),
        };
        let item = |(index, value)| Self { parent: Some(self), step: Step::Index(index), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// A list of texts.
    pub(crate) fn texts(&self) -> Result<Vec<String>, FieldError> {
        self.items()?.iter().map(Field::text).collect()
    }

    /// A map of texts, such as labels.
    pub(crate) fn map(&self) -> Result<BTreeMap<String, String>, FieldError> {
        let fields = match self.value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(BTreeMap::new()),
            _ => return Err(self.must_be("an object")),
        };
        let entry = |(name, value): (&String, &Value)| {
            let text = Field { parent: Some(self), step: Step::Name(name), value }.text()?;
            Ok((name.clone(), text))
        };
        fields.iter().map(entry).collect()
    }

    /// An error at this place; `what` ends its sentence.
    pub(crate) fn error(&self, what: impl Into<String>) -> FieldError {
        let mut path = String::new();
        self.write_path(&mut path);
        FieldError { path: if path.is_empty() { "the object".into() } else { path }, what: what.into() }
    }

    fn must_be(&self, wanted: &str) -> FieldError {
        self.error(format!("must be {wanted}, is {}", kind_of(self.value)))
    }

    fn write_path(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_path(path);
        }
        match self.step {
            Step::Name(name) => {
                if !path.is_empty() && !name.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
}

/// What a JSON value is, with its article.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_name_the_field() {
        let policies = json!([{}, {"spec": {"matchLabels": {"tier": 5}, "ids": ["a", null, {}]}}]);
        let root = Field::root("policies", &policies);
        let items = root.items().unwrap();
        let spec = items[1].get("spec").unwrap();
        let told = |error: FieldError| error.to_string();
        assert_eq!(
            told(spec.get("matchLabels").unwrap().map().unwrap_err()),
            "`policies[1].spec.matchLabels.tier` must be a text, is a number"
        );
        assert_eq!(
            told(spec.get("ids").unwrap().texts().unwrap_err()),
            "`policies[1].spec.ids[2]` must be a text, is an object"
        );
        assert_eq!(
            told(items[0].get("x").unwrap().required_text().unwrap_err()),
            "`policies[0].x` is missing"
        );
        assert_eq!(told(root.get("x").unwrap_err()), "`policies` must be an object, is a list");
        assert_eq!(
            told(Field::root("", &json!(true)).get("x").unwrap_err()),
            "`the object` must be an object, is a boolean"
        );
    }

    #[test]
    fn null_is_absent() {
        let value = json!({"a": null, "list": ["x", null], "map": {"k": null}});
        let root = Field::root("", &value);
        let a = root.get("a").unwrap();
        assert!(a.is_null() && !a.flag().unwrap() && a.text().unwrap().is_empty());
        assert!(a.get("deeper").unwrap().map().unwrap().is_empty());
        assert_eq!(root.get("list").unwrap().texts().unwrap(), ["x", ""]);
        assert_eq!(root.get("map").unwrap().map().unwrap()["k"], "");
    }
}
