//! Kubernetes' LabelSelector: what `metav1.LabelSelectorAsSelector` makes of it, and what it matches.
//!
//! Rules: k8s.io/apimachinery, `pkg/apis/meta/v1/helpers.go`, `pkg/labels/selector.go` (NewRequirement, Matches) and
//! `pkg/util/validation` (label keys and values).

use std::collections::BTreeMap;

use serde_json::Value;

use super::field::Field;
use crate::pod::FieldError;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Longest label value, and longest name in a label key, in bytes.
const LABEL_MAX: usize = 63;
/// Longest prefix of a label key, in bytes.
const PREFIX_MAX: usize = 253;

/// A valid selector, read once and matched often. Without requirements it matches everything.
///
/// "No selector" is not one of these: [`LabelSelector::read`] answers `None`, and who asks says what that means.
/// (Go's `LabelSelectorAsSelector` makes one of it that matches nothing.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All of them must hold.
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

/// Why a selector selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A field of another type. The API server refuses such an object, so it is in no cluster.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// An operator that matchExpressions does not know. Upper and lower case differ.
    #[error("`{operator}` on label `{key}` is no operator; use In, NotIn, Exists or DoesNotExist")]
    Operator {
        /// The label's key.
        key: String,
        /// What stands in `operator`.
        operator: String,
    },
    /// `In` or `NotIn` without values.
    #[error("{operator} on label `{key}` has no values; list at least one, or use Exists or DoesNotExist")]
    NoValues {
        /// The label's key.
        key: String,
        /// `In` or `NotIn`.
        operator: String,
    },
    /// `Exists` or `DoesNotExist` with values.
    #[error("{operator} on label `{key}` has values; leave them out, or use In or NotIn")]
    Values {
        /// The label's key.
        key: String,
        /// `Exists` or `DoesNotExist`.
        operator: String,
    },
    /// A key that no label can have.
    #[error("`{key}` can't be the key of a label: {why}")]
    Key {
        /// The key.
        key: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A value that no label can have.
    #[error(
        "`{value}` can't be a value of label `{key}`: it has at most 63 letters, digits, `-`, `_` and `.`, and begins \
         and ends with a letter or digit"
    )]
    Value {
        /// The label's key.
        key: String,
        /// The value.
        value: String,
    },
}

impl LabelSelector {
    /// Reads the JSON of a LabelSelector. `None` for null: there is no selector.
    ///
    /// # Errors
    /// A field of another type, or a rule that Kubernetes has for selectors.
    pub fn read(selector: &Value) -> Result<Option<Self>, SelectorError> {
        Self::read_at(&Field::root("", selector))
    }

    /// [`Self::read`] with the place of the selector for errors.
    pub(crate) fn read_at(selector: &Field<'_>) -> Result<Option<Self>, SelectorError> {
        if selector.is_null() {
            return Ok(None);
        }
        // Types first: an error of type is one of the input, whatever else is wrong.
        let labels = selector.get("matchLabels")?.map()?;
        let field = selector.get("matchExpressions")?;
        let expressions = field.items()?.iter().map(Expression::read).collect::<Result<Vec<_>, _>>()?;
        let mut requirements = Vec::with_capacity(labels.len() + expressions.len());
        for (key, value) in labels {
            requirements.push(Requirement::checked(key, Test::In(vec![value]))?);
        }
        for expression in expressions {
            requirements.push(expression.requirement()?);
        }
        Ok(Some(Self { requirements }))
    }

    /// Whether it selects an object with these labels. `NotIn` and `DoesNotExist` hold where the key is absent.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels.get(&requirement.key)))
    }
}

/// An item of matchExpressions.
struct Expression {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl Expression {
    fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            key: field.get("key")?.text()?,
            operator: field.get("operator")?.text()?,
            values: field.get("values")?.texts()?,
        })
    }

    fn requirement(self) -> Result<Requirement, SelectorError> {
        let Self { key, operator, values } = self;
        let test = match (operator.as_str(), values.is_empty()) {
            ("In" | "NotIn", true) => return Err(SelectorError::NoValues { key, operator }),
            ("Exists" | "DoesNotExist", false) => return Err(SelectorError::Values { key, operator }),
            ("In", false) => Test::In(values),
            ("NotIn", false) => Test::NotIn(values),
            ("Exists", true) => Test::Exists,
            ("DoesNotExist", true) => Test::DoesNotExist,
            _ => return Err(SelectorError::Operator { key, operator }),
        };
        Requirement::checked(key, test)
    }
}

