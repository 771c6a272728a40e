//! May we do what we are going to do? Asked of the API server itself, without making anything.

use std::collections::BTreeSet;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use windlass_core::identity::policy;
use windlass_core::ids::PodRef;

use crate::config::Namespaces;
use crate::create::is_path_segment;
use crate::error::ClusterError;
use crate::grants::Looks;
use crate::observe::Verb;
use crate::status::{ApiStatus, words};
use crate::transport::{Call, Cluster};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works with a loss.
    Warning,
    /// Does not work.
    Error,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// The one namespace that it is about; `None`: all work depends on it.
    pub namespace: Option<String>,
    /// What was checked: `API server https://...`, `namespace etl: create pods`.
    pub subject: String,
    /// What was found.
    pub detail: String,
    /// What to do. Empty for `Ok`.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn ok(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            namespace: None,
            subject: subject.into(),
            detail: detail.into(),
            remedy: String::new(),
        }
    }

    pub(crate) fn failed(subject: impl Into<String>, error: &ClusterError) -> Self {
        Self {
            level: Level::Error,
            namespace: None,
            subject: subject.into(),
            detail: error.to_string(),
            remedy: error.hint().to_owned(),
        }
    }

    fn warning(subject: String, detail: String, remedy: &str) -> Self {
        Self { level: Level::Warning, namespace: None, subject, detail, remedy: remedy.into() }
    }

    pub(crate) fn of(self, namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(str::to_owned), ..self }
    }
}

/// What keeps all work from being done, in one line with the remedies. `None`: there is a namespace to work in; a fault
/// of another one is its own (I8).
pub fn blocked(findings: &[Finding]) -> Option<String> {
    let errors: Vec<&Finding> = findings.iter().filter(|f| f.level == Level::Error).collect();
    let of_all = errors.iter().any(|error| error.namespace.is_none());
    let asked: BTreeSet<&str> = findings.iter().filter_map(|f| f.namespace.as_deref()).collect();
    let refused: BTreeSet<&str> = errors.iter().filter_map(|f| f.namespace.as_deref()).collect();
    (of_all || (!asked.is_empty() && asked == refused)).then(|| told(&errors))
}

