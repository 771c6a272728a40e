//! Whether admission made of a pod what its rule demands.
//!
//! Both of EKS's webhooks fail open: while one is away, a pod is created without its role or its security groups and
//! would run as the node. So a pod for which a rule demands either is made with a scheduling gate, and says in its own
//! annotations what is demanded: any later look at the whole pod can tell, also after a restart.

use serde_json::{Map, Value};

use super::sgp::{Asks, pod_asks_for_branch};
use super::{Identity, irsa};
use crate::pod_view::Gate;

/// Annotation with the ARN of the role that the pod has to come to have.
pub const ANNOTATION_ROLE: &str = "windlass.dev/role-arn";
/// Annotation with the audience that the tokens for that role have to be for, where that is not
/// [`irsa::DEFAULT_AUDIENCE`].
pub const ANNOTATION_AUDIENCE: &str = "windlass.dev/token-audience";
/// Annotation with the ids of the security groups that it has to come to have, sorted, with commas between them.
pub const ANNOTATION_GROUPS: &str = "windlass.dev/security-groups";

/// Writes down what is demanded; what nobody demands must not stand there.
pub fn demand(annotations: &mut Map<String, Value>, identity: &Identity) {
    let groups: Vec<&str> = identity.security_groups.iter().map(String::as_str).collect();
    let demanded = [
        (ANNOTATION_ROLE, identity.role_arn.clone().unwrap_or_default()),
        (ANNOTATION_AUDIENCE, identity.token_audience.clone().unwrap_or_default()),
        (ANNOTATION_GROUPS, groups.join(",")),
    ];
    for (name, value) in demanded {
        if value.is_empty() {
            annotations.remove(name);
        } else {
            annotations.insert(name.into(), value.into());
        }
    }
}

/// Of a whole pod behind its gate, as a create or a GET answers it.
pub fn judge(pod: &Value) -> Gate {
    let demanded = |name: &str| pod["metadata"]["annotations"][name].as_str().filter(|text| !text.is_empty());
    if let Some(role) = demanded(ANNOTATION_ROLE) {
        let audience = demanded(ANNOTATION_AUDIENCE).unwrap_or(irsa::DEFAULT_AUDIENCE);
        if let Err(fault) = irsa::check(pod, role, audience) {
            return Gate::Unfit { why: fault.to_string(), again: fault.is_silent() };
        }
    }
    if let Some(groups) = demanded(ANNOTATION_GROUPS) {
        let unfit = |why: String, again| Gate::Unfit { why, again };
        match pod_asks_for_branch(pod) {
            Asks::ContainerZero => {}
            Asks::OtherContainer(name) => {
                let why = format!(
                    "it would run with its node's security groups instead of {groups}: container `{name}` asks for the \
                     branch interface, and the CNI looks at the first container alone; see which webhook puts a \
                     container in front"
                );
                return unfit(why, false);
            }
            Asks::No => {
                let why = format!(
                    "it would run with its node's security groups instead of {groups}: admission asked for no branch \
                     interface; see that a SecurityGroupPolicy matches it and that vpc-resource-mutating-webhook answers"
                );
                return unfit(why, true);
            }
        }
    }
    Gate::Fit
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod whose rule demands a group, with these containers.
    fn admitted(containers: &Value) -> Gate {
        judge(&json!({
            "metadata": { "annotations": { ANNOTATION_GROUPS: "sg-a" } },
            "spec": { "containers": containers },
        }))
    }

    fn container(name: &str, asks: bool) -> Value {
        match asks {
            true => json!({ "name": name, "resources": { "limits": { "vpc.amazonaws.com/pod-eni": "1" } } }),
            false => json!({ "name": name }),
        }
    }

    fn why(gate: &Gate) -> (&str, bool) {
        let Gate::Unfit { why, again } = gate else { panic!("{gate:?}") };
        (why, *again)
    }

    #[test]
    fn a_silent_webhook_left_the_pod_without_its_interface() {
        assert_eq!(admitted(&json!([container("base", true)])), Gate::Fit);
        let silent = admitted(&json!([container("base", false)]));
        let (text, again) = why(&silent);
        assert!(again && text.contains("instead of sg-a: admission asked for no branch interface"), "{text}");
    }

    #[test]
    fn a_container_in_front_takes_the_pod_to_its_nodes_groups_for_good() {
        let sidecar = admitted(&json!([container("proxy", false), container("base", true)]));
        let (text, again) = why(&sidecar);
        assert!(!again && text.contains("container `base` asks for the branch interface"), "{text}");
        assert_eq!(admitted(&json!([container("base", true), container("proxy", false)])), Gate::Fit);
    }

    #[test]
    fn what_nobody_demands_is_not_looked_for() {
        assert_eq!(judge(&json!({ "spec": { "containers": [container("base", false)] } })), Gate::Fit);
        let mut annotations = Map::from_iter([(ANNOTATION_GROUPS.to_owned(), json!("sg-forged"))]);
        demand(&mut annotations, &Identity::default());
        assert_eq!(annotations, Map::new());
    }
}
