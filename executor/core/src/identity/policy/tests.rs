//! What the texts say is tried on a real API server; here is what can be seen without one.

use std::collections::BTreeSet;

use super::super::rules::Place;
use super::super::{Freedom, Freedoms, GATE, Identity};
use super::*;

fn rule(name: &str, gives: Identity, may_override: Freedoms) -> Rule {
    Rule { name: name.into(), place: Place::default(), when: Vec::new(), gives, may_override }
}

fn daemon() -> DaemonAccount {
    DaemonAccount { namespace: "airflow".into(), name: "windlass".into() }
}

fn etl() -> Identity {
    Identity {
        service_account: Some("etl".into()),
        role_arn: Some("arn:aws:iam::111122223333:role/etl".into()),
        labels: [("team".to_owned(), "etl".to_owned())].into(),
        ..Identity::default()
    }
}

fn pod() -> Value {
    json!({
        "metadata": {
            "namespace": "data",
            "labels": { "team": "etl", "dag_id": "d", "k8s.amazonaws.com/x": "y" },
            "annotations": { "windlass.dev/role-arn": "arn:aws:iam::111122223333:role/etl", "note": "n" },
        },
        "spec": {
            "serviceAccountName": "etl",
            "schedulingGates": [{ "name": GATE }],
            "containers": [
                { "name": "base", "image": "i", "env": [
                    { "name": "AWS_PROFILE", "value": "p" }, { "name": "AWS_SECRET_ACCESS_KEY", "value": "s3cret" },
                ] },
                { "name": "logs", "image": "l:1", "command": ["tail"], "args": ["-f"],
                  "securityContext": { "privileged": true } },
            ],
        },
    })
}

fn rows(rules: &[Rule], admitted: &[Value]) -> Value {
    let measured: Vec<Measured<'_>> = rules.iter().map(|rule| Measured { rule, pod: pod() }).collect();
    let [policy, _] = of_daemon(&measured, admitted, &daemon(), Action::Deny);
    let variables = policy["spec"]["variables"].as_array().unwrap();
    let table = variables.iter().find(|v| v["name"] == "rules0").unwrap();
    let table =
        table["expression"].as_str().unwrap().trim_end_matches("\n}").trim_end_matches(',').to_owned() + "}";
    // The literals are JSON, too.
    serde_json::from_str(&table).unwrap()
}

