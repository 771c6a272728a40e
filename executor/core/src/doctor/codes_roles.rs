//! The codes of `--assume`: the way from a rule's service account to its role.

use super::code::{About, Code, Severity, row};
use Severity::{Error, Warning};

/// In the order of [`Code`].
pub(super) static ROLES: [About; 4] = [
    row(
        Code::TokenRefused,
        "token-refused",
        Error,
        [
            "no token of a rule's service account could be had, so nothing is known of its role",
            "nothing: tasks get their tokens from the kubelet, whatever the doctor may do",
            "create the service account, or let Windlass request its tokens: `windlass identity render --what \
             assume-grant`",
        ],
    ),
    row(
        Code::RoleRefused,
        "role-refused",
        Error,
        [
            "STS does not give a rule's role for a token of its service account",
            "nothing: tasks of the rule start, and fail with their first call to AWS",
            "mend the trust policy of the role or the OIDC provider of its account, as the finding says",
        ],
    ),
    row(
        Code::RoleUnproven,
        "role-unproven",
        Error,
        [
            "STS could not be asked for a rule's role, or had no answer to give",
            "the SDK has tried three times; tasks of the rule may meet the same",
            "mend the way to STS, or run it again",
        ],
    ),
    row(
        Code::RoleShared,
        "role-shared",
        Warning,
        [
            "two rules give the same role: their tasks have each other's rights in AWS",
            "nothing",
            "give each rule a role of its own, or join the rules",
        ],
    ),
];
