//! What the API server's RBAC has to allow, and whether it does.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::observe::Verb;
use crate::page::{PODS, Place};
use crate::preflight::{Finding, Level};
use crate::transport::{Call, Cluster};

/// What of the cluster identity rules look at before a pod is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Rules demand roles or groups: service accounts.
    pub accounts: bool,
    /// Rules demand groups: SecurityGroupPolicies, the controller's events, and nodes.
    pub groups: bool,
}

/// A call, and what it is for.
#[derive(Clone, Copy)]
struct Grant {
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    verb: &'static str,
    /// Without it.
    level: Level,
    /// Where it is granted.
    remedy: &'static str,
}

const ROLE: &str = "bind Windlass's service account to the Role of deploy/rbac";
const IDENTITY: &str = "bind Windlass's service account to the Role of deploy/rbac/identity (`windlass identity render` \
                        prints it); until then the admitted pod alone is judged";
const PACING: &str = "bind Windlass's service account to the ClusterRole of deploy/rbac/identity/nodes.yaml; until then pods \
                      with security groups are paced by create.branch-interfaces-waiting alone";

const fn on_pods(verb: &'static str, level: Level) -> Grant {
    Grant { group: "", resource: "pods", subresource: "", verb, level, remedy: ROLE }
}

const fn look(
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    remedy: &'static str,
) -> Grant {
    Grant { group, resource, subresource: "", verb, level: Level::Warning, remedy }
}

/// Exactly the calls that this crate makes on pods, as deploy/rbac grants them. Without the log a failure has no last
/// lines, without the patch an Airflow cannot change back to the KubernetesExecutor with tasks running and no gate opens;
/// without the rest nothing is launched.
const USED: [Grant; 7] = [
    on_pods("create", Level::Error),
    on_pods("get", Level::Error),
    on_pods("list", Level::Error),
    on_pods("watch", Level::Error),
    on_pods("delete", Level::Error),
    on_pods("patch", Level::Warning),
    Grant { subresource: "log", ..on_pods("get", Level::Warning) },
];

const ACCOUNTS: [Grant; 2] =
    [look("", "serviceaccounts", "list", IDENTITY), look("", "serviceaccounts", "watch", IDENTITY)];

const GROUPS: [Grant; 4] = [
    look("vpcresources.k8s.aws", "securitygrouppolicies", "list", IDENTITY),
    look("vpcresources.k8s.aws", "securitygrouppolicies", "watch", IDENTITY),
    look("", "events", "list", IDENTITY),
    look("", "events", "watch", IDENTITY),
];

const NODES: [Grant; 2] = [look("", "nodes", "list", PACING), look("", "nodes", "watch", PACING)];

impl Looks {
    fn grants(self) -> impl Iterator<Item = Grant> {
        let accounts = ACCOUNTS.into_iter().filter(move |_| self.accounts);
        accounts.chain(GROUPS.into_iter().filter(move |_| self.groups))
    }
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Deserialize)]
struct ReviewStatus {
    allowed: bool,
    #[serde(default)]
    reason: String,
}

impl Cluster {
    /// Asks for each grant in a namespace; None: in all of them.
    pub(crate) async fn review(&self, namespace: Option<&str>, looks: Looks, findings: &mut Vec<Finding>) {
        let place = Place::of(PODS, namespace).name;
        for grant in USED.into_iter().chain(looks.grants()) {
            findings.push(self.allowed(&place, namespace, &grant).await.of(namespace));
        }
    }

    /// Nodes are of no namespace.
    pub(crate) async fn review_nodes(&self, looks: Looks, findings: &mut Vec<Finding>) {
        for grant in NODES.iter().filter(|_| looks.groups) {
            findings.push(self.allowed("cluster", None, grant).await);
        }
    }

    async fn allowed(&self, place: &str, namespace: Option<&str>, grant: &Grant) -> Finding {
        let &Grant { group, resource, subresource, verb, level, remedy } = grant;
        let what = if subresource.is_empty() { resource.into() } else { format!("{resource}/{subresource}") };
        let subject = format!("{place}: {verb} {what}");
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "namespace": namespace.unwrap_or(""),
                "group": group,
                "resource": resource,
                "subresource": subresource,
                "verb": verb,
            } },
        });
        let call = Call {
            body: Some(body.to_string().into_bytes()),
            ..Call::plain(
                Verb::Review,
                Method::POST,
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".into(),
                format!("access review of {subject}"),
            )
        };
        let name = call.name.clone();
        let answer = match self.read(call, self.inner.config.request_timeout).await {
            Ok(answer) => answer,
            Err(error) => return Finding::failed(subject, &error),
        };
        match serde_json::from_slice::<Review>(&answer.body) {
            Err(error) => Finding::failed(subject, &self.unreadable(name, error.to_string())),
            Ok(review) if review.status.allowed => Finding::ok(subject, "allowed"),
            Ok(review) => {
                let why = review.status.reason;
                let detail =
                    if why.is_empty() { "not allowed".into() } else { format!("not allowed: {why}") };
                Finding { level, namespace: None, subject, detail, remedy: remedy.into() }
            }
        }
    }
}