impl Requirement {
    fn checked(key: String, test: Test) -> Result<Self, SelectorError> {
        if let Some(why) = key_fault(&key) {
            return Err(SelectorError::Key { key, why });
        }
        if let Test::In(values) | Test::NotIn(values) = &test
            && let Some(value) = values.iter().find(|value| !is_label_value(value))
        {
            return Err(SelectorError::Value { value: value.clone(), key });
        }
        Ok(Self { key, test })
    }

    fn holds(&self, label: Option<&String>) -> bool {
        match &self.test {
            Test::In(values) => label.is_some_and(|label| values.contains(label)),
            Test::NotIn(values) => label.is_none_or(|label| !values.contains(label)),
            Test::Exists => label.is_some(),
            Test::DoesNotExist => label.is_none(),
        }
    }
}

/// `IsValidLabelValue`: empty, or up to 63 letters, digits, `-`, `_`, `.` with a letter or digit at both ends.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// What is wrong with the key of a label or annotation, by `IsQualifiedName`: a name, perhaps after a prefix and `/`.
pub fn key_fault(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.contains('/') {
        Some("it has more than one `/`")
    } else if !prefix.is_none_or(is_subdomain) {
        Some("the part before the `/` is no DNS name of at most 253 lower case letters, digits, `-` and `.`")
    } else if !is_name(name) {
        Some(
            "its name is not 1 to 63 letters, digits, `-`, `_` and `.` that begin and end with a letter or digit",
        )
    } else {
        None
    }
}

/// Up to 63 letters, digits, `-`, `_`, `.`; a letter or digit at both ends.
fn is_name(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= LABEL_MAX && text.bytes().all(inside) && ends(text, |byte| byte.is_ascii_alphanumeric())
}

/// `IsDNS1123Subdomain`. It has no limit for the length of one part.
fn is_subdomain(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| part.bytes().all(|byte| letter(byte) || byte == b'-') && ends(part, letter);
    text.len() <= PREFIX_MAX && text.split('.').all(part)
}

