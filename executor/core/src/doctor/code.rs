//! The codes of the doctor: what each means, what happens by itself, what to do. `docs/DOCTOR.md` is made from this.

use std::fmt;

use serde::{Serialize, Serializer};

use super::codes_eks::EKS;
use super::codes_identity::IDENTITY;
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
    CannotSee,
    SgpCrdMissing,
    SgpWebhookMissing,
    IrsaWebhookMissing,
    WebhookFailurePolicy,
    CniMissing,
    CniVersion,
    PodEniDisabled,
    EnforcingMode,
    EnforcingModeInvalid,
    StrictModeConflict,
    StrictNetworkPolicy,
    EarlyDemux,
    NodeSnat,
    NoNodeNow,
    NoBranchNode,
    NodeUnsupported,
    InstanceTypeUnknown,
    NodeWithoutTrunk,
    NodeTrunkEvents,
    BranchCapacity,
    BranchChurn,
    BranchCooldown,
    NoPolicyMatches,
    PolicyGroupsDiffer,
    TooManyGroups,
    GroupIdMalformed,
    PolicyBroken,
    PolicyBeingDeleted,
    PolicyUnasked,
    ServiceAccountMissing,
    RoleAnnotation,
    RoleArnMalformed,
    TokenAudience,
    TokenExpiration,
    StsGlobal,
    DefaultAccount,
    TrustPolicy,
    TemplateHostNetwork,
    TemplateGracePeriod,
    TemplateAwsEnv,
    SkipLabel,
    DryRunRefused,
    DryRunWithoutRole,
    DryRunWithoutGroups,
    ContainerOrder,
    PodIdentity,
    PodOnNodeGroups,
    PodEniEvents,
    DagCodeInScheduler,
    DaemonTokenShared,
    DatabaseRoleShared,
    WorkerCreatesPods,
    AdmissionPolicyMissing,
    AdmissionPolicyStale,
    AwsNotSeen,
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
    /// In the order of the codes.
    const TABLES: [&'static [About]; 5] = [&SETUP, &ROLES, &WORK, &EKS, &IDENTITY];

    /// All that is known of it.
    pub fn about(self) -> &'static About {
        let mut place = self as usize;
        for table in Self::TABLES {
            match table.get(place) {
                Some(about) => return about,
                None => place -= table.len(),
            }
        }
        // A test holds that each code has its row.
        &SETUP[0]
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = &'static About> {
        Self::TABLES.into_iter().flatten()
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
            assert_eq!(about.code.about().code, about.code);
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
        assert_eq!(Code::AwsNotSeen as usize + 1, Code::all().count());
    }
}
