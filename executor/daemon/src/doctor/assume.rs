//! `--assume`: asks the API server for tokens of the rules' service accounts, and STS whom they become.

use std::fmt::Write as _;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use windlass_aws::sts::{Answer, Refused, Sts};
use windlass_cluster::{Cluster, ClusterError};
use windlass_core::doctor::assume::{Broken, Chain, NoToken, Proven, Refusal, Why, warnings};
use windlass_core::doctor::{Code, Finding, count};
use windlass_core::identity::irsa::{ANNOTATION_AUDIENCE, DEFAULT_AUDIENCE};
use windlass_core::identity::rules::Rules;
use windlass_core::ids::InstallationId;

use super::report::{ROLES, Report};
use crate::config::Config;
use crate::pods::Renderer;
use crate::render::NO_INSTALLATION;

/// Accounts that are asked for at a time.
const AT_ONCE: usize = 8;
/// For all of them.
const WITHIN: Duration = Duration::from_secs(60);
/// Name of the sessions, for CloudTrail.
const SESSION: &str = "windlass-doctor";

/// The check `roles`. `cluster` None: it does not answer.
pub(super) async fn roles(config: &Config, cluster: Option<&Cluster>, report: &mut Report) {
    let Some(rules) = &config.rules else {
        return report.skipped(ROLES, "there are no identity rules");
    };
    let (chains, mut findings) = chains(config, rules);
    if chains.is_empty() && findings.is_empty() {
        return report.skipped(ROLES, "no identity rule has a role");
    }
    findings.extend(warnings(&chains));
    let Some(cluster) = cluster else {
        report.findings.extend(findings);
        return report.skipped(ROLES, "the API server does not answer, and tokens come from there");
    };
    let (sts, by) = (Sts::find().await, Instant::now() + WITHIN);
    let proofs = stream::iter(chains).map(|chain| prove(cluster, &sts, chain, by)).buffered(AT_ONCE);
    let proven: Vec<Proven> = proofs.collect().await;
    let refused: Vec<Finding> = proven.iter().filter_map(Proven::finding).collect();
    let (all, good) = (proven.len(), proven.len() - refused.len());
    findings.extend(refused);
    report.found(ROLES, findings, &format!("{good} of {} can be assumed", count(all, "role", "roles")));
    report.roles = Some(proven);
}

/// Who needs which role. A rule that names no service account has the template's.
pub(crate) fn chains(config: &Config, rules: &Rules) -> (Vec<Chain>, Vec<Finding>) {
    let renderer = Renderer::for_once(config, InstallationId(NO_INSTALLATION.into()));
    let (mut links, mut findings) = (Vec::new(), Vec::new());
    for rule in rules.all() {
        let Some(role) = &rule.gives.role_arn else { continue };
        match renderer.typical(Some(rule)) {
            Ok(pod) => {
                let text = |value: &Value, absent: &str| value.as_str().unwrap_or(absent).to_owned();
                let namespace = text(&pod["metadata"]["namespace"], &config.kubernetes.namespace);
                let account = text(&pod["spec"]["serviceAccountName"], "default");
                links.push((rule.name.clone(), [namespace, account, role.clone()]));
            }
            Err((_, why)) => {
                findings.push(Finding::new(Code::TemplateInvalid, format!("rule {}", rule.name), why));
            }
        }
    }
    (Chain::of(links), findings)
}

async fn prove(cluster: &Cluster, sts: &Sts, chain: Chain, by: Instant) -> Proven {
    let late = NoToken::Failed {
        what: format!("{} s for all rules were over", WITHIN.as_secs()),
        hint: "see why the API server or STS is slow, and run it again".into(),
    };
    let (claims, audience_unread) = (None, String::new());
    let mut proven = Proven { chain, claims, audience_unread, result: Err(Broken::Token(late)) };
    match timeout_at(by, ask(cluster, sts, &mut proven)).await {
        Ok(result) => proven.result = result,
        Err(_) if proven.claims.is_some() => {
            let refusal =
                Refusal { call: "AssumeRoleWithWebIdentity", region: String::new(), why: Why::TimedOut };
            proven.result = Err(Broken::Refused(refusal));
        }
        Err(_) => {}
    }
    proven
}

