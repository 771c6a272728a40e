//! The control plane is a real one and leaves nothing behind.

use std::path::Path;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use windlass_lab::control_plane::{ControlPlane, Options};

fn pod(name: &str) -> Result<Pod> {
    Ok(serde_json::from_value(serde_json::json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "base", "image": "none"}]},
    }))?)
}

async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(windlass_lab::process::POLL).await;
    }
}

#[tokio::test]
async fn rbac_service_accounts_quota_and_the_end_of_a_namespace() -> Result<()> {
    let options = Options { service_account_admission: true, controller_manager: true, ..Options::default() };
    let cluster = ControlPlane::start(options).await?;
    let version = cluster.client().apiserver_version().await?;
    assert!(version.git_version.starts_with("v1."), "{version:?}");

    cluster.create_namespace("lab").await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "lab");
    let created = pods.create(&PostParams::default(), &pod("one")?).await?;
    assert_eq!(created.spec.and_then(|spec| spec.service_account_name).as_deref(), Some("default"));

    // A service account without a role may do nothing.
    cluster.create_service_account("lab", "nobody").await?;
    let nobody = client(&cluster.service_account_kubeconfig("lab", "nobody").await?).await?;
    let denied = Api::<Pod>::namespaced(nobody, "lab").get("one").await.expect_err("no role");
    assert!(denied.to_string().contains("system:serviceaccount:lab:nobody"), "{denied}");

    // A quota is counted by its controller, then enforced by admission. Of none: one of some pods may be counted before
    // the controller has seen the pod above, and then lets another one in.
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.client(), "lab");
    let quota = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "no-more"}, "spec": {"hard": {"pods": "0"}},
    }))?;
    quotas.create(&PostParams::default(), &quota).await?;
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    let refused =
        until("the quota is enforced", || async { Ok(pods.create(&trial, &pod("two")?).await.err()) })
            .await?;
    assert!(refused.to_string().contains("exceeded quota: no-more"), "{refused}");

    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.delete("lab", &DeleteParams::default()).await?;
    until("the namespace is gone", || async { Ok(namespaces.get_opt("lab").await?.is_none().then_some(())) })
        .await
}

#[tokio::test]
async fn the_smallest_one_has_pods_without_service_accounts_and_leaves_nothing() -> Result<()> {
    let cluster = ControlPlane::start(Options::default()).await?;
    cluster.create_namespace("lab").await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "lab");
    pods.create(&PostParams::default(), &pod("one")?).await?;
    let (pids, folder) = (cluster.pids(), cluster.folder().to_owned());
    drop(cluster);
    for (name, pid) in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name} still runs");
    }
    assert!(!folder.exists());
    Ok(())
}
