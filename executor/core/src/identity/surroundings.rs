//! What of the cluster decides who a pod will be, before the pod is made: service accounts, SecurityGroupPolicies, and
//! the nodes' branch interfaces. Watches keep it; a look costs no API call.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Identity;
use super::sgp::{
    Branch, Match, MatchError, PodFacts, Policies, ServiceAccounts, Untouched, branch_interfaces, decide,
    matching_groups,
};
use crate::pod::FieldError;
use crate::task::BranchPool;

/// Label of nodes with their EC2 instance type.
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// A node, as far as branch interfaces are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.unschedulable`: new pods do not come here.
    pub unschedulable: bool,
    /// `status.allocatable["vpc.amazonaws.com/pod-eni"]`; 0 where it has none.
    pub branch_interfaces: u32,
}

/// What is known of the cluster. Each part counts once it was listed whole; what cannot be read is not judged by, and
/// the admitted pod shows it then.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Of the watched namespaces.
    pub accounts: ServiceAccounts,
    /// They were listed.
    pub accounts_known: bool,
    /// Of the watched namespaces.
    pub policies: Policies,
    /// They were listed, or the cluster does not know the kind.
    pub policies_known: bool,
    /// By name.
    pub nodes: BTreeMap<String, NodeView>,
    /// They were listed.
    pub nodes_known: bool,
}

/// Why a pod cannot become who its rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// For people: what it would be, and the remedy.
    pub why: String,
    /// Whether the cluster can change so that it fits. Else the pod itself cannot have it.
    pub passes: bool,
}

