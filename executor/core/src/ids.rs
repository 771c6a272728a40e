//! Identities: what Airflow, Windlass and Kubernetes call one piece of work.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::UtcMicros;

/// Airflow's primary key of a task instance in 2.x.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// `dag_id` as Airflow stores it: up to 250 characters, any that `validate_key` lets through.
    pub dag_id: String,
    /// `task_id`, task groups included (`group.task`).
    pub task_id: String,
    /// `run_id` of the DAG run.
    pub run_id: String,
    /// -1 for a task that is not mapped.
    pub map_index: i32,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} {}", self.dag_id, self.task_id, self.run_id)?;
        if self.map_index >= 0 { write!(f, " [{}]", self.map_index) } else { Ok(()) }
    }
}

/// One time that the scheduler put a task key into `queued`. Deferral, reschedule and "stuck in queued" queue the
/// same try again with another `queued_at`, so the try number alone does not name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Queueing {
    /// Whose.
    pub key: TaskKey,
    /// `task_instance.try_number` while queued: the try that will run.
    pub try_number: i32,
    /// `task_instance.queued_dttm`, to the microsecond that PostgreSQL keeps.
    pub queued_at: UtcMicros,
}

impl fmt::Display for Queueing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} try {} (queued {})", self.key, self.try_number, self.queued_at)
    }
}

/// Identity of one `windlass` schema. Part of every launch id, so that two Airflows in one cluster never meet in a
/// pod name. A UUID in text form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstallationId(pub String);

impl InstallationId {
    /// The first group of the UUID: short enough for a label, told apart well enough for a selector.
    pub fn short(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }
}

/// Identity of a launch: 26 characters of a-z and 2-7, a function of installation and queueing. The same queueing
/// always has the same launch id, also after a database that lost commits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaunchId(String);

/// A text that is no launch id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a launch id: it has {len} characters where 26 of a-z and 2-7 are expected", len = .0.len())]
pub struct NotALaunchId(pub String);

const LAUNCH_ID_LEN: usize = 26;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl LaunchId {
    /// The id of `queueing` in `installation`. Fields are length-prefixed: no two queueings share a digest input.
    pub fn of(installation: &InstallationId, queueing: &Queueing) -> Self {
        let mut hash = Sha256::new();
        let key = &queueing.key;
        for text in [&installation.0, &key.dag_id, &key.task_id, &key.run_id] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(key.map_index.to_be_bytes());
        hash.update(queueing.try_number.to_be_bytes());
        hash.update(queueing.queued_at.0.to_be_bytes());
        Self(base32(&hash.finalize(), LAUNCH_ID_LEN))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 8 characters that end the pod's name for this attempt. A hash of both, not a cut of the id: the names of
    /// two attempts differ everywhere, and a name says nothing that is not in the labels.
    pub fn name_suffix(&self, attempt: Attempt) -> String {
        let mut hash = Sha256::new();
        hash.update(self.0.as_bytes());
        hash.update(attempt.0.to_be_bytes());
        base32(&hash.finalize(), 8)
    }
}

/// `len` characters, five bits each, from the front of `bytes` (a SHA-256 has enough for 51).
fn base32(bytes: &[u8], len: usize) -> String {
    (0..len)
        .map(|i| {
            let bit = i * 5;
            let pair = u16::from_be_bytes([bytes[bit / 8], bytes[bit / 8 + 1]]);
            BASE32[usize::from(pair >> (11 - bit % 8)) & 31] as char
        })
        .collect()
}

impl std::str::FromStr for LaunchId {
    type Err = NotALaunchId;
    fn from_str(raw: &str) -> Result<Self, NotALaunchId> {
        let good = raw.len() == LAUNCH_ID_LEN && raw.bytes().all(|b| BASE32.contains(&b));
        if good { Ok(Self(raw.to_owned())) } else { Err(NotALaunchId(raw.to_owned())) }
    }
}

impl TryFrom<String> for LaunchId {
    type Error = NotALaunchId;
    fn try_from(raw: String) -> Result<Self, NotALaunchId> {
        raw.parse()
    }
}

impl From<LaunchId> for String {
    fn from(id: LaunchId) -> Self {
        id.0
    }
}

impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One pod for a launch, counted from 1. A second one exists only when the first was lost before the task began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first pod of a launch.
    pub const FIRST: Self = Self(1);

    /// The attempt after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `metadata.uid`: tells two pods of one name apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodUid(pub String);

/// Number of a term of leadership; grows by one with each new holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    fn queueing(dag: &str, task: &str, queued_at: i64) -> Queueing {
        let key = TaskKey { dag_id: dag.into(), task_id: task.into(), run_id: "r".into(), map_index: -1 };
        Queueing { key, try_number: 1, queued_at: UtcMicros(queued_at) }
    }

    #[test]
    fn the_same_queueing_has_the_same_id_and_every_field_counts() {
        let home = InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into());
        let id = LaunchId::of(&home, &queueing("a", "bc", 1));
        assert_eq!(id, LaunchId::of(&home, &queueing("a", "bc", 1)));
        assert_ne!(id, LaunchId::of(&home, &queueing("ab", "c", 1)));
        assert_ne!(id, LaunchId::of(&home, &queueing("a", "bc", 2)));
        assert_ne!(id, LaunchId::of(&InstallationId("other".into()), &queueing("a", "bc", 1)));
        assert_eq!(id.as_str().parse::<LaunchId>(), Ok(id.clone()));
        assert_ne!(id.name_suffix(Attempt(1)), id.name_suffix(Attempt(2)));
        assert_eq!(home.short(), "6f1c0f8e");
    }

    #[test]
    fn a_text_that_is_no_launch_id_is_refused_by_name() {
        let error = "UPPER".parse::<LaunchId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`UPPER` is not a launch id: it has 5 characters where 26 of a-z and 2-7 are expected"
        );
    }
}
