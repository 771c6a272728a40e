//! Why a pod does not run as its role, in words for an operator.

/// Why an admitted pod would not run as the expected role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The object has no containers: not an answer to CREATE of a pod.
    #[error(
        "the object that the API server returned has no containers; it is not the pod that was to be created"
    )]
    NoContainer,
    /// Nothing was injected anywhere: the silent webhook. Another pod, later, can have it.
    #[error(
        "the pod was admitted without credentials for {role}: container `{container}` has neither AWS_ROLE_ARN nor \
         AWS_CONTAINER_CREDENTIALS_FULL_URI, so it would run as its node. EKS' pod identity webhook fails open: it was \
         down, or it had not yet seen a service account that is new (another pod can help); or the service account has \
         no annotation eks.amazonaws.com/role-arn and no Pod Identity association"
    )]
    NotInjected {
        /// The worker's.
        container: String,
        /// The expected one.
        role: String,
    },
    /// Something is there that keeps the pod from the role: another pod from the same template is no better.
    #[error("container `{container}` would not run as {role}: {what}")]
    Wrong {
        /// Whose.
        container: String,
        /// The expected one.
        role: String,
        /// What is there.
        what: Wrong,
    },
}

impl Fault {
    /// The webhook was silent, as when it is down or its cache lags: delete the pod and create it again. Otherwise a
    /// retry does not help.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::NotInjected { .. })
    }
}

/// What keeps a container from the role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The worker's container is in the annotation.
    #[error(
        "the pod's annotation eks.amazonaws.com/skip-containers names it; take it out there, the worker needs the role"
    )]
    Skipped,
    /// The pod has the label that keeps the webhook away.
    #[error(
        "the pod has the label eks.amazonaws.com/skip-pod-identity-webhook, so the webhook is not asked; take the label \
         out of the pod template or pod_override"
    )]
    SkipLabel,
    /// Other containers have credentials and this one has nothing.
    #[error(
        "it has no credentials while other containers of the pod do; another webhook added it afterwards, or somebody \
         set the variables of the others by hand. If it needs none, name it in the annotation \
         eks.amazonaws.com/skip-containers"
    )]
    LeftOut,
    /// `AWS_ROLE_ARN` is another role.
    #[error(
        "AWS_ROLE_ARN is `{found}`; the service account's annotation names that role, or it was set by hand in the pod \
         template or pod_override, which keeps the webhook from setting it"
    )]
    Role {
        /// Its value.
        found: String,
    },
    /// A variable of the credentials that is not a plain value.
    #[error(
        "{name} comes from valueFrom; the webhook sets plain values only and leaves a variable that is there alone: take \
         it out of the pod template or pod_override"
    )]
    ValueFrom {
        /// Which.
        name: &'static str,
    },
    /// One of a pair of variables is missing.
    #[error(
        "{name} is missing while its partner is set; the partner was set by hand, which keeps the webhook from adding \
         both: take it out of the pod template or pod_override"
    )]
    Half {
        /// The missing one.
        name: &'static str,
    },
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI` is not the agent of EKS Pod Identity.
    #[error(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI is `{found}`, which is not EKS Pod Identity; it was set by hand in the pod \
         template or pod_override"
    )]
    Uri {
        /// Its value.
        found: String,
    },
    /// The variable names a file that no token is mounted at.
    #[error(
        "{name} is `{path}`, but no projected service account token is mounted there; the variables were set by hand, or \
         the pod has a volume of its own by the name that the webhook uses"
    )]
    NoToken {
        /// Which variable.
        name: &'static str,
        /// The file.
        path: String,
    },
    /// The token is for somebody else.
    #[error(
        "its token is for audience `{found}`, not `{expected}`; the service account's annotation \
         eks.amazonaws.com/audience says so, or the volume was made by hand"
    )]
    Audience {
        /// In the volume; empty: the API server's own.
        found: String,
        /// What the role trusts.
        expected: String,
    },
    /// A variable that AWS' SDKs heed first.
    #[error(
        "{name} is set, and AWS' SDKs heed it before the injected credentials; take it out of the pod template, \
         pod_override, or the connection's environment"
    )]
    Shadowed {
        /// Which.
        name: &'static str,
    },
}