impl Surroundings {
    /// Whether admission will make of the pod what its identity demands, as far as that can be known before.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, identity: &Identity, pod: &Value) -> Result<(), Misfit> {
        if !identity.demands() {
            return Ok(());
        }
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let facts = PodFacts::before_create(pod, namespace).map_err(|error| unreadable(&error))?;
        self.check_role(identity, &facts)?;
        if identity.security_groups.is_empty() {
            return Ok(());
        }
        // The kubelet kills such a pod before the CNI plugin has given its interface back (AWS, security groups for pods).
        if pod["spec"]["terminationGracePeriodSeconds"].as_i64() == Some(0) {
            let why = "security groups for pods do not go with terminationGracePeriodSeconds 0: its interface would not be \
                       given back; set it to 1 or more in the pod template or pod_override";
            return Err(Misfit { why: why.into(), passes: false });
        }
        if let Some(instance) = pod["spec"]["nodeSelector"][INSTANCE_TYPE].as_str()
            && branch_interfaces(instance) == Some(0)
        {
            let why = format!(
                "its node selector asks for {instance}, an instance type without branch network interfaces: choose \
                 another for pods with security groups"
            );
            return Err(Misfit { why, passes: false });
        }
        self.check_groups(identity, &facts)
    }

    /// Whether all that security groups follow from was listed.
    pub fn groups_known(&self) -> bool {
        self.accounts_known && self.policies_known
    }

    /// Security groups that `pod` gets by its labels and would not get with those of `usual`: what is said of them.
    /// None: the same, or not known.
    pub fn groups_by_labels(&self, usual: &Value, pod: &Value) -> Option<String> {
        if !self.groups_known() {
            return None;
        }
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let facts = PodFacts::before_create(pod, namespace).ok()?;
        let as_usual =
            PodFacts { labels: PodFacts::before_create(usual, namespace).ok()?.labels, ..facts.clone() };
        let [got, expected] =
            [&facts, &as_usual].map(|facts| matching_groups(facts, &self.accounts, &self.policies));
        let (got, expected) = (got.ok()?, expected.ok()?);
        let shown = |found: &Match| match found.groups.is_empty() {
            true => "no security groups of its own".to_owned(),
            false => {
                format!("{} (SecurityGroupPolicies {})", found.groups.join(", "), found.policies.join(", "))
            }
        };
        (groups_of(&got) != groups_of(&expected))
            .then(|| format!("with them the pod gets {}, without them {}", shown(&got), shown(&expected)))
    }

    fn check_role(&self, identity: &Identity, pod: &PodFacts) -> Result<(), Misfit> {
        let Some(wanted) = identity.role_arn.as_deref().filter(|_| self.accounts_known) else {
            return Ok(());
        };
        match self.accounts.role(&pod.namespace, &pod.service_account) {
            Some(role) if role != wanted => {
                let account = format!("{}/{}", pod.namespace, pod.service_account);
                let why = format!(
                    "service account {account} carries role {role}, and the rule demands {wanted}: correct its annotation \
                     eks.amazonaws.com/role-arn (`windlass identity render` prints it), or remove it where an EKS Pod \
                     Identity association gives the role"
                );
                Err(Misfit { why, passes: true })
            }
            // Without an annotation an association may give it: the admitted pod shows it.
            None => Ok(()),
            Some(_) => self.check_audience(identity, pod),
        }
    }

    fn check_audience(&self, identity: &Identity, pod: &PodFacts) -> Result<(), Misfit> {
        let (wanted, found) =
            (identity.audience(), self.accounts.audience(&pod.namespace, &pod.service_account));
        match found.filter(|found| *found != wanted) {
            None => Ok(()),
            Some(found) => {
                let why = format!(
                    "service account {}/{} asks for tokens of audience `{found}`, and the rule expects `{wanted}`: correct \
                     its annotation eks.amazonaws.com/audience, or the rule's token-audience",
                    pod.namespace, pod.service_account
                );
                Err(Misfit { why, passes: true })
            }
        }
    }

    fn check_groups(&self, identity: &Identity, pod: &PodFacts) -> Result<(), Misfit> {
        let found = if self.groups_known() {
            decide(pod, |pod| matching_groups(pod, &self.accounts, &self.policies))
        } else {
            decide(pod, |_| {
                Ok(Match { groups: identity.security_groups.iter().cloned().collect(), ..Match::default() })
            })
        };
        let never = |what: &str| {
            let why = format!(
                "{what}: security groups for pods do not reach it; change the pod template or pod_override"
            );
            Err(Misfit { why, passes: false })
        };
        match found {
            Ok(Branch::Untouched(Untouched::HostNetwork)) => {
                never("the pod uses its node's network (hostNetwork)")
            }
            Ok(Branch::Untouched(Untouched::Windows)) => never("the pod's node selector asks for Windows"),
            Ok(Branch::Fargate(_)) => {
                never("the pod goes to Fargate (label eks.amazonaws.com/fargate-profile)")
            }
            Ok(Branch::Interface(found)) => compare(identity, pod, &found),
            Ok(Branch::None) => compare(identity, pod, &Match::default()),
            Err(MatchError::ServiceAccountNotFound(name)) => {
                let why = format!(
                    "service account {}/{name} is not there; create it (`windlass identity render` prints it)",
                    pod.namespace
                );
                Err(Misfit { why, passes: true })
            }
            Err(MatchError::Read(why)) => Err(Misfit { why, passes: true }),
        }
    }

    /// Branch interfaces of the nodes that each pool may use; None: nodes cannot be seen.
    pub fn capacity(&self, pools: &BTreeSet<BranchPool>) -> Option<BTreeMap<BranchPool, u32>> {
        let of_pool = |pool: &BranchPool| {
            let nodes = self.nodes.values().filter(|node| !node.unschedulable && pool.takes(&node.labels));
            nodes.map(|node| node.branch_interfaces).sum()
        };
        self.nodes_known.then(|| pools.iter().map(|pool| (pool.clone(), of_pool(pool))).collect())
    }
}

fn unreadable(error: &FieldError) -> Misfit {
    Misfit { why: format!("the pod's security groups cannot be told: {error}"), passes: false }
}

/// As a set: the controller takes policies in an order of chance.
fn groups_of(found: &Match) -> BTreeSet<&str> {
    found.groups.iter().map(String::as_str).collect()
}

