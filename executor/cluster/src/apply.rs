//! Objects as the cluster has them, and as a server-side apply would leave them. Nothing is changed: the API server is
//! asked for a dry run, which fills in what it would fill in.

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::create::is_path_segment;
use crate::error::ClusterError;
use crate::observe::Verb;
use crate::status::ApiStatus;
use crate::transport::{Call, Cluster};

/// An answer to a list of one namespace's service accounts stays below this: 10,000 of them take 10 MB.
const LIST_MAX: usize = 128 << 20;

/// A kind of object that `windlass identity render` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `kind`.
    pub kind: &'static str,
    /// `apiVersion`.
    pub api_version: &'static str,
    /// As in a path and in RBAC.
    pub plural: &'static str,
    /// Whether its objects stand in a namespace.
    pub namespaced: bool,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::of("ServiceAccount", "v1", "serviceaccounts", true),
        Self::of("SecurityGroupPolicy", "vpcresources.k8s.aws/v1beta1", "securitygrouppolicies", true),
        Self::of("Role", "rbac.authorization.k8s.io/v1", "roles", true),
        Self::of("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings", true),
        Self::of("ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles", false),
        Self::of("ClusterRoleBinding", "rbac.authorization.k8s.io/v1", "clusterrolebindings", false),
        Self::of(
            "ValidatingAdmissionPolicy",
            "admissionregistration.k8s.io/v1",
            "validatingadmissionpolicies",
            false,
        ),
        Self::of(
            "ValidatingAdmissionPolicyBinding",
            "admissionregistration.k8s.io/v1",
            "validatingadmissionpolicybindings",
            false,
        ),
    ];

    const fn of(
        kind: &'static str,
        api_version: &'static str,
        plural: &'static str,
        namespaced: bool,
    ) -> Self {
        Self { kind, api_version, plural, namespaced }
    }

    /// Of an object.
    pub fn of_object(object: &Value) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| object["kind"] == kind.kind && object["apiVersion"] == kind.api_version)
    }

    /// With its API group, as in RBAC: `securitygrouppolicies.vpcresources.k8s.aws`.
    pub fn resource(&self) -> String {
        match self.api_version.split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.plural),
            None => self.plural.to_owned(),
        }
    }

    fn path(&self, namespace: &str) -> String {
        let api = if self.api_version == "v1" {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}", self.api_version)
        };
        let place = if self.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
        format!("{api}{place}/{}", self.plural)
    }
}

/// An object in the cluster, and what an apply would make of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// None: it does not exist.
    pub live: Option<Value>,
    /// With the defaults that the API server would fill in; the object itself where its namespace does not exist.
    pub applied: Value,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

impl Cluster {
    /// Compares an object of one of the kinds of [`Kind::ALL`] with the cluster, as field manager `windlass`, which takes
    /// fields over from others.
    pub async fn compare(&self, object: &Value) -> Result<Compared, ClusterError> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let shown = format!("{} {namespace}/{name}", object["kind"].as_str().unwrap_or_default());
        let kind = Kind::of_object(object)
            .filter(|kind| is_path_segment(name) && (is_path_segment(namespace) || !kind.namespaced));
        let kind = kind.ok_or_else(|| ClusterError::Setting {
            what: shown.clone(),
            why: "its kind is not known, or its name is none of Kubernetes".into(),
        })?;
        let path = format!("{}/{name}", kind.path(namespace));
        let limit = self.inner.config.request_timeout;
        let get = format!("get {shown}");
        let answer =
            self.call(Call::plain(Verb::Review, Method::GET, path.clone(), get.clone()), limit).await?;
        let said = ApiStatus::read(&answer.body);
        let live = match answer.status {
            200..300 => Some(self.value(&answer.body, get)?),
            404 if said.is_some_and(|said| said.reason == "NotFound" && said.about() == kind.plural) => None,
            404 => return Err(self.not_served(kind, get)),
            _ => return Err(self.refused(get, &answer)),
        };
        let apply = format!("apply {shown} (dry run)");
        let call = Call {
            body: Some(object.to_string().into_bytes()),
            apply: true,
            ..Call::plain(
                Verb::Review,
                Method::PATCH,
                format!("{path}?dryRun=All&fieldManager=windlass&force=true"),
                apply.clone(),
            )
        };
        let answer = self.call(call, limit).await?;
        let applied = match answer.status {
            200..300 => self.value(&answer.body, apply)?,
            404 if ApiStatus::read(&answer.body).is_some_and(|said| said.about() == "namespaces") => {
                object.clone()
            }
            _ => return Err(self.refused(apply, &answer)),
        };
        Ok(Compared { live, applied })
    }

    /// All objects of a kind, in a namespace if it has any. None of a namespace that does not exist.
    pub async fn objects(&self, kind: Kind, namespace: &str) -> Result<Vec<Value>, ClusterError> {
        let name = format!("list {} in {namespace}", kind.plural);
        if kind.namespaced && !is_path_segment(namespace) {
            let why = "the name of the namespace is none of Kubernetes".into();
            return Err(ClusterError::Setting { what: name, why });
        }
        let call = Call {
            answer_max: LIST_MAX,
            ..Call::plain(Verb::Review, Method::GET, kind.path(namespace), name.clone())
        };
        let answer = self.call(call, self.inner.config.request_timeout).await?;
        match answer.status {
            200..300 => serde_json::from_slice::<List>(&answer.body)
                .map(|list| list.items)
                .map_err(|error| self.unreadable(name, error.to_string())),
            404 => Err(self.not_served(kind, name)),
            _ => Err(self.refused(name, &answer)),
        }
    }

    fn value(&self, body: &[u8], call: String) -> Result<Value, ClusterError> {
        serde_json::from_slice(body).map_err(|error| self.unreadable(call, error.to_string()))
    }

    fn not_served(&self, kind: Kind, call: String) -> ClusterError {
        ClusterError::Answered {
            url: self.url().to_owned(),
            call,
            status: 404,
            message: format!("this cluster knows no {} ({})", kind.kind, kind.api_version),
            retry_after_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_knows_its_path_and_its_name_in_rbac() {
        let of = |api: &str, kind: &str| Kind::of_object(&json!({ "apiVersion": api, "kind": kind }));
        let account = of("v1", "ServiceAccount").unwrap();
        assert_eq!(account.path("etl"), "/api/v1/namespaces/etl/serviceaccounts");
        assert_eq!(account.resource(), "serviceaccounts");
        let policy = of("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy").unwrap();
        assert_eq!(policy.path(""), "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies");
        assert_eq!(policy.resource(), "validatingadmissionpolicies.admissionregistration.k8s.io");
        assert_eq!(of("v1", "Secret"), None);
        assert_eq!(of("v2", "ServiceAccount"), None);
    }
}
