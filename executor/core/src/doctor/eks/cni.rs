//! The VPC CNI: the DaemonSet aws-node, and what its settings mean for pods with security groups.

use serde_json::Value;

use super::facts::{EksFacts, Named, probed};
use super::{Code, Finding, containers, go_bool, list, some_of};

/// Where EKS has it.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "aws-node";
const CONTAINER: &str = "aws-node";
const INIT_CONTAINER: &str = "aws-vpc-cni-init";
/// DaemonSets that enforce network policies beside or in place of the CNI's own agent, by a part of their names.
const POLICY_AGENTS: [&str; 3] = ["calico-node", "cilium", "antrea-agent"];
/// kube-proxy's configuration on EKS.
pub(super) const KUBE_PROXY: &str = "kube-proxy-config";

/// The ConfigMaps of kube-system that its variables are read from.
pub fn aws_node_config_maps(daemon_sets: &[Value]) -> Vec<Named> {
    let Some(aws_node) = named(daemon_sets, NAME) else { return Vec::new() };
    let variables =
        containers(&aws_node["spec"]["template"]["spec"]).flat_map(|container| list(&container["env"]));
    let mut names: Vec<Named> = variables
        .filter_map(|variable| variable["valueFrom"]["configMapKeyRef"]["name"].as_str())
        .map(|name| (NAMESPACE.to_owned(), name.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A variable of a container of it.
enum Variable {
    /// Not set, or in a ConfigMap that has no such key and may lack it.
    Absent,
    Is(String),
    /// Where it comes from, which could not be read.
    Hidden(String),
}

/// aws-node, and what it reads.
struct AwsNode<'a> {
    facts: &'a EksFacts,
    object: &'a Value,
}

impl AwsNode<'_> {
    fn container(&self, init: bool) -> &Value {
        let (field, name) = if init { ("initContainers", INIT_CONTAINER) } else { ("containers", CONTAINER) };
        let containers = list(&self.object["spec"]["template"]["spec"][field]);
        containers.iter().find(|container| container["name"] == name).unwrap_or(&Value::Null)
    }

    fn variable(&self, init: bool, name: &str) -> Variable {
        let found = list(&self.container(init)["env"]).iter().rfind(|variable| variable["name"] == name);
        let Some(variable) = found else { return Variable::Absent };
        let from = &variable["valueFrom"];
        if !from.is_object() {
            return Variable::Is(variable["value"].as_str().unwrap_or_default().to_owned());
        }
        let reference = &from["configMapKeyRef"];
        let (Some(map), Some(key)) = (reference["name"].as_str(), reference["key"].as_str()) else {
            return Variable::Hidden("something other than a ConfigMap".into());
        };
        match self.facts.cluster.config_maps.get(&(NAMESPACE.to_owned(), map.to_owned())) {
            None => {
                Variable::Hidden(format!("key {key} of ConfigMap {NAMESPACE}/{map}, which could not be read"))
            }
            Some(seen) => {
                seen["data"][key].as_str().map_or(Variable::Absent, |text| Variable::Is(text.into()))
            }
        }
    }

    /// None: where it comes from could not be read.
    fn flag(&self, init: bool, name: &str) -> Option<bool> {
        match self.variable(init, name) {
            Variable::Absent => Some(false),
            Variable::Is(text) => Some(go_bool(&text).unwrap_or(false)),
            Variable::Hidden(_) => None,
        }
    }

    /// Major, minor and patch of its image's tag; None: another tag.
    fn version(&self) -> Option<(u32, u32, u32)> {
        let image = self.container(false)["image"].as_str()?;
        let tag = image.split('@').next()?.rsplit_once(':')?.1.strip_prefix('v')?;
        let mut numbers = tag.split(['.', '-']).map(|part| part.parse().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }

    /// None: it could not be read. Absent and empty are strict.
    fn mode(&self) -> Option<String> {
        match self.variable(false, "POD_SECURITY_GROUP_ENFORCING_MODE") {
            Variable::Absent => Some("strict".into()),
            Variable::Is(text) if text.is_empty() => Some("strict".into()),
            Variable::Is(text) => Some(text),
            Variable::Hidden(_) => None,
        }
    }
}

/// One line for the report: `aws-node v1.19.2`.
pub fn cni_line(facts: &EksFacts) -> String {
    let aws_node = facts.cluster.daemon_sets.as_deref().and_then(|sets| named(sets, NAME));
    let Some(object) = aws_node else { return "aws-node not seen".into() };
    let aws_node = AwsNode { facts, object };
    let version = aws_node.version().map_or("of another tag".into(), |(a, b, c)| format!("v{a}.{b}.{c}"));
    aws_node
        .mode()
        .map_or_else(|| format!("aws-node {version}"), |mode| format!("aws-node {version}, {mode}"))
}

pub(super) fn aws_node(facts: &EksFacts, found: &mut Vec<Finding>) {
    let Some(sets) = facts.cluster.daemon_sets.as_deref().filter(|_| facts.wants_groups()) else { return };
    let Some(object) = named(sets, NAME) else {
        let what = "kube-system has no such DaemonSet";
        found.push(Finding::new(Code::CniMissing, "DaemonSet aws-node", what));
        return;
    };
    let aws_node = AwsNode { facts, object };
    version(&aws_node, found);
    enabled(&aws_node, found);
    let Some(mode) = aws_node.mode() else { return };
    let at = "DaemonSet aws-node";
    match mode.as_str() {
        "strict" => {
            let what = "strict: only the pod's groups count, also on its own node; there is no SNAT, so the internet is \
                        reached from private subnets with a NAT gateway alone";
            found.push(Finding::new(Code::EnforcingMode, at, what));
            strict(&aws_node, sets, found);
        }
        "standard" => {
            let what = "standard: traffic inside of a node is not filtered, and what leaves the VPC has the node's address";
            found.push(Finding::new(Code::EnforcingMode, at, what));
            if aws_node.flag(false, "AWS_VPC_K8S_CNI_EXTERNALSNAT") == Some(false) {
                let what = "the mode is standard and AWS_VPC_K8S_CNI_EXTERNALSNAT is not true: traffic of pods with security \
                            groups to addresses outside of the VPC is filtered by the node's groups";
                found.push(Finding::new(Code::NodeSnat, at, what));
            }
        }
        other => {
            let what = format!("POD_SECURITY_GROUP_ENFORCING_MODE is `{other}`");
            found.push(Finding::new(Code::EnforcingModeInvalid, at, what));
        }
    }
}

fn version(aws_node: &AwsNode<'_>, found: &mut Vec<Finding>) {
    let at = "DaemonSet aws-node";
    let Some(is) = aws_node.version() else {
        let image = aws_node.container(false)["image"].as_str().unwrap_or("none");
        let what =
            format!("the tag of its image is no version (`{image}`): features that need one are not judged");
        found.push(Finding::new(Code::CniVersion, at, what));
        return;
    };
    let ipv6 = aws_node.flag(false, "ENABLE_IPv6") == Some(true);
    let lacks = match is {
        is if is < (1, 7, 7) => "security groups for pods need 1.7.7",
        is if is < (1, 11, 0) => {
            "the enforcing mode standard, NodeLocal DNSCache and network policies need 1.11"
        }
        is if is < (1, 15, 0) => {
            "CNINode, by which the controller is told which nodes have a trunk, needs 1.15"
        }
        is if is < (1, 16, 0) && ipv6 => "security groups for pods in a cluster with IPv6 need 1.16",
        _ => return,
    };
    let what = format!("it is v{}.{}.{}; {lacks}", is.0, is.1, is.2);
    found.push(Finding::new(Code::CniVersion, at, what));
}

fn enabled(aws_node: &AwsNode<'_>, found: &mut Vec<Finding>) {
    let at = "DaemonSet aws-node";
    let what = match aws_node.variable(false, "ENABLE_POD_ENI") {
        Variable::Absent => "ENABLE_POD_ENI is not set; its default is false".to_owned(),
        Variable::Is(text) if go_bool(&text) == Some(true) => return,
        Variable::Is(text) => format!("ENABLE_POD_ENI is `{text}`"),
        Variable::Hidden(from) => {
            let what = format!("ENABLE_POD_ENI comes from {from}");
            found.push(Finding::new(Code::CannotSee, at, what));
            return;
        }
    };
    found.push(Finding::new(Code::PodEniDisabled, at, what));
}

fn strict(aws_node: &AwsNode<'_>, sets: &[Value], found: &mut Vec<Finding>) {
    let facts = aws_node.facts;
    if named(sets, "node-local-dns").is_some() {
        let what = "NodeLocal DNSCache (DaemonSet node-local-dns) is not reached by pods with security groups in the mode \
                    strict: they resolve no names";
        found.push(Finding::new(Code::StrictModeConflict, "DaemonSet node-local-dns", what));
    }
    let proxy = facts.cluster.config_maps.get(&(NAMESPACE.to_owned(), KUBE_PROXY.to_owned()));
    let config = proxy.and_then(|map| map["data"]["config"].as_str()).unwrap_or_default();
    let ipvs = |line: &str| {
        line.trim().strip_prefix("mode:").is_some_and(|mode| mode.trim().trim_matches(['"', '\'']) == "ipvs")
    };
    if config.lines().any(ipvs) {
        let what = "kube-proxy is in the mode ipvs, which needs the enforcing mode standard: services are not reached";
        found.push(Finding::new(Code::StrictModeConflict, "ConfigMap kube-proxy-config", what));
    }
    for set in sets {
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        if POLICY_AGENTS.iter().any(|agent| name.contains(agent)) {
            let what = format!("the network policies of {name} do not hold for pods with security groups");
            found.push(Finding::new(Code::StrictNetworkPolicy, format!("DaemonSet {name}"), what));
        }
    }
    early_demux(aws_node, found);
}

fn early_demux(aws_node: &AwsNode<'_>, found: &mut Vec<Finding>) {
    if aws_node.flag(true, "DISABLE_TCP_EARLY_DEMUX") != Some(false) {
        return;
    }
    let facts = aws_node.facts;
    let running = facts.cluster.pods.iter().flatten().filter(|pod| pod.asks && pod.probed);
    let running: Vec<String> = running.map(super::PodSeen::place).collect();
    let of_rules =
        facts.rules.iter().filter(|rule| rule.wants_groups() && rule.pod.as_ref().is_ok_and(probed));
    let mut who: Vec<&str> = of_rules.map(|rule| rule.object.as_str()).collect();
    who.extend(running.iter().map(String::as_str));
    if who.is_empty() {
        return;
    }
    let what = format!(
        "DISABLE_TCP_EARLY_DEMUX is not true on its init container aws-vpc-cni-init, and there are probes by TCP, HTTP or \
         gRPC in: {}",
        some_of(who)
    );
    found.push(Finding::new(Code::EarlyDemux, "DaemonSet aws-node", what));
}

fn named<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["metadata"]["name"] == name)
}
