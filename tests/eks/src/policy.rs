//! The custom resource SecurityGroupPolicy.

use serde_json::{Value, json};

/// Its CustomResourceDefinition. As on EKS it checks little: every field is optional, an operator is any text, and only
/// an empty list of groups is refused. A bad selector is accepted and matches nothing.
pub fn security_group_policy_crd() -> Value {
    let spec = json!({ "type": "object", "properties": {
        "podSelector": selector("Pods of the namespace, by their labels."),
        "serviceAccountSelector": selector("Pods of the namespace, by the labels of their service account."),
        "securityGroups": { "type": "object", "properties": { "groupIds": {
            "description": "Security groups of the pod's network interface.",
            "type": "array", "minItems": 1, "items": { "type": "string" },
        } } },
    } });
    let text = json!({ "type": "string" });
    let schema = json!({ "type": "object", "properties": {
        "apiVersion": text, "kind": text, "metadata": { "type": "object" }, "spec": spec,
    } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "securitygrouppolicies.vpcresources.k8s.aws" },
        "spec": {
            "group": "vpcresources.k8s.aws",
            "scope": "Namespaced",
            "names": {
                "kind": "SecurityGroupPolicy", "listKind": "SecurityGroupPolicyList",
                "plural": "securitygrouppolicies", "singular": "securitygrouppolicy", "shortNames": ["sgp"],
            },
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema },
                "additionalPrinterColumns": [{
                    "name": "Security-Group-Ids", "type": "string", "jsonPath": ".spec.securityGroups.groupIds",
                    "description": "Its security groups.",
                }],
            }],
        },
    })
}

/// A `metav1.LabelSelector`, without a check of operators and values.
fn selector(description: &str) -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    json!({ "description": description, "type": "object", "properties": {
        "matchLabels": { "type": "object", "additionalProperties": text },
        "matchExpressions": { "type": "array", "items": {
            "type": "object",
            "required": ["key", "operator"],
            "properties": { "key": text, "operator": text, "values": texts },
        } },
    } })
}
