//! The daemon's tasks with security groups.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use windlass_suite::daemon::{Daemon, Database, until, with_rules};

use crate::world::{NAMESPACE, World, interfaces};

const RULES: &str = r#"
[[identity.rule]]
name = "db"
match = { dag = "etl", task = "db*" }
service-account = "db-worker"
security-groups = ["sg-0123456789abcdef0", "sg-0123456789abcdef1"]

[identity.default]
"#;

const TEMPLATE: &str =
    "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - name: base\n      image: airflow:2.11\n";

/// `{}`, pickled.
const NOTHING: &str = "80057d942e";

/// A cluster whose policy gives the rule's pods its groups, and a daemon.
struct Work {
    _daemon: Daemon,
    database: Database,
    world: World,
}

impl Work {
    async fn start(world: World) -> Result<Self> {
        world.account("db-worker", json!({})).await?;
        let spec = json!({
            "podSelector": { "matchLabels": { "windlass.dev/identity-rule": "db" } },
            "securityGroups": { "groupIds": ["sg-0123456789abcdef0", "sg-0123456789abcdef1"] },
        });
        world.policy("db", spec).await?;
        let database = Database::ready().await?;
        let mut variables = with_rules(&world.plane, world.folder.path(), NAMESPACE, RULES, TEMPLATE)?;
        variables.extend(database.daemon());
        let daemon = Daemon::start(&world.folder, "daemon", &variables).await?;
        daemon.ready_says(200, "leading").await?;
        Ok(Self { _daemon: daemon, database, world })
    }

    /// The pods of these tasks that run.
    async fn running(&self, tasks: &[&str]) -> Result<Vec<Value>> {
        let mut running = Vec::new();
        for task in tasks {
            let pods = self.world.pods_of(task).await?;
            running.extend(pods.into_iter().filter(|pod| pod["status"]["phase"] == "Running"));
        }
        Ok(running)
    }

    /// The pods of these tasks once so many run.
    async fn many_run(&self, many: usize, tasks: &[&str]) -> Result<Vec<Value>> {
        until(&format!("{many} of {tasks:?} run"), async || {
            Ok(Some(self.running(tasks).await?).filter(|pods| pods.len() >= many))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhausted_interfaces_delay_only_tasks_with_groups() -> Result<()> {
    let work = Work::start(World::start(1).await?).await?;
    let (with_groups, plain) = (["db1", "db2", "db3"], ["load1", "load2", "load3", "load4"]);
    for task in with_groups.iter().chain(&plain) {
        work.database.queue(task, NOTHING)?;
    }
    // Each with groups waits for the end of the one before; the others wait for none of them.
    work.many_run(plain.len(), &plain).await?;
    let mut addresses = Vec::new();
    for _ in with_groups {
        let mut running = work.many_run(1, &with_groups).await?;
        ensure!(running.len() == 1, "more pods than interfaces: {running:?}");
        let pod = running.remove(0);
        let (address, given) = (&pod["status"]["podIP"], interfaces(&pod));
        ensure!(given[0]["privateIp"] == *address, "{pod}");
        addresses.push(address.clone());
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        work.world.delete(&name).await?;
        until("the pod is gone", async || {
            Ok(work.world.pods().get_opt(&name).await?.is_none().then_some(()))
        })
        .await?;
    }
    addresses.dedup();
    ensure!(addresses.len() == with_groups.len(), "an interface of its own for each: {addresses:?}");
    ensure!(work.running(&plain).await?.len() == plain.len(), "the others ran all the time");
    Ok(())
}
