//! Label and field selectors, parsed from the query and matched against objects.

use serde_json::Value;

use super::resource::Resource;
use super::status::ApiError;

/// `labelSelector` and `fieldSelector` of one request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone)]
struct Requirement {
    key: String,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    In(Vec<String>),
    /// Also true when the label is absent.
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

#[derive(Debug, Clone)]
struct FieldTerm {
    field: String,
    value: String,
    equal: bool,
}

impl Selector {
    pub(crate) fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = split_top_level(labels).into_iter().map(requirement).collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|t| !t.trim().is_empty())
            .map(|t| field_term(resource, t))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|r| r.matches(labels[r.key.as_str()].as_str()))
            && self.fields.iter().all(|t| (field_of(object, &t.field) == t.value) == t.equal)
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        match &self.rule {
            Rule::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Rule::NotIn(values) => value.is_none_or(|v| values.iter().all(|w| w != v)),
            Rule::Exists => value.is_some(),
            Rule::DoesNotExist => value.is_none(),
        }
    }
}

/// Splits at commas that are not inside parentheses.
fn split_top_level(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn requirement(term: &str) -> Result<Requirement, ApiError> {
    let made = |key: &str, rule| Requirement { key: key.trim().to_owned(), rule };
    if let Some(key) = term.strip_prefix('!') {
        return check(made(key, Rule::DoesNotExist));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return check(made(key, Rule::NotIn(vec![value.trim().to_owned()])));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return check(made(key, Rule::In(vec![value.trim().to_owned()])));
    }
    let Some((head, set)) = term.split_once('(') else {
        return check(made(term, Rule::Exists));
    };
    let Some(set) = set.trim_end().strip_suffix(')') else {
        return Err(ApiError::bad_request("unable to parse requirement: found '', expected: ',' or ')'"));
    };
    let values: Vec<String> = set.split(',').map(|v| v.trim().to_owned()).collect();
    match head.split_whitespace().collect::<Vec<_>>().as_slice() {
        [key, "in"] => check(made(key, Rule::In(values))),
        [key, "notin"] => check(made(key, Rule::NotIn(values))),
        _ => Err(unparsable(term)),
    }
}

fn check(requirement: Requirement) -> Result<Requirement, ApiError> {
    let key_ok = !requirement.key.is_empty()
        && requirement.key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if key_ok { Ok(requirement) } else { Err(unparsable(&requirement.key)) }
}

fn unparsable(term: &str) -> ApiError {
    ApiError::bad_request(format!(
        "unable to parse requirement: <nil>: Invalid value: {term:?}: found '{term}', expected: identifier"
    ))
}

fn field_term(resource: &Resource, term: &str) -> Result<FieldTerm, ApiError> {
    let (field, value, equal) = if let Some((f, v)) = term.split_once("!=") {
        (f, v, false)
    } else if let Some((f, v)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (f, v, true)
    } else {
        return Err(ApiError::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'")));
    };
    let field = field.trim().to_owned();
    if !is_selectable(resource, &field) {
        return Err(ApiError::bad_request(format!("field label not supported: {field}")));
    }
    Ok(FieldTerm { field, value: value.trim().to_owned(), equal })
}

/// The fields that the real server selects by, per kind.
fn is_selectable(resource: &Resource, field: &str) -> bool {
    const POD: &[&str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ];
    const EVENT: &[&str] = &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];
    let own: &[&str] = match resource.kind {
        "Pod" => POD,
        "Event" => EVENT,
        "Node" => &["spec.unschedulable"],
        "Namespace" => &["status.phase"],
        "Secret" => &["type"],
        _ => &[],
    };
    field == "metadata.name" || (field == "metadata.namespace" && resource.namespaced) || own.contains(&field)
}

fn field_of<'a>(object: &'a Value, field: &str) -> &'a str {
    let mut at = object;
    for part in field.split('.') {
        at = &at[part];
    }
    match at {
        Value::String(text) => text,
        Value::Bool(true) => "true",
        // An absent boolean reads as false, an absent string as empty.
        _ if matches!(field, "spec.hostNetwork" | "spec.unschedulable") => "false",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::resource::PODS;
    use super::*;

    fn matches(labels: &str, fields: &str) -> bool {
        let pod = json!({ "metadata": { "name": "p", "labels": { "a": "b", "empty": "" } },
                          "spec": { "nodeName": "n1" }, "status": { "phase": "Running" } });
        Selector::parse(&PODS, labels, fields).expect("parses").matches(&pod)
    }

    #[test]
    fn labels_match_as_the_real_server_does() {
        for yes in
            ["", "a", "a=b", "a==b", "a!=c", "x!=c", "!x", "a in (b, c),!x", "a notin (c)", "x notin (c)"]
        {
            assert!(matches(yes, ""), "{yes}");
        }
        for no in ["x", "a=c", "a!=b", "!a", "a in (c)", "a notin (b)", "x in (b)", "a=b,x=1"] {
            assert!(!matches(no, ""), "{no}");
        }
        assert!(matches("empty=", ""));
    }

    #[test]
    fn fields_match_and_unknown_ones_are_refused() {
        assert!(matches("", "spec.nodeName=n1,status.phase!=Failed"));
        assert!(!matches("", "spec.nodeName="));
        assert!(!matches("", "metadata.name!=p"));
        let error = Selector::parse(&PODS, "", "foo=bar").expect_err("is not selectable");
        assert_eq!(error.body()["message"], "field label not supported: foo");
    }
}