fn compare(identity: &Identity, pod: &PodFacts, found: &Match) -> Result<(), Misfit> {
    let groups = groups_of(found);
    if groups.iter().copied().eq(identity.security_groups.iter().map(String::as_str)) {
        return Ok(());
    }
    let wanted: Vec<&str> = identity.security_groups.iter().map(String::as_str).collect();
    let groups: Vec<&str> = groups.into_iter().collect();
    let gives = if groups.is_empty() {
        format!("no SecurityGroupPolicy of namespace {} matches it", pod.namespace)
    } else {
        let policies = found.policies.join(", ");
        format!(
            "namespace {}'s SecurityGroupPolicies ({policies}) give it {}",
            pod.namespace,
            groups.join(", ")
        )
    };
    let why = format!(
        "{gives}, and the rule demands {}: `windlass identity render` prints the policy, `windlass identity groups -f` \
         shows which ones match",
        wanted.join(", ")
    );
    Err(Misfit { why, passes: true })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::sgp::SecurityGroupPolicy;

    const A: &str = "sg-0000000000000000a";
    const B: &str = "sg-0000000000000000b";

    fn identity(role: Option<&str>, groups: &[&str]) -> Identity {
        Identity {
            role_arn: role.map(str::to_owned),
            security_groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..Identity::default()
        }
    }

    fn pod() -> Value {
        json!({
            "metadata": {"namespace": "etl", "labels": {"team": "fin"}},
            "spec": {"serviceAccountName": "fin", "containers": [{"name": "base"}]}
        })
    }

    fn cluster(role: Option<&str>, groups: &[&str]) -> Surroundings {
        let mut of = Surroundings { accounts_known: true, policies_known: true, ..Surroundings::default() };
        of.accounts.insert("etl", "fin", super::super::Labels::new());
        of.accounts.set_role("etl", "fin", role.map(str::to_owned), None);
        for (number, group) in groups.iter().enumerate() {
            let policy = json!({
                "metadata": {"namespace": "etl", "name": format!("p{number}")},
                "spec": {"podSelector": {"matchLabels": {"team": "fin"}}, "securityGroups": {"groupIds": [group]}}
            });
            of.policies.insert(SecurityGroupPolicy::read(&policy).unwrap());
        }
        of
    }

    fn why(of: &Surroundings, identity: &Identity, pod: &Value) -> (String, bool) {
        let misfit = of.check(identity, pod).unwrap_err();
        (misfit.why, misfit.passes)
    }

    #[test]
    fn a_pod_that_will_be_who_it_should_be_passes() {
        let of = cluster(Some("role-a"), &[B, A]);
        for identity in
            [identity(Some("role-a"), &[A, B]), identity(Some("role-a"), &[]), identity(None, &[])]
        {
            assert_eq!(of.check(&identity, &pod()), Ok(()));
        }
        // An EKS Pod Identity association may give the role.
        assert_eq!(cluster(None, &[]).check(&identity(Some("role-a"), &[]), &pod()), Ok(()));
        // What cannot be seen is not judged by.
        let blind = Surroundings::default();
        assert_eq!(blind.check(&identity(Some("role-a"), &[A]), &pod()), Ok(()));
    }

    #[test]
    fn another_role_and_other_groups_are_told_with_the_remedy() {
        let of = cluster(Some("role-b"), &[B]);
        let (text, passes) = why(&of, &identity(Some("role-a"), &[]), &pod());
        assert!(
            passes
                && text
                    .starts_with("service account etl/fin carries role role-b, and the rule demands role-a")
        );
        let (text, passes) = why(&of, &identity(None, &[A]), &pod());
        let expected =
            format!("namespace etl's SecurityGroupPolicies (p0) give it {B}, and the rule demands {A}");
        assert!(passes && text.starts_with(&expected), "{text}");
        let mut vault = cluster(Some("role-a"), &[]);
        vault.accounts.set_role("etl", "fin", Some("role-a".into()), Some("vault".into()));
        let (text, passes) = why(&vault, &identity(Some("role-a"), &[]), &pod());
        let expected = "service account etl/fin asks for tokens of audience `vault`, and the rule expects \
                        `sts.amazonaws.com`: ";
        assert!(passes && text.starts_with(expected), "{text}");
        let of_vault = Identity { token_audience: Some("vault".into()), ..identity(Some("role-a"), &[]) };
        assert_eq!(vault.check(&of_vault, &pod()), Ok(()));
        let (text, _) = why(&cluster(None, &[]), &identity(None, &[A]), &pod());
        assert!(
            text.starts_with("no SecurityGroupPolicy of namespace etl matches it, and the rule demands"),
            "{text}"
        );
        let mut stranger = pod();
        stranger["spec"]["serviceAccountName"] = "x".into();
        let (text, passes) = why(&of, &identity(None, &[B]), &stranger);
        assert!(passes && text.starts_with("service account etl/x is not there"), "{text}");
    }

    #[test]
    fn labels_by_which_a_pod_gets_other_groups_are_told() {
        let of = cluster(None, &[A]);
        let mut usual = pod();
        usual["metadata"]["labels"] = json!({"dag_id": "d"});
        let told = |usual: &Value, pod: &Value| of.groups_by_labels(usual, pod);
        assert_eq!(told(&pod(), &pod()), None);
        let got = format!(
            "with them the pod gets {A} (SecurityGroupPolicies p0), without them no security groups of its own"
        );
        assert_eq!(told(&usual, &pod()), Some(got));
        let lost = format!(
            "with them the pod gets no security groups of its own, without them {A} (SecurityGroupPolicies p0)"
        );
        assert_eq!(told(&pod(), &usual), Some(lost));
        assert_eq!(Surroundings::default().groups_by_labels(&usual, &pod()), None);
    }

    #[test]
    fn what_groups_never_reach_is_refused_for_good_also_blind() {
        let demanded = identity(None, &[A]);
        for of in [cluster(None, &[A]), Surroundings::default()] {
            let mut fargate = pod();
            fargate["metadata"]["labels"]["eks.amazonaws.com/fargate-profile"] = "p".into();
            let (text, passes) = why(&of, &demanded, &fargate);
            assert!(!passes && text.starts_with("the pod goes to Fargate"), "{text}");
            for (pointer, value, says) in [
                ("hostNetwork", json!(true), "the pod uses its node's network"),
                (
                    "nodeSelector",
                    json!({"kubernetes.io/os": "windows"}),
                    "the pod's node selector asks for Windows",
                ),
                ("terminationGracePeriodSeconds", json!(0), "security groups for pods do not go with"),
                ("nodeSelector", json!({INSTANCE_TYPE: "t3.large"}), "its node selector asks for t3.large"),
            ] {
                let mut pod = pod();
                pod["spec"][pointer] = value;
                let (text, passes) = why(&of, &demanded, &pod);
                assert!(!passes && text.starts_with(says), "{text}");
            }
        }
    }

    #[test]
    fn capacity_is_that_of_the_nodes_that_a_rule_chooses() {
        let mut of = Surroundings::default();
        let pool = |text: &str| BranchPool(text.into());
        let pools = BTreeSet::from([pool(""), pool("pool=fin")]);
        assert_eq!(of.capacity(&pools), None);
        of.nodes_known = true;
        for (name, label, unschedulable, branch_interfaces) in
            [("a", "fin", false, 9), ("b", "fin", true, 9), ("c", "web", false, 18)]
        {
            let labels = BTreeMap::from([("pool".to_owned(), label.to_owned())]);
            let node = NodeView { name: name.into(), labels, unschedulable, branch_interfaces };
            of.nodes.insert(name.into(), node);
        }
        let capacity = of.capacity(&pools).unwrap();
        assert_eq!((capacity[&pool("")], capacity[&pool("pool=fin")]), (27, 9));
    }
}
