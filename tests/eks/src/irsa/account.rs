//! From a pod's service account to what its containers get.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use windlass_core::identity::irsa::{POD_IDENTITY_AUDIENCE, POD_IDENTITY_URI, skipped_containers};

use super::inject::{DAY_S, Injected, Plan};
use super::{Flags, Identity, Webhook};

/// Shortest life of a token that kube-apiserver makes, in seconds.
const EXPIRATION_MIN_S: i64 = 600;

/// What the webhook keeps of an account; in the config map, the value of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(rename = "RoleARN")]
    role: String,
    #[serde(rename = "Audience")]
    audience: String,
    #[serde(rename = "UseRegionalSTS")]
    regional_sts: bool,
    #[serde(rename = "TokenExpiration")]
    expiration_s: i64,
}

impl Webhook {
    /// What the pod gets; None: nothing, its account has no identity or is not known.
    pub(super) fn plan(&self, pod: &Value, namespace: &str) -> Option<Plan> {
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        let identity = Identity { namespace: namespace.to_owned(), service_account: account.to_owned() };
        let annotation = |name: &str| {
            pod["metadata"]["annotations"][format!("{}/{name}", self.flags.annotation_prefix)].as_str()
        };
        let expiration = |of_account: i64| expiration(annotation("token-expiration"), of_account);
        let skip = annotation("skip-containers").map(skipped_containers).unwrap_or_default();
        let region = self.flags.region.clone();
        if self.identities.contains(&identity) {
            let (regional_sts, of_account) = self.common(namespace, account);
            return Some(Plan {
                skip,
                region,
                regional_sts,
                expiration_s: self.with_jitter(expiration(of_account)),
                audience: POD_IDENTITY_AUDIENCE.to_owned(),
                mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
                volume: "eks-pod-identity-token",
                token: "eks-pod-identity-token",
                injected: Injected::PodIdentity { uri: POD_IDENTITY_URI },
            });
        }
        let entry = self.entry(namespace, account).filter(|entry| !entry.role.is_empty())?;
        Some(Plan {
            skip,
            region,
            regional_sts: entry.regional_sts,
            expiration_s: expiration(entry.expiration_s),
            audience: entry.audience,
            mount_path: self.flags.mount_path.clone(),
            volume: "aws-iam-token",
            token: "token",
            injected: Injected::WebIdentity { role: entry.role },
        })
    }

    /// A role in an annotation goes before the config map; the config map goes before a look-up.
    fn entry(&self, namespace: &str, account: &str) -> Option<Entry> {
        let cached = self.annotated(&self.service_accounts, namespace, account);
        let known = cached.is_some();
        cached
            .filter(|entry| !entry.role.is_empty())
            .or_else(|| self.mapped(namespace, account))
            .or_else(|| self.mapped("*", account))
            .or_else(|| {
                let found = self.api_service_accounts.as_ref().unwrap_or(&self.service_accounts);
                let looks = !known && self.flags.grace_ms > 0;
                looks.then(|| self.annotated(found, namespace, account)).flatten()
            })
    }

    /// What Pod Identity takes from an account: regional STS and expiration. One that is not known has the program's
    /// defaults, whatever its flags say, and a star in the config map does not count.
    fn common(&self, namespace: &str, account: &str) -> (bool, i64) {
        self.annotated(&self.service_accounts, namespace, account)
            .or_else(|| self.mapped(namespace, account))
            .map_or((false, DAY_S), |entry| (entry.regional_sts, entry.expiration_s))
    }

    fn annotated(&self, accounts: &[Value], namespace: &str, name: &str) -> Option<Entry> {
        let account = accounts
            .iter()
            .map(|account| &account["metadata"])
            .find(|account| account["name"] == name && account["namespace"] == namespace)?;
        let flags = &self.flags;
        let annotation =
            |name: &str| account["annotations"][format!("{}/{name}", flags.annotation_prefix)].as_str();
        let regional_sts = annotation("sts-regional-endpoints").and_then(go_bool);
        Some(Entry {
            role: annotation("role-arn").map(|role| composed(role, flags)).unwrap_or_default(),
            audience: annotation("audience").unwrap_or(&flags.audience).to_owned(),
            regional_sts: regional_sts.unwrap_or(flags.regional_sts),
            expiration_s: expiration(annotation("token-expiration"), default_expiration(flags)),
        })
    }

    fn mapped(&self, namespace: &str, name: &str) -> Option<Entry> {
        let text = self.config_map.as_ref().filter(|_| self.flags.watch_config_map)?;
        let mut entries: BTreeMap<String, Entry> = serde_json::from_str(text).ok()?;
        let mut entry = entries.remove(&format!("{namespace}/{name}"))?;
        if entry.expiration_s == 0 {
            entry.expiration_s = default_expiration(&self.flags);
        }
        Some(entry)
    }

    /// A life of exactly one day is made shorter, so that not all pods renew their tokens at once.
    fn with_jitter(&self, expiration_s: i64) -> i64 {
        let jitter = self.jitter.min(Self::JITTER_MAX).as_secs().cast_signed();
        if expiration_s == DAY_S { expiration_s - jitter } else { expiration_s }
    }
}

fn default_expiration(flags: &Flags) -> i64 {
    flags.token_expiration.max(EXPIRATION_MIN_S)
}

/// An annotation that is no number does not count; a short one is lifted. There is no upper limit here.
fn expiration(annotation: Option<&str>, otherwise: i64) -> i64 {
    annotation
        .and_then(|text| text.parse::<i64>().ok())
        .map_or(otherwise, |seconds| seconds.max(EXPIRATION_MIN_S))
}

/// A text without `arn:` is a role's name where the flag says so.
fn composed(role: &str, flags: &Flags) -> String {
    match &flags.compose {
        Some(compose) if !role.contains("arn:") => {
            format!("arn:{}:iam::{}:role/{role}", compose.partition, compose.account_id)
        }
        _ => role.to_owned(),
    }
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
