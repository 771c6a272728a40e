//! What becomes of a task whose pod the policy refuses.

use std::fs;

use anyhow::{Result, ensure};
use windlass_lab::control_plane::Options;
use windlass_suite::daemon::{Daemon, Database, service_account, until};

use crate::world::{RULES, World, all_by_admission};

/// A policy of an older template: what the daemon makes is refused, and the task's failure says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_pod_the_policy_refuses_fails_with_its_words() -> Result<()> {
    let template = "spec: {containers: [{name: base, image: i}]}\n";
    let options = Options { controller_manager: false, ..all_by_admission() };
    let world = World::start(options, RULES, template).await?;
    world.make_crd().await?;
    world.apply(&world.rendered(&[])?).await?;
    world.policy_works().await?;
    fs::write(world.folder.join("template.yaml"), template.replace("spec: {", "spec: {hostPID: true, "))?;

    let database = Database::ready().await?;
    fs::write(world.folder.join("token"), world.plane.service_account_token("airflow", "windlass").await?)?;
    fs::copy(world.plane.ca(), world.folder.join("ca.crt"))?;
    let mut variables = service_account(world.plane.url(), world.folder.path(), "tasks");
    variables.extend(database.daemon());
    for name in ["POD_TEMPLATE_FILE", "MULTI_NAMESPACE_MODE"] {
        let name = format!("AIRFLOW__KUBERNETES_EXECUTOR__{name}");
        variables.insert(name.clone(), world.variables[&name].clone());
    }
    variables.insert("WINDLASS_CONFIG".into(), world.variables["WINDLASS_CONFIG"].clone());
    let daemon = Daemon::start(&world.folder, "daemon", &variables).await?;
    daemon.ready_says(200, "leading").await?;
    // `{}`, pickled.
    database.queue("load", "80057d942e")?;
    let said = until("the failure", async || {
        let sql = "SELECT reason || ': ' || message FROM windlass.launch WHERE outcome = 'failure'";
        Ok(Some(database.sql(sql)?).filter(|said| !said.is_empty()))
    })
    .await?;
    for words in [
        "IdentityDenied: ",
        "ValidatingAdmissionPolicy 'windlass-identity-airflow' with binding 'windlass-identity-airflow' denied request: \
         identity rule `etl` does not let a pod have this: spec.hostPID is `true`; take it out, or have the platform add \
         \"host\" to the rule's may-override",
        "apply `windlass identity render` again",
    ] {
        ensure!(said.contains(words), "{said}");
    }
    Ok(())
}