/// ARN of the session.
async fn ask(cluster: &Cluster, sts: &Sts, proven: &mut Proven) -> Result<String, Broken> {
    let Chain { namespace, account, role, .. } = &proven.chain;
    let audience = match cluster.account_annotations(namespace, account).await {
        Ok(annotations) => annotations.get(ANNOTATION_AUDIENCE).cloned(),
        Err(ClusterError::Answered { status: 404, message, .. }) => {
            return Err(Broken::Token(NoToken::Missing(message)));
        }
        Err(error) => {
            proven.audience_unread = error.to_string();
            None
        }
    };
    let audience = audience.unwrap_or_else(|| DEFAULT_AUDIENCE.to_owned());
    let failed = |what: &str, hint: &str| {
        Broken::Token(NoToken::Failed { what: what.to_owned(), hint: hint.to_owned() })
    };
    if audience.is_empty() {
        let what =
            format!("the annotation {ANNOTATION_AUDIENCE} is empty: tokens of pods are for the API server");
        return Err(failed(&what, &format!("give it the value {DEFAULT_AUDIENCE}, or take it away")));
    }
    let token = cluster.account_token(namespace, account, &audience).await.map_err(no_token)?;
    let Some(claims) = token.claims() else {
        return Err(failed(
            "what came is no token of Kubernetes",
            "see what answers at the API server's address",
        ));
    };
    let home = claims.region().map(str::to_owned);
    proven.claims = Some(claims);
    sts.become_role(role, token.reveal(), SESSION, home.as_deref()).await.map_err(of_sts)
}

fn no_token(error: ClusterError) -> Broken {
    Broken::Token(match error {
        ClusterError::Answered { status: 404, message, .. } => NoToken::Missing(message),
        ClusterError::Answered { status: 403, message, .. } => NoToken::Forbidden(message),
        other => NoToken::Failed { what: other.to_string(), hint: other.hint().to_owned() },
    })
}

fn of_sts(refused: Refused) -> Broken {
    let why = match refused.answer {
        Answer::Error { code, message } => Why::Answered { code, message },
        Answer::Foreign { status } => Why::Foreign { status },
        Answer::TimedOut => Why::TimedOut,
        Answer::Unreachable { cause } => Why::Unreachable { cause },
        Answer::NoRegion => Why::NoRegion,
    };
    Broken::Refused(Refusal { call: refused.call, region: refused.region, why })
}

/// For people: what the trust policy of each role is compared with, and who a task is.
pub(super) fn text(all: &[Proven]) -> String {
    let mut text = String::new();
    for proven in all {
        let Chain { namespace, account, role, rules } = &proven.chain;
        text.push('\n');
        let mut line = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<10}{value}");
        };
        line("role", role);
        line("  rules", &rules.join(", "));
        line("  account", &format!("{namespace}/{account}"));
        if let Some(claims) = &proven.claims {
            line("  token", &format!("iss {}", claims.issuer));
            line("", &format!("sub {}", claims.subject));
            line("", &format!("aud {}", claims.audiences.join(", ")));
            line("", &format!("exp {:.0}", claims.expires_at));
        }
        match (&proven.result, proven.finding()) {
            (Ok(arn), None) => line("  task is", arn),
            (_, finding) => {
                let code = finding.map_or("", |finding| finding.code.as_str());
                line("  task is", &format!("not that role: {code}, below"));
            }
        }
    }
    text
}

/// For the document.
pub(super) fn document(proven: &Proven) -> Value {
    let Chain { namespace, account, role, rules } = &proven.chain;
    let token = proven.claims.as_ref().map(|claims| {
        json!({
            "iss": claims.issuer, "sub": claims.subject, "aud": claims.audiences,
            "exp": format!("{:.0}", claims.expires_at),
        })
    });
    json!({
        "role": role,
        "rules": rules,
        "namespace": namespace,
        "service_account": account,
        "token": token,
        "arn": proven.result.as_ref().ok(),
        "refused": proven.finding().map(|finding| finding.code),
    })
}
