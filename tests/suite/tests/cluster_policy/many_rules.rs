//! The policy of a company's rules.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::world::{World, all_by_admission};

/// As large as a company's, with pods as large as none should be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_rules_are_within_what_expressions_may_cost() -> Result<()> {
    let mut rules = String::from("[identity.default]\n");
    for n in 0..200 {
        write!(
            rules,
            "\n[[identity.rule]]\nname = \"team-{n}\"\nmatch = {{ dag = \"team_{n}\" }}\n\
             service-account = \"team-{n}\"\nrole-arn = \"arn:aws:iam::111122223333:role/airflow/team-{n}\"\n\
             labels = {{ team = \"team-{n}\", cost-center = \"{n}\" }}\nnode-selector = {{ pool = \"team-{n}\" }}\n\
             may-override = [\"image-pull-secrets\"]\n"
        )?;
    }
    // The API server mounts its token: nobody says otherwise.
    let template =
        "spec: {containers: [{name: base, image: i}], volumes: [{name: h, hostPath: {path: /data}}]}\n";
    let world = World::start(all_by_admission(), &rules, template).await?;
    let mut objects = world.rendered(&[])?;
    for account in objects.iter_mut().filter(|object| object["kind"] == "ServiceAccount") {
        account["automountServiceAccountToken"] = json!(true);
    }
    objects.retain(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        object["kind"] != "ServiceAccount" || ["team-0", "team-199"].contains(&name)
    });
    world.apply(&objects).await?;
    world.policy_is_sound().await?;
    for dag in ["team_0", "team_199"] {
        let mut pod = world.pod(dag)?;
        let env = Vec::from_iter(
            (0..200).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "of some length"})),
        );
        let more =
            Vec::from_iter((0..20).map(|n| json!({"name": format!("c{n}"), "image": "i", "env": env})));
        pod["spec"]["containers"].as_array_mut().unwrap().extend(more);
        let made = world.tried(&world.daemon, &pod).await?.map_err(anyhow::Error::msg)?;
        ensure!(made["spec"]["volumes"].to_string().contains("kube-api-access-"), "{made}");
        pod["spec"]["containers"][20]["securityContext"] = json!({"privileged": true});
        let why = world.tried(&world.daemon, &pod).await?.err().context("a privileged one")?;
        ensure!(why.contains("spec.containers[c19].securityContext.privileged is `true`"), "{why}");
    }
    Ok(())
}
