//! The pod that is sent.

use super::*;

#[test]
fn the_template_must_not_stand_in_the_way() {
    let with = |change: &dyn Fn(&mut Value)| after(|facts| change_pod(facts, change));
    let at = "rule etl (line 2)";
    assert_eq!(
        with(&|pod| pod["spec"]["hostNetwork"] = true.into()),
        [format!("error template-host-network: {at}: its pod has hostNetwork: true")]
    );
    assert_eq!(
        with(&|pod| pod["spec"]["terminationGracePeriodSeconds"] = 0.into()),
        [format!("error template-grace-period: {at}: its pod has terminationGracePeriodSeconds: 0")]
    );
    assert_eq!(
        with(&|pod| pod["metadata"]["labels"]["eks.amazonaws.com/skip-pod-identity-webhook"] = "".into()),
        [format!(
            "error skip-label: {at}: its pod has the label eks.amazonaws.com/skip-pod-identity-webhook"
        )]
    );
    assert_eq!(
        with(&|pod| pod["spec"]["containers"][0]["env"] =
            json!([{ "name": "AWS_PROFILE", "value": "x" }, { "name": "AWS_REGION" }])),
        [format!("warning template-aws-env: {at}: container `base` sets AWS_PROFILE")]
    );
    let sts = |choice: &str| {
        with(&|pod| {
            pod["spec"]["containers"][0]["env"] =
                json!([{ "name": "AWS_STS_REGIONAL_ENDPOINTS", "value": choice }])
        })
    };
    assert_eq!(sts("regional"), [""; 0]);
    assert_eq!(
        sts("legacy"),
        [format!("warning sts-global: {at}: container `base` sets AWS_STS_REGIONAL_ENDPOINTS to `legacy`")]
    );
    let path = "/var/run/secrets/eks.amazonaws.com/serviceaccount/";
    let found = with(&|pod| {
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": path }])
    });
    assert!(found[0].contains("the API server refuses two mounts of one path"), "{found:?}");
    let found = after(|facts| facts.rules[0].pod = Err("TemplateInvalid: no image".into()));
    assert_eq!(
        found[0],
        format!("error template-invalid: {at}: its pod cannot be made: TemplateInvalid: no image")
    );
}
