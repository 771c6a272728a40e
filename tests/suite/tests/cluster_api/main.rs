//! One suite of requests, sent to the embedded Kubernetes API and to a real kube-apiserver: the same answers are
//! expected of both, in code, reason, the fields that programs read, and the text where it is stable.
//!
//! The real one is started from `tests/cluster`; `WINDLASS_LAB_KUBECONFIG` names a running one instead.

mod bodies;
mod deletes;
mod lists;
mod others;
mod server;
mod watches;
mod writes;

use std::path::PathBuf;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use server::Server;
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_local_cluster::{ApiOptions, ApiServer, client_config, kubeconfig_file};

type Scenario = for<'a> fn(&'a Server) -> BoxFuture<'a, Result<()>>;

macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// Every scenario, in a namespace of its own.
        const SCENARIOS: &[(&str, Scenario)] =
            &[$((concat!(stringify!($module), "::", stringify!($name)), |s| Box::pin($module::$name(s)))),*];
    };
}

scenarios![
    writes::create_fills_defaults,
    writes::create_refuses_twice_and_elsewhere,
    writes::create_names_every_mistake,
    writes::create_refuses_unreadable_bodies,
    writes::dry_run_stores_nothing,
    writes::quota_refuses_one_pod_more,
    writes::patches_of_each_kind,
    writes::optimistic_locking,
    writes::spec_is_fixed,
    writes::status_subresource,
    writes::binding,
    writes::scheduling_gates,
    lists::selectors,
    lists::shapes,
    lists::paging_is_consistent,
    lists::resource_versions,
    watches::events_of_a_life,
    watches::selected_by_label,
    watches::streaming_list,
    watches::refused,
    deletes::unbound_goes_at_once,
    deletes::bound_waits_for_its_kubelet,
    deletes::preconditions,
    deletes::finished_goes_at_once,
    deletes::finalizers_hold,
    deletes::collection,
    deletes::eviction,
    others::namespace_ends_with_its_content,
    others::logs_without_a_container,
    others::small_kinds,
    others::access_review,
    others::unknown_paths,
    others::unauthorized,
];

#[tokio::test]
async fn the_embedded_api_answers_as_expected() -> Result<()> {
    let api = ApiServer::start(ApiOptions::default()).await?;
    run_all(&Server::new(client_config(&api).await?)?).await?;
    api.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_real_kube_apiserver_answers_as_expected() -> Result<()> {
    if let Some(kubeconfig) = std::env::var_os("WINDLASS_LAB_KUBECONFIG").map(PathBuf::from) {
        return run_all(&Server::new(kubeconfig_file(&kubeconfig).await?)?).await;
    }
    // With the controllers that the embedded API plays itself: namespaces end, quotas are counted.
    let plane = ControlPlane::start(Options { controller_manager: true, ..Options::default() }).await?;
    run_all(&Server::new(kubeconfig_file(&plane.kubeconfig()).await?)?).await
}

/// Runs all, and tells all that failed.
async fn run_all(server: &Server) -> Result<()> {
    let mut failed = Vec::new();
    for (name, scenario) in SCENARIOS {
        if let Err(error) = scenario(server).await {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {} scenarios failed:\n{}", failed.len(), SCENARIOS.len(), failed.join("\n"))
}

/// Compaction can be asked for in the embedded API only; the bodies are those that kube-apiserver gave to a compacted
/// etcd.
#[tokio::test]
async fn compacted_versions_are_answered_with_410() -> Result<()> {
    let api = ApiServer::start(ApiOptions::default()).await?;
    let server = Server::new(client_config(&api).await?)?;
    watches::compacted(&server, &|| api.compact()).await
}
