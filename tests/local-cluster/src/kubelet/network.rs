//! A pod's address, where the VPC CNI gives it one of a branch interface.
//!
//! The plugin looks at the limits of the first container alone, takes the first interface of the controller's annotation,
//! and fails until it is there. A pod that asks for an interface elsewhere gets an address of its node.

use serde_json::Value;

use super::manifest::Pod;

/// The resource that such a pod asks for, and the annotation with its interfaces.
const POD_ENI: &str = "vpc.amazonaws.com/pod-eni";

/// Reason and words of the event on a pod that waits; on EKS it is normal for the first seconds.
pub(crate) const FAILED: (&str, &str) = (
    "FailedCreatePodSandBox",
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox: plugin \
     type=\"aws-cni\" name=\"aws-cni\" failed (add): add cmd: failed to assign an IP address to container",
);

/// Whether the pod's address is that of its branch interface.
pub(crate) fn wants_branch(pod: &Pod) -> bool {
    let first = pod.spec.containers.first();
    first.is_some_and(|first| first.resources.limits.keys().any(|limit| limit.starts_with(POD_ENI)))
}

/// The address; None: the controller has not given it yet.
pub(crate) fn branch_address(pod: &Pod) -> Option<String> {
    let interfaces: Value = serde_json::from_str(pod.metadata.annotations.get(POD_ENI)?).ok()?;
    let address = interfaces[0]["privateIp"].as_str()?;
    (!address.is_empty()).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: Value, annotation: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "annotations": { POD_ENI: annotation } }, "spec": { "containers": containers },
        }))
        .unwrap()
    }

    #[test]
    fn the_first_container_and_the_first_interface() {
        let asks = json!({ "name": "a", "resources": { "limits": { "cpu": 1, POD_ENI: "1" } } });
        let plain = json!({ "name": "b", "resources": { "requests": { POD_ENI: "1" } } });
        assert!(wants_branch(&pod(json!([asks, plain]), "")));
        assert!(!wants_branch(&pod(json!([plain, asks]), "")));
        let two = r#"[{"eniId": "eni-1", "privateIp": "10.0.0.1"}, {"privateIp": "10.0.0.2"}]"#;
        assert_eq!(branch_address(&pod(json!([]), two)).as_deref(), Some("10.0.0.1"));
        for nothing in ["", "[]", "{}", r#"[{"privateIp": ""}]"#] {
            assert_eq!(branch_address(&pod(json!([]), nothing)), None, "{nothing}");
        }
    }
}
