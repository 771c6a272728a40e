//! What the controller and the webhook left on a pod, read as the CNI plugin reads it.

use serde_json::Value;

use super::POD_ENI;
use crate::identity::field::{Field, kind_of};
use crate::pod::FieldError;
use crate::pod_view::Branch as Standing;

/// The network interface that the controller made for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchInterface {
    /// The pod's address in a cluster with IPv4. If `status.podIP` is another, the pod does not use the interface.
    pub private_ip: Option<String>,
    /// The pod's address in a cluster with IPv6.
    pub ipv6: Option<String>,
}

/// Why the annotation [`POD_ENI`] says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodEniError {
    /// Not JSON.
    #[error("annotation {POD_ENI} is no JSON: {0}")]
    NotJson(String),
    /// JSON, and not a list with an interface in it.
    #[error("annotation {POD_ENI} must be a list of interfaces, is {0}")]
    NoInterface(&'static str),
    /// A field of another type.
    #[error("annotation {POD_ENI}: {0}")]
    Field(#[from] FieldError),
}

impl BranchInterface {
    /// Reads the value of the annotation [`POD_ENI`], a JSON list. Only its first element counts.
    ///
    /// # Errors
    /// It is not such a list. The CNI plugin then gives the pod no address.
    pub fn read(annotation: &str) -> Result<Self, PodEniError> {
        let list: Value =
            serde_json::from_str(annotation).map_err(|error| PodEniError::NotJson(error.to_string()))?;
        let first = match &list {
            Value::Array(items) => items.first().ok_or(PodEniError::NoInterface("an empty list"))?,
            other => return Err(PodEniError::NoInterface(kind_of(other))),
        };
        let interface = Field::root("", first);
        // The controller writes the empty text for an address that the interface does not have.
        let address = |name| -> Result<Option<String>, FieldError> {
            Ok(Some(interface.get(name)?.text()?).filter(|text| !text.is_empty()))
        };
        Ok(Self { private_ip: address("privateIp")?, ipv6: address("ipv6Addr")? })
    }
}

/// How a pod that has to have a branch interface stands, by the value of its annotation [`POD_ENI`] and its
/// `status.podIP` (empty: it has none yet). Any other address is one of its node's, with the node's groups.
pub fn standing(annotation: Option<&str>, pod_ip: &str) -> Standing {
    let bypassed = |which: String| Standing::Bypassed {
        why: format!("it runs with its node's security groups: its address is {pod_ip}, and {which}"),
    };
    let interface = match annotation.map(BranchInterface::read) {
        Some(Ok(interface)) => interface,
        // The CNI plugin gives no address then.
        Some(Err(_)) | None if pod_ip.is_empty() => return Standing::Awaited,
        Some(Err(error)) => return bypassed(error.to_string()),
        None => return bypassed("it has no branch network interface".into()),
    };
    let own = [&interface.private_ip, &interface.ipv6].into_iter().flatten();
    if pod_ip.is_empty() || own.clone().any(|address| address == pod_ip) {
        return Standing::Attached;
    }
    let own: Vec<&str> = own.map(String::as_str).collect();
    bypassed(format!("that of its branch network interface is {}", own.join(" or ")))
}

/// Whether a pod asks for an interface where the CNI plugin looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// The first container does, so the pod uses its interface.
    ContainerZero,
    /// Only another container does: its name. The controller makes an interface, the CNI plugin does not see it, and
    /// the pod runs with the groups of its node. Happens if something puts a container before the first one after
    /// the webhook ran.
    OtherContainer(String),
    /// No container does.
    No,
}

/// Which container of the pod (JSON) has a limit that begins with [`POD_ENI`]. Init containers do not count.
pub fn pod_asks_for_branch(pod: &Value) -> Asks {
    let asks = |container: &Value| {
        let limits = container.pointer("/resources/limits").and_then(Value::as_object);
        limits.is_some_and(|limits| limits.keys().any(|key| key.starts_with(POD_ENI)))
    };
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match containers.iter().enumerate().find(|(_, container)| asks(container)) {
        None => Asks::No,
        Some((0, _)) => Asks::ContainerZero,
        Some((index, container)) => Asks::OtherContainer(
            container["name"].as_str().map_or_else(|| format!("containers[{index}]"), str::to_owned),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn first_interface_of_the_annotation() {
        let text = json!([
            {"eniId": "eni-1", "ifAddress": "02:00:00:00:00:01", "privateIp": "10.0.1.7", "ipv6Addr": "", "vlanId": 1,
             "subnetCidr": "10.0.0.0/16", "subnetV6Cidr": "", "associationID": "trunk-assoc-1"},
            {"privateIp": "10.0.1.8", "ipv6Addr": "2001:db8::1"},
        ]);
        let read = BranchInterface::read(&text.to_string()).unwrap();
        assert_eq!(read, BranchInterface { private_ip: Some("10.0.1.7".into()), ipv6: None });
        let six = BranchInterface::read(r#"[{"privateIp": "", "ipv6Addr": "2001:db8::1"}]"#).unwrap();
        assert_eq!(six, BranchInterface { private_ip: None, ipv6: Some("2001:db8::1".into()) });
    }

    #[test]
    fn annotations_without_an_interface() {
        let error = |text| BranchInterface::read(text).unwrap_err().to_string();
        assert!(error("").starts_with("annotation vpc.amazonaws.com/pod-eni is no JSON: EOF"));
        assert_eq!(
            error("[]"),
            "annotation vpc.amazonaws.com/pod-eni must be a list of interfaces, is an empty list"
        );
        assert_eq!(
            error("{}"),
            "annotation vpc.amazonaws.com/pod-eni must be a list of interfaces, is an object"
        );
        assert_eq!(
            error(r#"[{"privateIp": 5}]"#),
            "annotation vpc.amazonaws.com/pod-eni: `privateIp` must be a text, is a number"
        );
        assert_eq!(
            error("[1]"),
            "annotation vpc.amazonaws.com/pod-eni: `the object` must be an object, is a number"
        );
    }

    #[test]
    fn only_limits_of_the_first_container_count() {
        let with =
            json!({"name": "w", "resources": {"limits": {"cpu": "1", "vpc.amazonaws.com/pod-eni": "1"}}});
        let other_key = json!({"name": "o", "resources": {"limits": {"vpc.amazonaws.com/pod-eni-2": "1"}}});
        let request = json!({"name": "r", "resources": {"requests": {"vpc.amazonaws.com/pod-eni": "1"}}});
        let asks = |containers: Value| pod_asks_for_branch(&json!({"spec": {"containers": containers}}));
        assert_eq!(asks(json!([with, request])), Asks::ContainerZero);
        assert_eq!(asks(json!([other_key])), Asks::ContainerZero);
        assert_eq!(asks(json!([request, with])), Asks::OtherContainer("w".into()));
        assert_eq!(asks(json!([request])), Asks::No);
        assert_eq!(
            asks(json!([{}, {"resources": with["resources"]}])),
            Asks::OtherContainer("containers[1]".into())
        );
        assert_eq!(pod_asks_for_branch(&json!({"spec": {"initContainers": [with]}})), Asks::No);
        assert_eq!(pod_asks_for_branch(&json!(null)), Asks::No);
    }
}
