//! I7: no task gets an identity that its rule does not allow.
//!
//! The measure is the pod that the task would have without its executor_config: template, task and rule. What
//! executor_config makes different, of all by which a pod could have another identity ([`surface`](super::surface)), has
//! to be named in the rule's `may-override`. So a template may do what it likes: it is the platform's.

use std::fmt;

use serde_json::Value;

use super::rules::Rule;
use super::surface::{Item, Surface};
use super::{Freedom, Freedoms};

/// What a pod may have.
#[derive(Clone, Debug)]
pub struct Measure(Surface);

impl Measure {
    /// `pod`: as it would be without what is to be judged.
    pub fn of(pod: &Value) -> Self {
        Self(Surface::of(pod))
    }
}

/// Something that a pod must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Such as `spec.containers[base].securityContext.privileged`.
    pub field: String,
    /// What it holds; None where it may be a secret, or is gone.
    pub found: Option<String>,
    /// What it would hold, where something would stand there.
    pub expected: Option<String>,
    /// What the rule would have to allow.
    pub freedom: Freedom,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.found, &self.expected) {
            (Some(found), Some(expected)) => {
                write!(f, "{} is `{found}` where `{expected}` belongs", self.field)
            }
            (Some(found), None) => write!(f, "{} is `{found}`", self.field),
            (None, Some(expected)) => write!(f, "{} is not `{expected}` any more", self.field),
            (None, None) => write!(f, "{} is set or changed", self.field),
        }
    }
}

/// All that `pod` has and must not have, by field.
pub fn violations(measure: &Measure, pod: &Value, allowed: &Freedoms) -> Vec<Violation> {
    let (before, after) = (&measure.0, Surface::of(pod));
    let mut found = Vec::new();
    for item in after.added.difference(&before.added) {
        if !allowed.contains(&item.freedom) {
            found.push(of_item(item));
        }
    }
    let nothing = String::new();
    let fields =
        before.fixed.iter().chain(after.fixed.iter().filter(|(f, _)| !before.fixed.contains_key(*f)));
    for (field, (freedom, _)) in fields {
        let value = |surface: &Surface| surface.fixed.get(field).map_or(nothing.clone(), |(_, v)| v.clone());
        let (was, is) = (value(before), value(&after));
        if was != is && !allowed.contains(freedom) {
            // A whole container may hold secrets.
            let shown = |value: String| (!value.is_empty() && !value.starts_with('{')).then_some(value);
            let (expected, found_value) = (shown(was), shown(is));
            found.push(Violation { field: field.clone(), found: found_value, expected, freedom: *freedom });
        }
    }
    found
}

fn of_item(item: &Item) -> Violation {
    // Variables are where secrets are put by mistake.
    let shown = item.freedom != Freedom::AwsEnv && !item.value.is_empty();
    let found = shown.then(|| item.value.clone());
    Violation { field: item.field.clone(), found, expected: None, freedom: item.freedom }
}

/// Labels, annotations and node selector that the rule gives and the pod does not have.
pub fn lost(rule: &Rule, pod: &Value) -> Vec<Violation> {
    let given = [
        ("metadata", "labels", &rule.gives.labels, Freedom::Labels),
        ("metadata", "annotations", &rule.gives.annotations, Freedom::Labels),
        ("spec", "nodeSelector", &rule.gives.node_selector, Freedom::NodeSelector),
    ];
    let mut lost = Vec::new();
    for (part, field, wanted, freedom) in given {
        for (key, value) in wanted {
            let has = pod[part][field][key].as_str();
            if has != Some(value) && !rule.may_override.contains(&freedom) {
                lost.push(Violation {
                    field: format!("{part}.{field}[{key}]"),
                    found: has.map(str::to_owned),
                    expected: Some(value.clone()),
                    freedom,
                });
            }
        }
    }
    lost
}

/// Violations as one sentence for the DAG's author and the operator.
pub fn sentence(rule: &Rule, by: &str, violations: &[Violation]) -> String {
    let told: Vec<String> = violations.iter().take(4).map(Violation::to_string).collect();
    let more = violations.len().saturating_sub(told.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let mut words: Vec<&str> = violations.iter().map(|v| v.freedom.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    format!(
        "identity rule `{}` (line {}) does not let {by} change this: {}{more}; take it out, or have the platform add {} to \
         the rule's may-override",
        rule.name,
        rule.place.line,
        told.join("; "),
        words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", "),
    )
}

#[cfg(test)]
#[path = "guard/tests.rs"]
mod tests;
