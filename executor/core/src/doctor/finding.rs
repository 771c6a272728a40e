//! A finding, and when it counts.

use std::collections::BTreeSet;

use serde::Serialize;

use super::code::Code;
use super::repair::Repair;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable.
    pub code: Code,
    /// Of what: a queueing, a pod, a scheduler.
    pub object: String,
    /// What was found, in one sentence.
    pub what: String,
    /// What will happen by itself, and when.
    pub next: String,
    /// What the operator can do.
    pub remedy: String,
    /// What `--repair` would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<Repair>,
}

impl Finding {
    /// With what the table says of the code.
    pub fn new(code: Code, object: impl ToString, what: impl Into<String>) -> Self {
        let about = code.about();
        Self {
            code,
            object: object.to_string(),
            what: what.into(),
            next: about.next.to_owned(),
            remedy: about.remedy.to_owned(),
            repair: None,
        }
    }

    /// With a more exact word on what will happen.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// With a more exact word on what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// With what mends it.
    #[must_use]
    pub fn repair(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }
}

/// What the second look found as the first one had: the same code of the same object. The rest was work under way.
pub fn confirmed(first: &[Finding], second: Vec<Finding>) -> Vec<Finding> {
    let before: BTreeSet<(Code, &str)> = first.iter().map(|f| (f.code, f.object.as_str())).collect();
    second.into_iter().filter(|f| before.contains(&(f.code, f.object.as_str()))).collect()
}
