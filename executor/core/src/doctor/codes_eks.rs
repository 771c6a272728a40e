//! The codes of Amazon EKS: what of AWS's is in the cluster, and room for pods with branch interfaces.

use super::code::{About, Code, Severity, row};
use Severity::{Error, Info, Warning};

/// In the order of [`Code`].
pub(super) static EKS: [About; 23] = [
    row(
        Code::CannotSee,
        "cannot-see",
        Warning,
        [
            "a read that the checks of EKS need was refused or failed: what depends on it is not judged",
            "nothing: the daemon itself does not need this read",
            "run the doctor as somebody who may read it, or bind deploy/rbac/doctor to whoever runs it",
        ],
    ),
    row(
        Code::SgpCrdMissing,
        "sgp-crd-missing",
        Error,
        [
            "SecurityGroupPolicies are not served by this cluster, and rules demand security groups",
            "their pods get none: tasks fail with IdentityMissing",
            "on EKS the resource comes with the cluster: see that this is an EKS cluster and that nobody has deleted the \
         CustomResourceDefinition securitygrouppolicies.vpcresources.k8s.aws",
        ],
    ),
    row(
        Code::SgpWebhookMissing,
        "sgp-webhook-missing",
        Error,
        [
            "a webhook configuration of security groups for pods is missing: nothing asks for branch interfaces, or guards \
         their annotation",
            "pods are created with their node's groups; behind the gate they do not start, and tasks fail with IdentityMissing",
            "EKS makes vpc-resource-mutating-webhook and vpc-resource-validating-webhook itself: see who deleted it, and ask \
         AWS's support to have it made again",
        ],
    ),
    row(
        Code::IrsaWebhookMissing,
        "irsa-webhook-missing",
        Error,
        [
            "the configuration of the pod identity webhook is missing, and rules demand roles",
            "pods are created without their role; behind the gate they do not start, and tasks fail with IdentityMissing",
            "EKS makes pod-identity-webhook itself: see who deleted it; outside of EKS install amazon-eks-pod-identity-webhook",
        ],
    ),
    row(
        Code::WebhookFailurePolicy,
        "webhook-failure-policy",
        Info,
        [
            "what happens to pods while a webhook of EKS is away",
            "with `Ignore` a pod is created without its identity; Windlass keeps such a pod behind its scheduling gate, and \
         pods that others make run as their node",
            "nothing: EKS sets it and would set it back",
        ],
    ),
    row(
        Code::CniMissing,
        "cni-missing",
        Error,
        [
            "there is no DaemonSet aws-node in kube-system, and rules demand security groups",
            "no node has a trunk interface: such pods stay Pending",
            "install the add-on vpc-cni; EKS Auto Mode and other CNIs have no security groups for pods",
        ],
    ),
    row(
        Code::CniVersion,
        "cni-version",
        Warning,
        [
            "the VPC CNI is older than what rules need",
            "what is said of that version does not work",
            "update the add-on: `aws eks update-addon --addon-name vpc-cni`",
        ],
    ),
    row(
        Code::PodEniDisabled,
        "pod-eni-disabled",
        Error,
        [
            "the VPC CNI does not give pods interfaces of their own",
            "no node gets a trunk interface: pods with security groups stay Pending",
            "`kubectl -n kube-system set env daemonset/aws-node ENABLE_POD_ENI=true` (an add-on: by its configuration, \
         {\"env\":{\"ENABLE_POD_ENI\":\"true\"}}), and give the cluster's role AmazonEKSVPCResourceController",
        ],
    ),
    row(
        Code::EnforcingMode,
        "enforcing-mode",
        Info,
        [
            "how the VPC CNI applies a pod's security groups",
            "nothing",
            "POD_SECURITY_GROUP_ENFORCING_MODE of aws-node chooses; it reaches new pods only",
        ],
    ),
    row(
        Code::EnforcingModeInvalid,
        "enforcing-mode-invalid",
        Error,
        [
            "POD_SECURITY_GROUP_ENFORCING_MODE is neither strict nor standard",
            "aws-node does not start with it: new nodes stay NotReady",
            "set it to `strict` or `standard`, or take it away (strict)",
        ],
    ),
    row(
        Code::StrictModeConflict,
        "strict-mode-conflict",
        Error,
        [
            "the enforcing mode strict does not work with something else in this cluster",
            "pods with security groups do not reach names or services",
            "`kubectl -n kube-system set env daemonset/aws-node POD_SECURITY_GROUP_ENFORCING_MODE=standard`, then make the \
         pods anew",
        ],
    ),
    row(
        Code::StrictNetworkPolicy,
        "strict-network-policy",
        Warning,
        [
            "network policies are not enforced on pods with security groups in the enforcing mode strict",
            "the policies seem to hold and do not",
            "use the mode standard with network policies, or leave these pods to their security groups",
        ],
    ),
    row(
        Code::EarlyDemux,
        "early-demux",
        Warning,
        [
            "pods with security groups have probes by TCP, HTTP or gRPC, which do not reach them in the enforcing mode strict",
            "the kubelet calls them unhealthy and restarts them; worker pods of tasks have no probes unless the template adds \
         them",
            "`kubectl -n kube-system set env daemonset/aws-node -c aws-vpc-cni-init DISABLE_TCP_EARLY_DEMUX=true`, and let the \
         pods' groups take the probe ports from the node's",
        ],
    ),
    row(
        Code::NodeSnat,
        "node-snat",
        Info,
        [
            "traffic that leaves the VPC does so from the node, under the node's groups",
            "the rules of the pod's groups do not hold for it",
            "if they should: set AWS_VPC_K8S_CNI_EXTERNALSNAT=true on aws-node, with a NAT gateway for the private subnets",
        ],
    ),
    row(
        Code::NoNodeNow,
        "no-node-now",
        Warning,
        [
            "no node is there that a pod with security groups could go to",
            "the pod waits until an autoscaler brings one, if it can",
            "see that the autoscaler has a group or pool that fits the pod's node selector and tolerations, of instance types \
         with a trunk interface",
        ],
    ),
    row(
        Code::NoBranchNode,
        "no-branch-node",
        Error,
        [
            "nodes fit a pod with security groups, and none of them has branch interfaces",
            "the pod stays Pending with `Insufficient vpc.amazonaws.com/pod-eni`",
            "use instance types with a trunk interface (no t family, no Windows, no Fargate), set ENABLE_POD_ENI, give the \
         cluster's role AmazonEKSVPCResourceController, and replace nodes that were there before",
        ],
    ),
    row(
        Code::NodeUnsupported,
        "node-unsupported",
        Info,
        [
            "nodes that fit a pod with security groups can have no branch interfaces",
            "such pods do not go there; others do",
            "nothing, if others have room; else use another instance type",
        ],
    ),
    row(
        Code::InstanceTypeUnknown,
        "instance-type-unknown",
        Info,
        [
            "this release does not know the instance type of a node without branch interfaces",
            "pods with security groups do not go there",
            "see `aws ec2 describe-instance-types` and the node's events for what the controller says of it",
        ],
    ),
    row(
        Code::NodeWithoutTrunk,
        "node-without-trunk",
        Warning,
        [
            "a node of a type with a trunk interface has none",
            "pods with security groups do not go there",
            "see the node's events; a node from before ENABLE_POD_ENI is to be replaced, and a cluster role without \
         AmazonEKSVPCResourceController cannot make one",
        ],
    ),
    row(
        Code::NodeTrunkEvents,
        "node-trunk-events",
        Warning,
        [
            "AWS's controller has told of a node that it can give no branch interfaces",
            "it tries again when the node changes",
            "see the message; most often the cluster's role lacks AmazonEKSVPCResourceController, or a subnet has no free \
         addresses",
        ],
    ),
    row(
        Code::BranchCapacity,
        "branch-capacity",
        Warning,
        [
            "there are fewer branch interfaces than tasks that Airflow may run at once",
            "the tasks above that wait as Pending pods; tasks without security groups go on",
            "use larger or more nodes, or give the tasks with security groups a pool of that size",
        ],
    ),
    row(
        Code::BranchChurn,
        "branch-churn",
        Info,
        [
            "how fast pods with security groups can follow one another: a finished pod's interface counts until its cool down \
         and up to 30 s more have passed, which the scheduler does not see",
            "a pod above that rate sits in ContainerCreating without an event",
            "for short tasks use larger nodes, lower branch-eni-cooldown (30 s at least), or take them out of the rule",
        ],
    ),
    row(
        Code::BranchCooldown,
        "branch-cooldown",
        Info,
        [
            "how long the branch interface of a finished pod is kept",
            "nothing",
            "key branch-eni-cooldown, in seconds, of ConfigMap kube-system/amazon-vpc-cni",
        ],
    ),
];
