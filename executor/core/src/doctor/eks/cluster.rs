//! What of AWS's has to be in the cluster, and what could not be seen.

use serde_json::Value;

use super::dry_run::has_its_role;
use super::facts::EksFacts;
use super::{Code, Finding, list};

/// Names by which EKS makes them; the webhook's own name counts where a configuration has another.
const IRSA: (&str, &str) = ("pod-identity-webhook", "iam-for-pods.amazonaws.com");
const SGP_MUTATING: (&str, &str) = ("vpc-resource-mutating-webhook", "mpod.vpc.k8s.aws");
const SGP_VALIDATING: (&str, &str) = ("vpc-resource-validating-webhook", "vpod.vpc.k8s.aws");

pub(super) fn blind(facts: &EksFacts, found: &mut Vec<Finding>) {
    for blind in &facts.cluster.blind {
        let what = match &blind.grant {
            Some(_) => format!("may not be read by who runs the doctor: {}", blind.why),
            None => format!("could not be read: {}", blind.why),
        };
        let mut finding = Finding::new(Code::CannotSee, &blind.what, what);
        if let Some(grant) = &blind.grant {
            finding = finding.remedy(format!(
                "grant `{grant}` to whoever runs the doctor (deploy/rbac/doctor has all such reads), or run it as somebody who may"
            ));
        }
        found.push(finding);
    }
}

pub(super) fn pieces(facts: &EksFacts, found: &mut Vec<Finding>) {
    let cluster = &facts.cluster;
    if facts.wants_groups() {
        if cluster.serves_policies == Some(false) {
            let what = "the API group vpcresources.k8s.aws/v1beta1 is not there";
            found.push(Finding::new(Code::SgpCrdMissing, "SecurityGroupPolicy", what));
        }
        found.extend(webhook(Code::SgpWebhookMissing, cluster.mutating.as_deref(), SGP_MUTATING));
        found.extend(webhook(Code::SgpWebhookMissing, cluster.validating.as_deref(), SGP_VALIDATING));
    }
    if facts.wants_roles() {
        let told = webhook(Code::IrsaWebhookMissing, cluster.mutating.as_deref(), IRSA);
        found.extend(told.filter(|finding| finding.code != Code::IrsaWebhookMissing || lacks_a_role(facts)));
    }
}

/// Whether a rule's pod is not seen to have its role. A pod template may give variables and token itself; then nobody
/// misses the webhook.
fn lacks_a_role(facts: &EksFacts) -> bool {
    let mut demanding = facts.rules.iter().filter(|rule| rule.gives.role_arn.is_some()).peekable();
    demanding.peek().is_none() || !demanding.all(has_its_role)
}

/// What is said of a webhook; None: the configurations could not be read.
fn webhook(
    missing: Code,
    configurations: Option<&[Value]>,
    (configuration, name): (&str, &str),
) -> Option<Finding> {
    let configurations = configurations?;
    let there = configurations.iter().find_map(|seen| {
        let webhook = list(&seen["webhooks"]).iter().find(|webhook| webhook["name"] == name)?;
        Some((seen, webhook))
    });
    let Some((seen, webhook)) = there else {
        let same_name = configurations.iter().any(|seen| seen["metadata"]["name"] == configuration);
        let what = if same_name {
            format!("the configuration is there, and has no webhook `{name}`")
        } else {
            format!("there is no configuration with the webhook `{name}`")
        };
        return Some(Finding::new(missing, configuration, what));
    };
    let object = format!("{} ({name})", seen["metadata"]["name"].as_str().unwrap_or(configuration));
    let (what, next) = match webhook["failurePolicy"].as_str() {
        Some("Ignore") => (
            "failurePolicy is Ignore: while it does not answer, pods are created without what it gives",
            "Windlass looks at each pod behind its scheduling gate before it lets it go; pods that others make run as \
             their node",
        ),
        // The API's default.
        Some(_) | None => (
            "failurePolicy is Fail: while it does not answer, no pod is created",
            "creates are tried again until it answers",
        ),
    };
    Some(Finding::new(Code::WebhookFailurePolicy, object, what).next(next))
}

/// What only AWS's own APIs tell.
pub(super) fn not_seen(facts: &EksFacts, found: &mut Vec<Finding>) {
    let mut unseen = Vec::new();
    if facts.wants_roles() {
        unseen.push(
            "whether roles exist, trust this cluster's OIDC provider and their service accounts, and whether IAM has that provider",
        );
    }
    if facts.wants_groups() {
        unseen.push(
            "whether security groups exist and belong to the VPC, what their rules let through (DNS: TCP and UDP 53 to \
             CoreDNS, the database, STS), free addresses of the subnets, and whether the cluster's role has \
             AmazonEKSVPCResourceController",
        );
    }
    if !unseen.is_empty() {
        found.push(Finding::new(Code::AwsNotSeen, "AWS", unseen.join("; ")));
    }
}
