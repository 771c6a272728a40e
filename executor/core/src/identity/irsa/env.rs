//! Environment variables that AWS' SDKs read credentials from.

use serde_json::Value;

/// Heeded before web identity and before container credentials, by botocore, or the SDKs for Go or Java.
pub(super) const SHADOWS: [&str; 10] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
];

/// Heeded before container credentials, so only EKS Pod Identity suffers. The relative URI goes before the full one.
pub(super) const SHADOWS_POD_IDENTITY: [&str; 3] =
    ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CREDENTIAL_FILE", "BOTO_CONFIG"];

/// The variables by which a pod template, a pod_override or a connection can turn a worker away from the identity that
/// its service account gives it. Sorted. For a guard on what is asked for, before admission: afterwards some of them are
/// there by right, and [`super::check`] is the judge.
///
/// - Keys go before everything else: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, and the older
///   names `AWS_ACCESS_KEY`, `AWS_SECRET_KEY` (Java, Go) and `AWS_SECURITY_TOKEN` (botocore).
/// - A profile goes before web identity if it assumes a role, and with Go if it has any credentials: `AWS_PROFILE`,
///   `AWS_DEFAULT_PROFILE`, and the files that profiles come from, `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE`.
/// - Files of older SDKs go before container credentials: `AWS_CREDENTIAL_FILE`, `BOTO_CONFIG`.
/// - Set by hand, `AWS_ROLE_ARN` or `AWS_WEB_IDENTITY_TOKEN_FILE` keeps the webhook from setting both; they go before EKS
///   Pod Identity.
/// - Set by hand, `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` keeps the webhook from
///   setting both; `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` goes before the full one, and
///   `AWS_CONTAINER_AUTHORIZATION_TOKEN` is sent in the place of the file's content where that is absent.
/// - `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_STS` send the token, and so the role, to another server.
pub fn shadowing_env() -> &'static [&'static str] {
    &[
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CREDENTIAL_FILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_STS",
        "AWS_PROFILE",
        "AWS_ROLE_ARN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECRET_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "BOTO_CONFIG",
    ]
}

/// A variable of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    Absent,
    Plain(&'a str),
    ValueFrom,
}

/// The variable as the process sees it: of several by one name the last counts. `envFrom` is not looked at.
pub(super) fn variable<'a>(container: &'a Value, name: &str) -> Variable<'a> {
    let entries = super::list(&container["env"]);
    let Some(entry) = entries.iter().rfind(|entry| entry["name"] == name) else {
        return Variable::Absent;
    };
    if entry["valueFrom"].is_object() {
        return Variable::ValueFrom;
    }
    Variable::Plain(entry["value"].as_str().unwrap_or_default())
}

/// The first variable that the SDKs would heed before the injected ones. An empty value holds no credentials.
pub(super) fn shadow(container: &Value, pod_identity: bool) -> Option<&'static str> {
    let more: &[&str] = if pod_identity { &SHADOWS_POD_IDENTITY } else { &[] };
    SHADOWS
        .iter()
        .chain(more)
        .find(|name| !matches!(variable(container, name), Variable::Absent | Variable::Plain("")))
        .copied()
}
