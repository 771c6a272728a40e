//! The codes of identities: what rules need to be there, what admission makes of their pods, and the boundary.

use super::code::{About, Code, Severity, row};
use Severity::{Error, Info, Warning};

/// In the order of [`Code`].
pub(super) static IDENTITY: [About; 33] = [
    row(
        Code::NoPolicyMatches,
        "no-policy-matches",
        Error,
        [
            "a rule demands security groups, and no SecurityGroupPolicy selects its pod",
            "its tasks fail with IdentityMissing",
            "apply what `windlass identity render` prints; `windlass identity groups` answers for any pod",
        ],
    ),
    row(
        Code::PolicyGroupsDiffer,
        "policy-groups-differ",
        Error,
        [
            "the policies that select a rule's pod give other security groups than the rule says",
            "its pods get the groups of all policies that match, together",
            "make the policies and the rule agree: `windlass identity render --diff`",
        ],
    ),
    row(
        Code::TooManyGroups,
        "too-many-groups",
        Error,
        [
            "the policies that select a rule's pod give more than five security groups together",
            "EC2 refuses the interface unless the quota was raised: the pod stays in ContainerCreating",
            "let fewer policies match, or merge groups",
        ],
    ),
    row(
        Code::GroupIdMalformed,
        "group-id-malformed",
        Error,
        [
            "a security group's id is none: sg- and 8 or 17 hexadecimal digits",
            "EC2 refuses the interface: the pod stays in ContainerCreating",
            "write the group's id, not its name",
        ],
    ),
    row(
        Code::PolicyBroken,
        "policy-broken",
        Warning,
        [
            "a SecurityGroupPolicy selects no pod at all; neither the API server nor the controller says so",
            "nothing: it never matches",
            "correct its selector or its groups",
        ],
    ),
    row(
        Code::PolicyBeingDeleted,
        "policy-being-deleted",
        Warning,
        [
            "a SecurityGroupPolicy that gives a rule's pod its groups is being deleted",
            "it counts until it is gone; a pod that is admitted before and gets its interface after runs with its node's groups",
            "see which finalizer holds it and who deletes it; apply it again once it is gone",
        ],
    ),
    row(
        Code::PolicyUnasked,
        "policy-unasked",
        Info,
        [
            "a SecurityGroupPolicy selects the pod of a rule that demands no security groups",
            "each such pod takes a branch interface",
            "if it is meant, write the groups into the rule, so that they are checked; else let the policy select less",
        ],
    ),
    row(
        Code::ServiceAccountMissing,
        "service-account-missing",
        Error,
        [
            "a rule's service account does not exist",
            "creates of its pods are refused",
            "apply what `windlass identity render` prints",
        ],
    ),
    row(
        Code::RoleAnnotation,
        "role-annotation",
        Error,
        [
            "the service account's annotation eks.amazonaws.com/role-arn is not the role that the rule demands",
            "its tasks fail with IdentityMissing",
            "`windlass identity render --diff` shows the difference; annotations are read when a pod is created",
        ],
    ),
    row(
        Code::RoleArnMalformed,
        "role-arn-malformed",
        Error,
        [
            "a role's ARN is none, or of another partition than this cluster's region",
            "STS refuses it; the webhook does not look at it",
            "write arn:PARTITION:iam::ACCOUNT:role/NAME as `aws iam get-role` shows it",
        ],
    ),
    row(
        Code::TokenAudience,
        "token-audience",
        Error,
        [
            "the service account's annotation eks.amazonaws.com/audience is not the audience that its rule expects: \
             `token-audience`, or sts.amazonaws.com",
            "its tasks fail with IdentityMissing",
            "take the annotation away, or write the audience as `token-audience` into the rule; STS takes it where the role's \
             OIDC provider lists it and the trust policy names it, which `windlass doctor --assume` proves",
        ],
    ),
    row(
        Code::TokenExpiration,
        "token-expiration",
        Warning,
        [
            "the life of a web identity token is asked for outside of what the API server gives",
            "the webhook raises it to 600 s; above 86400 s the API server refuses the pod or shortens it",
            "write 600 to 86400 seconds into eks.amazonaws.com/token-expiration, or take it away (86400)",
        ],
    ),
    row(
        Code::StsGlobal,
        "sts-global",
        Warning,
        [
            "tasks with a role ask the global endpoint of STS instead of their region's",
            "each first call to AWS goes to us-east-1: slow, away when that region is, and closed to a VPC without a way out",
            "take `legacy` out of the pod template, or eks.amazonaws.com/sts-regional-endpoints away from the service account; \
             `worker-env` says `regional` for all of a rule's containers that do not choose",
        ],
    ),
    row(
        Code::DefaultAccount,
        "default-account",
        Info,
        [
            "a rule with a role uses the service account `default`, which every pod of the namespace has that names none",
            "all those pods have the role",
            "give the rule a service account of its own, unless that is meant",
        ],
    ),
    row(
        Code::TrustPolicy,
        "trust-policy",
        Info,
        [
            "what a role's trust policy has to name for its rules; IAM is not asked",
            "nothing",
            "compare with `aws iam get-role`; `windlass identity render --what trust-policy` prints it, `windlass doctor \
         --assume` proves it",
        ],
    ),
    row(
        Code::TemplateHostNetwork,
        "template-host-network",
        Error,
        [
            "a rule demands security groups, and its pod has the node's own network",
            "no policy counts for it: its tasks fail with IdentityMissing",
            "take hostNetwork out of the pod template",
        ],
    ),
    row(
        Code::TemplateGracePeriod,
        "template-grace-period",
        Error,
        [
            "a rule demands security groups, and its pod has terminationGracePeriodSeconds 0",
            "the CNI does not clean up after it, and its address may be given away with the old rules",
            "set it to 1 or more in the pod template (30 by default)",
        ],
    ),
    row(
        Code::TemplateAwsEnv,
        "template-aws-env",
        Warning,
        [
            "the pod of a rule with a role sets by itself what the webhook would set, or what SDKs take before it",
            "the container does not run as the rule's role",
            "take it out of the pod template or of `[kubernetes_environment_variables]`",
        ],
    ),
    row(
        Code::SkipLabel,
        "skip-label",
        Error,
        [
            "the pod of a rule with a role has the label that keeps the pod identity webhook away",
            "its tasks fail with IdentityMissing",
            "take eks.amazonaws.com/skip-pod-identity-webhook out of the pod template",
        ],
    ),
    row(
        Code::DryRunRefused,
        "dry-run-refused",
        Error,
        [
            "the API server would not take the pod of a rule",
            "its tasks fail with these words",
            "see the message: it names the webhook, the policy or the field",
        ],
    ),
    row(
        Code::DryRunWithoutRole,
        "dry-run-without-role",
        Error,
        [
            "admission does not give a rule's pod its role: a create was tried with dryRun=All",
            "its tasks fail with IdentityMissing",
            "see the message; the codes of webhooks and service accounts say more",
        ],
    ),
    row(
        Code::DryRunWithoutGroups,
        "dry-run-without-groups",
        Error,
        [
            "admission does not ask for a branch interface for a rule's pod: a create was tried with dryRun=All",
            "its tasks fail with IdentityMissing",
            "see that a policy matches (no-policy-matches) and that vpc-resource-mutating-webhook answers",
        ],
    ),
    row(
        Code::ContainerOrder,
        "container-order",
        Error,
        [
            "another webhook puts a container in front of the one that asks for the branch interface",
            "the CNI looks at the first container alone: the pod would run with its node's groups, so its tasks fail with \
         IdentityMissing",
            "have that webhook add its container behind, or keep it from worker pods",
        ],
    ),
    row(
        Code::PodIdentity,
        "pod-identity",
        Info,
        [
            "an association of EKS Pod Identity gives the rule's pod its credentials, not the annotation of its account",
            "the role is the association's, which the API server does not show",
            "compare with `aws eks list-pod-identity-associations`; `windlass doctor --assume` cannot prove it",
        ],
    ),
    row(
        Code::PodOnNodeGroups,
        "pod-on-node-groups",
        Error,
        [
            "a pod that asked for a branch interface runs without it: with its node's security groups",
            "it goes on so until it ends",
            "see which webhook changes its containers (container-order); make the pod anew",
        ],
    ),
    row(
        Code::PodEniEvents,
        "pod-eni-events",
        Warning,
        [
            "AWS's controller has told of pods that it could not give their security groups",
            "it tries five times and then leaves the pod alone",
            "see the message: groups that do not exist or are of another VPC, a subnet without free addresses, rights of the \
         cluster's role",
        ],
    ),
    row(
        Code::DagCodeInScheduler,
        "dag-code-in-scheduler",
        Warning,
        [
            "DAG files are parsed in the scheduler's pod: their authors' code runs beside the daemon",
            "nothing",
            "let the DAG processor stand alone: `dagProcessor.enabled: true` in the chart, [scheduler] \
         standalone_dag_processor = True",
        ],
    ),
    row(
        Code::DaemonTokenShared,
        "daemon-token-shared",
        Warning,
        [
            "a container beside the daemon has a token for the API server: what runs there can create pods of any identity",
            "nothing",
            "automountServiceAccountToken: false, and the token in the daemon's container alone, as deploy/helm/values.yaml has it",
        ],
    ),
    row(
        Code::DatabaseRoleShared,
        "database-role-shared",
        Warning,
        [
            "the daemon logs in to the database as Airflow does",
            "nothing",
            "give it a role of its own: deploy/sql/grants.sql and the Secret of deploy/README.md",
        ],
    ),
    row(
        Code::WorkerCreatesPods,
        "worker-creates-pods",
        Warning,
        [
            "the service account of a rule's workers may create pods: a task can start one with any service account of the \
         namespace",
            "nothing",
            "take the chart's pod launcher away (allowPodLaunching: false); for KubernetesPodOperator use a namespace of its own",
        ],
    ),
    row(
        Code::AdmissionPolicyMissing,
        "admission-policy-missing",
        Warning,
        [
            "nothing in the cluster itself keeps pods to the rules: whoever may create pods may take any identity",
            "the daemon's own guard holds for the pods that it makes",
            "apply the ValidatingAdmissionPolicy and its binding that `windlass identity render` prints",
        ],
    ),
    row(
        Code::AdmissionPolicyStale,
        "admission-policy-stale",
        Warning,
        [
            "the ValidatingAdmissionPolicy is not that of the rules and the pod template as they are now",
            "pods of a rule that it does not know, or knows otherwise, fail with IdentityDenied",
            "`windlass identity render --diff` shows the difference; apply what `windlass identity render` prints",
        ],
    ),
    row(
        Code::AwsNotSeen,
        "aws-not-seen",
        Info,
        [
            "what of identities does not show in the Kubernetes API, so that this doctor cannot tell",
            "nothing",
            "`windlass doctor --assume` proves roles and trust policies with STS; for the rest see docs/EKS.md, which has a \
         command for each",
        ],
    ),
];
