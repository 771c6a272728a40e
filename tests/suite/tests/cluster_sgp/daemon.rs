//! The daemon's tasks with security groups.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use windlass_eks::branch::{Call, Refusal};
use windlass_eks::server::MUTATE_SGP;
use windlass_suite::daemon::{Daemon, Database, until, with_rules};

use crate::world::{NAMESPACE, NODE, World, interfaces};

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

/// How long a bound pod may wait for its interface. One that waits for another's to cool down waits for 3 s.
const PATIENCE_SECONDS: u32 = 8;

/// What gives the rule's pods their groups.
async fn policy(world: &World) -> Result<()> {
    let spec = json!({
        "podSelector": { "matchLabels": { "windlass.dev/identity-rule": "db" } },
        "securityGroups": { "groupIds": ["sg-0123456789abcdef0", "sg-0123456789abcdef1"] },
    });
    world.policy("db", spec).await
}

/// A cluster whose policy gives the rule's pods its groups, and a daemon.
struct Work {
    daemon: Daemon,
    database: Database,
    world: World,
}

impl Work {
    async fn start(world: World) -> Result<Self> {
        policy(&world).await?;
        Self::without_policy(world).await
    }

    async fn without_policy(world: World) -> Result<Self> {
        world.account("db-worker", json!({})).await?;
        let database = Database::ready().await?;
        let mut variables = with_rules(&world.plane, world.folder.path(), NAMESPACE, RULES, TEMPLATE)?;
        variables.extend(database.daemon());
        let patience = "WINDLASS__LAUNCH__BRANCH_INTERFACE_TIMEOUT_SECONDS";
        variables.insert(patience.into(), PATIENCE_SECONDS.to_string());
        let daemon = Daemon::start(&world.folder, "daemon", &variables).await?;
        daemon.ready_says(200, "leading").await?;
        Ok(Self { daemon, database, world })
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_interface_is_never_made_is_replaced() -> Result<()> {
    let work = Work::start(World::start(9).await?).await?;
    work.world.groups.controller.drop_next(1);
    work.database.queue("db1", NOTHING)?;
    let running = work.many_run(1, &["db1"]).await?;
    ensure!(running[0]["metadata"]["labels"]["windlass.dev/attempt"] == "2", "{}", running[0]);
    ensure!(interfaces(&running[0])[0]["privateIp"] == running[0]["status"]["podIP"], "{}", running[0]);
    ensure!(work.database.attempt("db1")? == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_with_its_nodes_address_is_stopped_and_the_task_fails_with_the_reason() -> Result<()> {
    let world = World::start_with(9, |node| node.branch_interfaces = false).await?;
    let work = Work::start(world).await?;
    work.database.queue("db1", NOTHING)?;
    let why = work.database.failure("db1").await?;
    let says =
        "IdentityMissing: the task did not begin: it runs with its node's security groups: its address is ";
    ensure!(why.starts_with(says), "{why}");
    until("no pod runs", async || Ok(work.running(&["db1"]).await?.is_empty().then_some(()))).await?;
    Ok(())
}

/// The CNI looks at the first container alone. What a webhook put there stays, so no other pod is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_in_front_is_caught_behind_the_gate() -> Result<()> {
    let work = Work::start(World::start(9).await?).await?;
    work.world.inject_sidecars().await?;
    work.database.queue("db1", NOTHING)?;
    let why = work.database.failure("db1").await?;
    let says = "IdentityMissing: it would run with its node's security groups instead of \
                sg-0123456789abcdef0,sg-0123456789abcdef1: container `base` asks for the branch interface";
    ensure!(why.starts_with(says), "{why}");
    until("its pod is gone", async || Ok(work.world.pods_of("db1").await?.is_empty().then_some(()))).await?;
    ensure!(work.database.attempt("db1")? == 1);
    // It was never on a node.
    ensure!(work.world.groups.controller.used(NODE) == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_comes_late_is_waited_for_and_no_pod_is_made_before() -> Result<()> {
    let work = Work::without_policy(World::start(9).await?).await?;
    work.database.queue("db1", NOTHING)?;
    until("the daemon says what is missing", async || {
        let (_, metrics) = work.daemon.get("/metrics").await?;
        let told =
            metrics.lines().find_map(|line| line.strip_prefix("windlass_errors_total{source=\"identity\"} "));
        Ok(told.filter(|many| *many != "0").map(|_| ()))
    })
    .await?;
    ensure!(work.world.pods_of("db1").await?.is_empty(), "it would have run with its node's groups");
    let says =
        "no SecurityGroupPolicy of namespace tasks matches it, and the rule demands sg-0123456789abcdef0, ";
    work.daemon.log_says(says).await?;
    policy(&work.world).await?;
    let running = work.many_run(1, &["db1"]).await?;
    ensure!(running[0]["metadata"]["labels"]["windlass.dev/attempt"] == "1", "{}", running[0]);
    Ok(())
}

/// The webhook refuses such a pod with 403, which is no judgement on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_the_controller_does_not_know_yet_is_waited_for() -> Result<()> {
    let work = Work::start(World::start(9).await?).await?;
    work.world.groups.known.hide_account(NAMESPACE, "db-worker");
    let asked = work.world.groups.webhooks.calls(MUTATE_SGP);
    work.database.queue("db1", NOTHING)?;
    until("the create is tried again", async || {
        Ok((work.world.groups.webhooks.calls(MUTATE_SGP) >= asked + 2).then_some(()))
    })
    .await?;
    ensure!(work.world.pods_of("db1").await?.is_empty(), "the webhook lets it pass");
    work.world.groups.known.show_account(NAMESPACE, "db-worker");
    let running = work.many_run(1, &["db1"]).await?;
    ensure!(running[0]["metadata"]["labels"]["windlass.dev/attempt"] == "1", "{}", running[0]);
    ensure!(interfaces(&running[0])[0]["privateIp"] == running[0]["status"]["podIP"], "{}", running[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warnings_of_the_controller_are_counted() -> Result<()> {
    let work = Work::start(World::start(9).await?).await?;
    let refusal = Refusal {
        call: Call::Create,
        code: "InsufficientFreeAddressesInSubnet".into(),
        message: "The specified subnet does not have enough free addresses to satisfy the request.".into(),
    };
    work.world.groups.controller.fail_next(2, &refusal);
    work.database.queue("db1", NOTHING)?;
    work.many_run(1, &["db1"]).await?;
    let says = "windlass_vpc_controller_warnings_total{reason=\"BranchAllocationFailed\"} ";
    until("the warnings in the metrics", async || {
        let (_, metrics) = work.daemon.get("/metrics").await?;
        let many =
            metrics.lines().find_map(|line| line.strip_prefix(says)).and_then(|n| n.parse::<u64>().ok());
        Ok(many.filter(|many| *many >= 1))
    })
    .await?;
    Ok(())
}
