//! The objects by which a cluster has the webhooks.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use windlass_eks::configuration::{irsa_mutating, sgp_mutating, sgp_validating};
use windlass_eks::policy::security_group_policy_crd;
use windlass_eks::review::Verdict;
use windlass_eks::server::{Handler, Webhooks};

#[tokio::test]
async fn webhook_configurations() {
    let none: [(&'static str, Handler); 0] = [];
    let webhooks = Webhooks::start(none).await.unwrap();
    let made = [irsa_mutating(&webhooks), sgp_mutating(&webhooks), sgp_validating(&webhooks)];
    for configuration in &made {
        let webhook = &configuration["webhooks"][0];
        let bundle = STANDARD.decode(webhook["clientConfig"]["caBundle"].as_str().unwrap()).unwrap();
        assert!(bundle.starts_with(b"-----BEGIN CERTIFICATE-----"));
        assert!(webhook["clientConfig"]["url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
        assert_eq!(webhook["failurePolicy"], "Ignore");
        assert_eq!(webhook["sideEffects"], "None");
        assert_eq!(webhook["timeoutSeconds"], 10);
        assert_eq!(webhook["rules"][0]["resources"][0], "pods");
    }
    let [irsa, mutating, validating] = made;
    assert_eq!(irsa["webhooks"][0]["reinvocationPolicy"], "IfNeeded");
    assert_eq!(mutating["webhooks"][0]["reinvocationPolicy"], "Never");
    assert_eq!(validating["kind"], "ValidatingWebhookConfiguration");
    // The API server refuses a field that validating webhooks do not have.
    assert!(validating["webhooks"][0].get("reinvocationPolicy").is_none());
}

#[test]
fn the_resource_of_policies() {
    let crd = security_group_policy_crd();
    let names = &crd["spec"]["names"];
    let group = crd["spec"]["group"].as_str().unwrap();
    assert_eq!(crd["metadata"]["name"], format!("{}.{group}", names["plural"].as_str().unwrap()));
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let groups = &schema["properties"]["spec"]["properties"]["securityGroups"]["properties"]["groupIds"];
    assert_eq!(groups["minItems"], 1);
    assert!(groups.get("maxItems").is_none());
}

#[tokio::test]
async fn a_path_without_a_handler_has_no_mode() {
    let allow: Handler = Arc::new(|_| Verdict::Allow);
    let webhooks = Webhooks::start([("/a", allow)]).await.unwrap();
    webhooks.set_mode("/b", windlass_eks::server::Mode::Down);
    assert_eq!(webhooks.calls("/b"), 0);
}