/// Whether there is a first and a last byte and both are `allowed`.
fn ends(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| allowed(*byte)) && bytes.last().is_some_and(|byte| allowed(*byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn read(selector: Value) -> LabelSelector {
        LabelSelector::read(&selector).unwrap().unwrap()
    }

    fn error(selector: Value) -> String {
        LabelSelector::read(&selector).unwrap_err().to_string()
    }

    fn expression(key: &str, operator: &str, values: Value) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn no_selector_and_one_that_selects_everything() {
        assert_eq!(LabelSelector::read(&json!(null)), Ok(None));
        for all in [
            json!({}),
            json!({"matchLabels": {}, "matchExpressions": []}),
            json!({"matchLabels": null, "matchExpressions": null}),
            json!({"unknown": 1}),
        ] {
            let selector = read(all);
            assert!(selector.matches(&labels(&[])) && selector.matches(&labels(&[("a", "b")])));
        }
    }

    #[test]
    fn every_operator_on_a_key_with_a_value_without_one_and_absent() {
        let cases = [
            ("In", json!(["a", "b"]), [true, false, false, false]),
            ("In", json!(["", "b"]), [false, true, false, false]),
            ("NotIn", json!(["a", "b"]), [false, true, true, true]),
            ("NotIn", json!([""]), [true, false, true, true]),
            ("Exists", json!([]), [true, true, true, false]),
            ("Exists", json!(null), [true, true, true, false]),
            ("DoesNotExist", json!([]), [false, false, false, true]),
        ];
        for (operator, values, expected) in cases {
            let selector = read(expression("k", operator, values.clone()));
            let objects =
                [labels(&[("k", "a")]), labels(&[("k", "")]), labels(&[("k", "A")]), labels(&[("K", "a")])];
            assert_eq!(objects.map(|object| selector.matches(&object)), expected, "{operator} {values}");
        }
    }

    #[test]
    fn all_requirements_must_hold_also_on_the_same_key() {
        let selector = read(json!({
            "matchLabels": {"tier": "airflow", "team": ""},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["web"]},
                {"key": "dag_id", "operator": "Exists"},
            ],
        }));
        let mut object = labels(&[("tier", "airflow"), ("team", ""), ("dag_id", "d")]);
        assert!(selector.matches(&object));
        object.remove("dag_id");
        assert!(!selector.matches(&object));
        let never = read(json!({
            "matchLabels": {"k": "a"},
            "matchExpressions": [{"key": "k", "operator": "DoesNotExist"}],
        }));
        assert!(!never.matches(&labels(&[("k", "a")])) && !never.matches(&labels(&[])));
    }

    #[test]
    fn labels_of_the_object_are_not_checked() {
        // An object's own labels were checked by the API server; here they are only compared.
        assert!(read(expression("k", "NotIn", json!(["a"]))).matches(&labels(&[("k", "no label value!")])));
    }

    #[test]
    fn operators_and_their_values() {
        for operator in ["in", "IN", "notin", "Equals", "=", "==", "!=", "Gt", "Lt", "", " In"] {
            assert_eq!(
                error(expression("k", operator, json!(["1"]))),
                format!("`{operator}` on label `k` is no operator; use In, NotIn, Exists or DoesNotExist")
            );
        }
        assert!(
            error(json!({"matchExpressions": [{"key": "k"}]})).starts_with("`` on label `k` is no operator")
        );
        for values in [json!([]), json!(null)] {
            assert!(
                error(expression("k", "In", values.clone())).starts_with("In on label `k` has no values;")
            );
            assert!(error(expression("k", "NotIn", values)).starts_with("NotIn on label `k` has no values;"));
        }
        for operator in ["Exists", "DoesNotExist"] {
            let told = error(expression("k", operator, json!([""])));
            assert_eq!(
                told,
                format!("{operator} on label `k` has values; leave them out, or use In or NotIn")
            );
        }
    }

    #[test]
    fn label_keys() {
        let long_prefix = format!("{}a.b", "a.".repeat(125)); // 253
        let good = [
            "k".to_owned(),
            "K_1.x-y".into(),
            "n".repeat(63),
            "windlass.dev/sgp".into(),
            "a/b".into(),
            "0.x-y/B_C".into(),
            format!("{}/k", "p".repeat(64)),
            format!("{long_prefix}/{}", "n".repeat(63)),
        ];
        for key in good {
            for selector in [json!({"matchLabels": {&key: "v"}}), expression(&key, "Exists", json!([]))] {
                assert!(read(selector).matches(&labels(&[(&key, "v")])), "{key}");
            }
        }
        let bad = [
            String::new(),
            "n".repeat(64),
            "-k".into(),
            "k-".into(),
            ".k".into(),
            "k_".into(),
            "a b".into(),
            "k\n".into(),
            "schlüssel".into(),
            "/k".into(),
            "p/".into(),
            "/".into(),
            "a/b/c".into(),
            "Upper.case/k".into(),
            "under_score/k".into(),
            "a..b/k".into(),
            "-a/k".into(),
            "a-/k".into(),
            "a./k".into(),
            format!("x{long_prefix}/k"),
        ];
        for key in bad {
            for selector in [json!({"matchLabels": {&key: "v"}}), expression(&key, "DoesNotExist", json!([]))]
            {
                let told = error(selector);
                assert!(told.starts_with(&format!("`{key}` can't be the key of a label: ")), "{told}");
            }
        }
    }

    #[test]
    fn label_values() {
        for value in ["", "a", "A.b_c-9", &"v".repeat(63), "1"] {
            assert!(read(json!({"matchLabels": {"k": value}})).matches(&labels(&[("k", value)])));
            assert!(read(expression("k", "In", json!(["x", value]))).matches(&labels(&[("k", value)])));
        }
        for value in ["-a", "a-", ".", "_", "a/b", "a b", " ", "a\n", "ä", &"v".repeat(64)] {
            for selector in [
                json!({"matchLabels": {"k": value}}),
                expression("k", "In", json!(["ok", value])),
                expression("k", "NotIn", json!([value])),
            ] {
                assert!(error(selector).starts_with(&format!("`{value}` can't be a value of label `k`")));
            }
        }
    }

    #[test]
    fn one_bad_requirement_spoils_the_selector() {
        let mixed = json!({"matchLabels": {"k": "a"}, "matchExpressions": [
            {"key": "k", "operator": "Exists"}, {"key": "k", "operator": "Gt", "values": ["1"]},
        ]});
        assert!(matches!(LabelSelector::read(&mixed), Err(SelectorError::Operator { .. })));
    }

    #[test]
    fn other_types() {
        assert_eq!(error(json!([])), "`the object` must be an object, is a list");
        assert_eq!(error(json!({"matchLabels": {"k": 1}})), "`matchLabels.k` must be a text, is a number");
        assert_eq!(error(json!({"matchExpressions": {}})), "`matchExpressions` must be a list, is an object");
        assert_eq!(
            error(expression("k", "In", json!("a"))),
            "`matchExpressions[0].values` must be a list, is a text"
        );
        assert_eq!(
            error(json!({"matchExpressions": ["x"]})),
            "`matchExpressions[0]` must be an object, is a text"
        );
    }
}