#[test]
fn a_row_holds_what_the_rule_gives_and_no_secret() {
    let rules =
        [rule("etl", etl(), Freedoms::new()), rule("Free one", etl(), Freedom::ALL.into_iter().collect())];
    let rows = rows(&rules, &[]);
    let role = "arn:aws:iam::111122223333:role/etl";
    assert_eq!(
        rows["etl"],
        json!({
            "name": ["etl"], "account": ["etl"], "namespace": ["data"], "automount": [""], "gate": [GATE],
            "role": [role], "labels": ["k8s.amazonaws.com/x=y", "team=etl"],
            "demands": [format!("windlass.dev/role-arn={role}")],
            "sidecars": ["spec.containers[logs]\u{1f}l:1\u{1f}tail\u{1f}\u{1e}\u{1f}-f\u{1f}\u{1e}\u{1f}\u{1f}\u{1e}\u{1f}0\u{1f}\u{1e}\u{1f}\u{1e}\u{1f}\u{1e}\u{1f}\u{1e}\u{1f}\u{1e}"],
        })
    );
    let label = crate::pod::safe_label_value("Free one");
    let free: Vec<&str> =
        rows[&label]["free"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(free), Freedom::ALL.iter().map(|f| f.as_str()).collect());
    for bound in ["account", "namespace", "automount", "labels", "sidecars"] {
        assert!(rows[&label][bound].is_null(), "{bound}: {rows}");
    }
    assert!(rows[&label]["gate"][0] == GATE && !rows[&label]["demands"].is_null(), "{rows}");

    let measured = [Measured { rule: &rules[0], pod: pod() }];
    let [policy, _] = of_daemon(&measured, &[], &daemon(), Action::Deny);
    let text = policy.to_string();
    assert!(text.contains("env[AWS_PROFILE]=p") && text.contains("env[AWS_SECRET_ACCESS_KEY]"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn what_webhooks_add_is_allowed_to_whom_it_is_shown_for() {
    let rules = [rule("etl", etl(), Freedoms::new()), rule("other", etl(), Freedoms::new())];
    let mut injected = pod();
    injected["metadata"]["labels"][LABEL_RULE] = json!("etl");
    let mesh = json!({ "name": "mesh", "image": "m", "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } },
        "env": [{ "name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/etl" }] });
    injected["spec"]["initContainers"] = json!([mesh]);
    let rows = rows(&rules, &[injected]);
    assert_eq!(
        rows["etl"]["may"],
        json!(["spec.initContainers[mesh].securityContext.capabilities.add is `NET_ADMIN`"])
    );
    assert!(rows["etl"]["sidecars"].to_string().contains("spec.initContainers[mesh]"), "{rows}");
    assert!(rows["other"]["may"].is_null(), "{rows}");
}

#[test]
fn a_table_is_parted_before_it_is_too_long_for_cel() {
    let rules: Vec<Rule> = (0..2_000).map(|n| rule(&format!("rule-{n}"), etl(), Freedoms::new())).collect();
    let measured: Vec<Measured<'_>> = rules.iter().map(|rule| Measured { rule, pod: pod() }).collect();
    let [policy, binding] = of_daemon(&measured, &[], &daemon(), Action::Warn);
    let variables = policy["spec"]["variables"].as_array().unwrap();
    let longest = variables.iter().map(|v| v["expression"].as_str().unwrap().chars().count()).max().unwrap();
    assert!(longest < 100_000, "{longest}");
    for n in [0, 1_999] {
        let entry = format!("\"rule-{n}\": {{");
        assert_eq!(
            variables.iter().filter(|v| v["expression"].as_str().unwrap().contains(&entry)).count(),
            1
        );
    }
    assert_eq!(binding["spec"]["validationActions"], json!(["Warn", "Audit"]));
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
}

#[test]
fn a_refusal_is_known_by_the_policys_name() {
    let said = |name: &str| {
        format!(
            "pods \"a\" is forbidden: ValidatingAdmissionPolicy '{name}' with binding 'b' denied request: x"
        )
    };
    assert!(is_refusal(&said(&name("airflow"))));
    assert!(!is_refusal(&said("platform-identity")) && !is_refusal("windlass-identity-airflow"));
}

#[test]
fn the_digest_is_of_rules_and_template_alone() {
    let of = |rules: &[Rule], pod: &Value| {
        let measured: Vec<Measured<'_>> =
            rules.iter().map(|rule| Measured { rule, pod: pod.clone() }).collect();
        digest(&measured)
    };
    let rules = [rule("etl", etl(), Freedoms::new())];
    let first = of(&rules, &pod());
    assert!(first.len() == 16 && first.bytes().all(|b| b.is_ascii_hexdigit()), "{first}");
    let mut of_another_task = pod();
    of_another_task["metadata"]["labels"]["dag_id"] = "other".into();
    of_another_task["metadata"]["annotations"]["note"] = "other".into();
    assert_eq!(of(&rules, &of_another_task), first);
    let mut other_template = pod();
    other_template["spec"]["containers"][1]["image"] = "l:2".into();
    assert_ne!(of(&rules, &other_template), first);
    let freer = [rule("etl", etl(), Freedoms::from([Freedom::Host]))];
    assert_ne!(of(&freer, &pod()), first);
    assert_ne!(of(&[rule("dwh", etl(), Freedoms::new())], &pod()), first);
    let measured = [Measured { rule: &rules[0], pod: pod() }];
    let admitted = [json!({ "spec": { "containers": [{ "name": "istio", "image": "i:1" }] } })];
    let [policy, _] = of_daemon(&measured, &admitted, &daemon(), Action::Deny);
    assert_eq!(policy["metadata"]["annotations"][ANNOTATION_DIGEST], first.as_str());
}
