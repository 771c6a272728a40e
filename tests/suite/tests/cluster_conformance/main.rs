//! The engine's questions, asked of the simulated database and cluster and of the real ones: the same answers are
//! expected of all. What the simulator shows in 100,000 seeds is worth as much as its fakes are like the real things.
//!
//! The real ones answer through the daemon's own `Edges`: PostgreSQL directly and behind PgBouncer, the embedded API and
//! a real kube-apiserver.

mod backend;
mod cluster;
mod real;
mod store;

use anyhow::{Context, Result};
use backend::Backend;
use futures::future::LocalBoxFuture;
use real::{Airflow, Pods, Real};
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_lab::folder::Folder;
use windlass_lab::pgbouncer::PgBouncer;
use windlass_local_cluster::{ApiOptions, ApiServer, client_config, kubeconfig_file};
use windlass_suite::daemon::Database;

type Scenario = for<'a> fn(&'a mut Backend) -> LocalBoxFuture<'a, Result<()>>;

macro_rules! scenarios {
    ($list:ident: $($module:ident :: $name:ident),* $(,)?) => {
        /// Each begins with nothing.
        const $list: &[(&str, Scenario)] =
            &[$((concat!(stringify!($module), "::", stringify!($name)), |b| Box::pin($module::$name(b)))),*];
    };
}

scenarios![STORE:
    store::the_term_has_one_holder,
    store::an_old_term_writes_nothing,
    store::a_queueing_is_claimed_once,
    store::the_full_pass_shows_what_is_queued_and_not_claimed,
    store::changes_have_guards,
    store::a_second_attempt_forgets_the_first_pod,
    store::rows_tell_how_tasks_stand,
    store::withdrawn_launches_are_found_until_they_start,
    store::a_spec_is_read_only_while_its_queueing_stands,
    store::a_new_term_loads_what_is_open,
];

scenarios![CLUSTER:
    cluster::a_second_create_adopts_the_first_pod,
    cluster::a_pod_of_another_launch_is_not_ours,
    cluster::a_full_quota_lets_nothing_in,
    cluster::a_namespace_that_is_not_there_is_not_ready,
    cluster::an_unbound_pod_goes_at_once_and_by_its_uid_alone,
    cluster::a_bound_pod_waits_for_its_kubelet,
];

async fn run(what: &str, scenarios: &[(&str, Scenario)], backend: &mut Backend) -> Result<()> {
    for (name, scenario) in scenarios {
        backend.clear().await?;
        scenario(backend).await.with_context(|| format!("{what}: {name}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn the_simulated_database_and_cluster_answer_as_expected() -> Result<()> {
    let mut fakes = Backend::simulated();
    run("simulated", STORE, &mut fakes).await?;
    run("simulated", CLUSTER, &mut fakes).await
}

/// The embedded API is at hand for what `Edges` is made of; these scenarios ask nothing of it.
#[tokio::test]
async fn postgresql_answers_as_expected_directly_and_behind_a_pooler() -> Result<()> {
    let folder = Folder::new("conformance")?;
    let api = ApiServer::start(ApiOptions::default()).await?;
    let kubeconfig = folder.join("kubeconfig");
    api.write_kubeconfig(&kubeconfig)?;
    let database = Database::ready().await?;
    let direct = database.postgres.url_as("windlass", &database.name);
    let pods = Pods::new(kubeconfig, client_config(&api).await?)?;
    let mut backend = Backend::real(Real::new(Airflow::of(database), &direct, pods.clone()).await?);
    run("PostgreSQL", STORE, &mut backend).await?;

    if let Err(missing) = PgBouncer::available() {
        anyhow::ensure!(std::env::var_os("CI").is_none(), "{missing:#}");
        eprintln!("skipped: {missing:#}");
        return Ok(());
    }
    let database = Database::ready().await?;
    // One server connection: every transaction follows one of another client on it.
    let (database, pooler) = tokio::task::spawn_blocking(move || {
        let pooler = PgBouncer::start(&database.postgres, 1)?;
        anyhow::Ok((database, pooler))
    })
    .await??;
    let url = pooler.url_as("windlass", &database.name);
    let mut backend = Backend::real(Real::new(Airflow::of(database), &url, pods).await?);
    run("PgBouncer", STORE, &mut backend).await
}

#[tokio::test]
async fn the_embedded_api_answers_as_expected() -> Result<()> {
    let folder = Folder::new("conformance")?;
    let api = ApiServer::start(ApiOptions::default()).await?;
    let kubeconfig = folder.join("kubeconfig");
    api.write_kubeconfig(&kubeconfig)?;
    let pods = Pods::new(kubeconfig, client_config(&api).await?)?;
    with_pods("embedded API", pods).await
}

#[tokio::test]
async fn a_real_kube_apiserver_answers_as_expected() -> Result<()> {
    // The controllers count quotas.
    let plane = ControlPlane::start(Options { controller_manager: true, ..Options::default() }).await?;
    let config = kubeconfig_file(&plane.kubeconfig()).await?;
    with_pods("kube-apiserver", Pods::new(plane.kubeconfig(), config)?).await
}

async fn with_pods(what: &str, pods: Pods) -> Result<()> {
    pods.make_namespace().await?;
    let database = Database::ready().await?;
    let url = database.postgres.url_as("windlass", &database.name);
    let mut backend = Backend::real(Real::new(Airflow::of(database), &url, pods).await?);
    run(what, CLUSTER, &mut backend).await
}
