//! The codes of the doctor: what each means, what happens by itself, what to do. `docs/DOCTOR.md` is made from this.

use std::fmt;

use serde::{Serialize, Serializer};

use super::codes_roles::ROLES;
use super::codes_setup::SETUP;
use super::codes_work::WORK;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// Works with a loss, or is about to mend itself.
    Warning,
    /// Tasks do not run, or do not end.
    Error,
}

impl Severity {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Stable code of a finding. The order is that of the checks, and of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is documented once, for users: `About::meaning`")]
pub enum Code {
    Configuration,
    DatabaseUnreachable,
    DatabaseReadOnly,
    AirflowUnknown,
    SchemaVersion,
    GrantsMissing,
    DatabaseFailed,
    NoSchedulerRegistered,
    NoSchedulerAlive,
    SchedulerGone,
    SchedulerNotRegistered,
    PluginSilent,
    PluginVersion,
    AirflowVersion,
    PodMutationHook,
    MutationHelper,
    NoLeader,
    TermExpiring,
    HandoverBacklog,
    HoldOverQueuedTimeout,
    ApiServer,
    KubernetesAccess,
    KubernetesLimited,
    TemplateInvalid,
    TemplateMissing,
    TokenRefused,
    RoleRefused,
    RoleUnproven,
    RoleShared,
    DefaultAccount,
    QueuedWithoutLaunch,
    QueuedByUnregistered,
    QueuedForOtherExecutor,
    QueuedNearTimeout,
    ClaimedWithoutPod,
    NamespaceNotWatched,
    LaunchOfOldTerm,
    WithdrawnNotSettled,
    PodGone,
    UnwantedPod,
    WorkerSlowStart,
    WorkerLingers,
    SupersededWorker,
    LaunchNotSettled,
    LaunchNotClosed,
    RunningTaskDead,
    RestartingTaskDead,
    OutcomeUndelivered,
    OutcomeAlreadyTaken,
    CallbackUnanswered,
    PodWithoutLaunch,
    PodOfClosedLaunch,
    PodLeftOver,
    SeveralPodsOfOneTask,
    PodLabelsBroken,
    ListCut,
}

/// What is known of a code.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Which.
    pub code: Code,
    /// As shown, kebab-case.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
    /// What will happen by itself, and when.
    pub next: &'static str,
    /// What the operator can do.
    pub remedy: &'static str,
}

/// One line of the tables.
pub(super) const fn row(
    code: Code,
    name: &'static str,
    severity: Severity,
    [meaning, next, remedy]: [&'static str; 3],
) -> About {
    About { code, name, severity, meaning, next, remedy }
}

impl Code {
    /// All that is known of it.
    pub fn about(self) -> &'static About {
        let place = self as usize;
        let of_roles = || ROLES.get(place.wrapping_sub(SETUP.len()));
        SETUP.get(place).or_else(of_roles).unwrap_or_else(|| &WORK[place - SETUP.len() - ROLES.len()])
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = &'static About> {
        SETUP.iter().chain(&ROLES).chain(&WORK)
    }

    /// As shown.
    pub fn as_str(self) -> &'static str {
        self.about().name
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        self.about().severity
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_stands_in_its_place_with_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (place, about) in Code::all().enumerate() {
            assert_eq!(about.code as usize, place, "{}", about.name);
            assert!(names.insert(about.name), "{}", about.name);
            let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(about.name.chars().all(kebab), "{}", about.name);
            let plain: String = format!("{:?}", about.code).to_lowercase();
            assert_eq!(about.name.replace('-', ""), plain);
            for text in [about.meaning, about.next, about.remedy] {
                assert!(
                    !text.is_empty() && !text.ends_with('.') && !text.contains('|'),
                    "{}: {text}",
                    about.name
                );
            }
        }
        assert_eq!(Code::ListCut as usize + 1, Code::all().count());
    }
}
