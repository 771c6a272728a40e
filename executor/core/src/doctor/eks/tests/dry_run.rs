//! The pod that admission makes of it.

use super::*;

#[test]
fn the_dry_run_is_judged_by_what_admission_made() {
    let with = |change: &dyn Fn(&mut Value)| after(|facts| change_admitted(facts, change));
    let at = "rule etl (line 2)";
    let found = with(&|pod| pod["spec"]["containers"][0]["env"] = json!([]));
    assert!(
        found[0].starts_with(&format!(
            "error dry-run-without-role: {at}: the pod was admitted without credentials"
        )),
        "{found:?}"
    );
    assert_eq!(
        with(&|pod| pod["spec"]["containers"][0]["resources"] = json!({})),
        [format!(
            "error dry-run-without-groups: {at}: no container of the admitted pod asks for vpc.amazonaws.com/pod-eni: it would run with its node's security groups"
        )]
    );
    let found = with(&|pod| pod["spec"]["containers"][0]["resources"]["requests"] = json!({}));
    assert_eq!(
        found,
        [format!(
            "error dry-run-without-groups: {at}: its first container has vpc.amazonaws.com/pod-eni 1 as limit and nothing as request, not 1"
        )]
    );
    let found = with(&|pod| {
        let sidecar = json!({ "name": "mesh", "env": pod["spec"]["containers"][0]["env"], "volumeMounts": pod["spec"]["containers"][0]["volumeMounts"] });
        pod["spec"]["containers"].as_array_mut().unwrap().insert(0, sidecar);
    });
    assert_eq!(
        found,
        [format!(
            "error container-order: {at}: container `base` asks for the branch interface, and `mesh` stands in front of it"
        )]
    );
    let refused = |said: &'static str| {
        let mut facts = healthy();
        facts.rules[0].dry_run = DryRun::Refused(said.into());
        examine_eks(&facts).into_iter().find(|finding| finding.code == Code::DryRunRefused).unwrap()
    };
    assert_eq!(refused("no").what, "the API server refuses its pod: no");
    let sgp = "admission webhook \"mpod.vpc.k8s.aws\" denied the request: Failed to get Matching SGP for Pods, rejecting event, error x";
    assert!(
        refused(sgp)
            .remedy
            .starts_with("the controller of security groups does not know the service account")
    );
    let associated = |facts: &mut EksFacts| {
        facts.cluster.accounts.insert(of("data", "etl"), account(&json!({})));
        change_admitted(facts, |pod| {
            pod["metadata"]["labels"]["eks.amazonaws.com/pod-identity"] = "enabled".into();
            let folder = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
            pod["spec"]["containers"][0]["env"] = json!([
                { "name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials" },
                { "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": format!("{folder}/eks-pod-identity-token") },
            ]);
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{ "name": "eks-pod-identity-token", "mountPath": folder, "readOnly": true }]);
            let token = json!({ "audience": "pods.eks.amazonaws.com", "expirationSeconds": 80000, "path": "eks-pod-identity-token" });
            pod["spec"]["volumes"] = json!([{ "name": "eks-pod-identity-token", "projected": { "sources": [{ "serviceAccountToken": token }] } }]);
        });
    };
    assert_eq!(after(associated), Vec::<String>::new(), "no annotation is missed");
    let told = info(Code::PodIdentity, associated);
    assert_eq!(
        told.unwrap(),
        format!("{at}: it demands {ROLE}, and its pod gets the credentials of an association")
    );
}
