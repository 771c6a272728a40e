//! The boundary behind the guard.

use super::*;

#[test]
fn the_guard_stands_on_what_is_around_it() {
    let deployed = |token_in: &str, connection: Value| {
        let token = json!({ "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } });
        let own = json!({ "secretKeyRef": { "name": "windlass-database", "key": "connection" } });
        let container = |name: &str, from: &Value| {
            let mounts = if name == "windlass" || name == token_in {
                json!([{ "name": "t", "mountPath": "/x" }])
            } else {
                json!([])
            };
            json!({ "name": name, "volumeMounts": mounts, "env": [{ "name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "valueFrom": from }] })
        };
        PodSeen::read(&json!({
            "metadata": { "namespace": "airflow", "name": "scheduler" },
            "spec": { "volumes": [token], "containers": [container("scheduler", &connection), container("windlass", &own)] },
        }))
    };
    let airflow = json!({ "secretKeyRef": { "name": "airflow-metadata", "key": "connection" } });
    let with = |pod: PodSeen| after(move |facts| facts.cluster.pods = Some(vec![pod]));
    assert_eq!(with(deployed("", airflow.clone())), Vec::<String>::new());
    assert_eq!(
        with(deployed(
            "scheduler",
            json!({ "secretKeyRef": { "name": "windlass-database", "key": "connection" } })
        )),
        [
            "warning daemon-token-shared: pod airflow/scheduler: a token for the API server is mounted in: scheduler",
            "warning database-role-shared: pod airflow/scheduler: the same connection string as the daemon's is in: scheduler",
        ]
    );
    assert_eq!(
        after(|facts| facts.standalone_dag_processor = false),
        ["warning dag-code-in-scheduler: scheduler: [scheduler] standalone_dag_processor is not True"]
    );
    assert_eq!(
        after(|facts| {
            facts.cluster.access.insert(of("data", "etl"), Access::CreatesPods);
        }),
        ["warning worker-creates-pods: service account data/etl: it may create pods in namespace data"]
    );
    let found = after(|facts| {
        facts.cluster.admission_bindings.as_mut().unwrap()[0]["spec"]["validationActions"] =
            json!(["Warn", "Audit"])
    });
    assert_eq!(
        found,
        [
            "warning admission-policy-missing: ValidatingAdmissionPolicy windlass-identity-*: windlass-identity-airflow has no binding with the action Deny: whoever has the daemon's token can make pods of any identity"
        ]
    );
    let found = after(|facts| facts.cluster.admission_policies = Some(Vec::new()));
    assert_eq!(found.len(), 2, "{found:?}");
    // Without rules there is no guard.
    let found = after(|facts| {
        facts.rules[0].gives.rule = None;
        facts.standalone_dag_processor = false;
        facts.cluster.admission_policies = Some(Vec::new());
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_policy_of_other_rules_is_told() {
    let digest = |digest: &'static str| {
        after(move |facts| {
            facts.rules_digest = Some("0011223344556677".into());
            facts.cluster.admission_policies.as_mut().unwrap()[0]["metadata"]["annotations"] =
                json!({ "windlass.dev/rules-digest": digest });
        })
    };
    assert_eq!(digest("0011223344556677"), Vec::<String>::new());
    assert_eq!(
        digest("ffff"),
        [
            "warning admission-policy-stale: ValidatingAdmissionPolicy windlass-identity-airflow: it was made from other rules, or from another pod template, than those here"
        ]
    );
}