/// Findings in one line: each with its cause, each remedy once, after the last finding that it is for.
pub fn told(findings: &[&Finding]) -> String {
    let mut text = String::new();
    for (at, finding) in findings.iter().enumerate() {
        if at > 0 {
            text.push_str("; ");
        }
        text.push_str(&format!("{}: {}", finding.subject, finding.detail));
        let again = findings.get(at + 1).is_some_and(|next| next.remedy == finding.remedy);
        if !finding.remedy.is_empty() && !again {
            text.push_str(&format!(" (hint: {})", finding.remedy));
        }
    }
    text
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

impl Cluster {
    /// Version of the API server, then for each namespace whether it exists and whether each verb is allowed; `looks`: what
    /// identity rules look at. When the server cannot be asked at all, that is the only finding.
    pub async fn preflight(&self, namespaces: &Namespaces, looks: Looks) -> Vec<Finding> {
        let server = format!("API server {}", self.url());
        let mut findings = match self.version().await {
            Ok(version) => vec![Finding::ok(server, format!("Kubernetes {version}"))],
            Err(error) => return vec![Finding::failed(server, &error)],
        };
        match namespaces {
            Namespaces::All => self.review(None, looks, &mut findings).await,
            Namespaces::Only(names) => {
                for name in names {
                    let exists = self.namespace(name).await.of(Some(name));
                    let missing = exists.level == Level::Error;
                    findings.push(exists);
                    if !missing {
                        self.review(Some(name), looks, &mut findings).await;
                    }
                }
            }
        }
        self.review_nodes(looks, &mut findings).await;
        findings
    }

    async fn version(&self) -> Result<String, ClusterError> {
        let name = "read the version".to_owned();
        let call = Call::plain(Verb::Review, Method::GET, "/version".into(), name.clone());
        let answer = self.read(call, self.inner.config.request_timeout).await?;
        let version: Version =
            serde_json::from_slice(&answer.body).map_err(|e| self.unreadable(name, e.to_string()))?;
        Ok(version.git_version)
    }

    /// By a dry-run create, which says 404 where there is no namespace: reading namespaces is a right that we do not
    /// have. Any other answer, also a refusal of this pod, comes from a namespace that exists.
    async fn namespace(&self, namespace: &str) -> Finding {
        let subject = format!("namespace {namespace}");
        let error = |detail: String, remedy: &str| Finding {
            level: Level::Error,
            namespace: None,
            subject: subject.clone(),
            detail,
            remedy: remedy.to_owned(),
        };
        if !is_path_segment(namespace) {
            return error("is no name of a namespace".into(), "correct `[kubernetes_executor] namespace`");
        }
        let name = "windlass-preflight".to_owned();
        let at = PodRef { namespace: namespace.to_owned(), name: name.clone() };
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "restartPolicy": "Never", "containers": [{ "name": "base", "image": "none" }] },
        });
        let call = Call {
            body: Some(pod.to_string().into_bytes()),
            ..Call::plain(
                Verb::Review,
                Method::POST,
                format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"),
                format!("dry-run create of pod {at}"),
            )
        };
        match self.call(call, self.inner.config.request_timeout).await {
            Err(failure) => Finding::failed(subject, &failure),
            Ok(answer) if answer.is_success() => Finding::ok(subject, "exists, admits a pod"),
            Ok(answer) => match ApiStatus::read(&answer.body) {
                Some(said) if answer.status == 404 && said.about() == "namespaces" => error(
                    said.message,
                    "create it with the Role of deploy/rbac, or correct `[kubernetes_executor] namespace`",
                ),
                // Without the right to create, RBAC answers before anybody looks for the namespace; the review says so.
                Some(said) if answer.status == 403 && said.message.contains("cannot create resource") => {
                    Finding::ok(
                        subject,
                        "not known to exist: without the right to create pods it does not show",
                    )
                }
                // This pod is of no rule, so the policy stands.
                Some(said) if policy::is_refusal(&said.message) => {
                    Finding::ok(subject, "exists, and its identity policy is in force")
                }
                Some(said) if said.is_full_quota() => Finding::warning(
                    subject,
                    format!("its quota is full: {}", said.message),
                    "its tasks wait until there is room; raise the quota if it stays so",
                ),
                _ => Finding::warning(
                    subject,
                    format!("a plain pod is not admitted ({}): {}", answer.status, words(&answer.body)),
                    "see that the pod template passes this namespace's admission",
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level, namespace: Option<&str>, subject: &str) -> Finding {
        let remedy = if level == Level::Ok { "" } else { "bind the Role" };
        Finding {
            level,
            namespace: namespace.map(str::to_owned),
            subject: subject.into(),
            detail: "not allowed".into(),
            remedy: remedy.into(),
        }
    }

    #[test]
    fn one_namespace_to_work_in_is_enough() {
        let server = finding(Level::Ok, None, "API server");
        let good = finding(Level::Ok, Some("a"), "namespace a: create pods");
        let warned = finding(Level::Warning, Some("a"), "namespace a: get pods/log");
        let bad = finding(Level::Error, Some("b"), "namespace b: create pods");
        assert_eq!(blocked(&[server.clone(), good, warned, bad.clone()]), None);
        let worse = finding(Level::Error, Some("b"), "namespace b: delete pods");
        assert_eq!(
            blocked(&[server, bad, worse]).as_deref(),
            Some(
                "namespace b: create pods: not allowed; namespace b: delete pods: not allowed (hint: bind the Role)"
            )
        );
        let everywhere = finding(Level::Error, None, "all namespaces: watch pods");
        assert!(blocked(&[everywhere]).is_some());
        assert_eq!(blocked(&[finding(Level::Ok, None, "API server")]), None);
    }
}
