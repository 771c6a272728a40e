//! The daemon as it is shipped: its own database role with the shipped grants, its own service account with the shipped
//! RBAC, its schema, its process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use windlass_lab_prepare::workspace;

use crate::control_plane::ControlPlane;
use crate::postgres::Postgres;
use crate::process::{POLL, Supervised};
use crate::{binaries, ports};

/// The service account of `deploy/rbac`, and the role that the grants are for.
pub const NAME: &str = "windlass";

const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// The subject of `deploy/rbac/role-binding.yaml`: where Airflow is installed.
pub const HOME: &str = "airflow";

/// Applies `deploy/rbac` in a namespace that exists; returns a kubeconfig of the service account.
pub async fn give_account(plane: &ControlPlane, namespace: &str) -> Result<PathBuf> {
    plane.create_service_account(namespace, NAME).await?;
    give_rights(plane, namespace).await?;
    plane.service_account_kubeconfig(namespace, NAME).await
}

/// Applies `deploy/rbac/cluster`, rights in all namespaces, for an account in [`HOME`], a namespace that exists; returns
/// its kubeconfig.
pub async fn give_cluster_account(plane: &ControlPlane) -> Result<PathBuf> {
    plane.create_service_account(HOME, NAME).await?;
    let manifests = workspace().join("deploy/rbac/cluster");
    for (kind, manifest) in
        [("clusterroles", "cluster-role.yaml"), ("clusterrolebindings", "cluster-role-binding.yaml")]
    {
        let collection = format!("/apis/rbac.authorization.k8s.io/v1/{kind}");
        plane.create_from_yaml(&collection, &manifests.join(manifest)).await?;
    }
    plane.service_account_kubeconfig(HOME, NAME).await
}

/// Role and binding of `deploy/rbac` in a namespace with worker pods, for the account in [`HOME`]. Those that are there
/// stay.
pub async fn give_rights(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let roles: Api<Role> = Api::namespaced(plane.client(), namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(plane.client(), namespace);
    let wanted = [
        ("roles", "role.yaml", roles.get_opt(NAME).await?.is_some()),
        ("rolebindings", "role-binding.yaml", bindings.get_opt(NAME).await?.is_some()),
    ];
    for (kind, manifest, _) in wanted.into_iter().filter(|(_, _, there)| !there) {
        let collection = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{kind}");
        plane.create_from_yaml(&collection, &workspace().join("deploy/rbac").join(manifest)).await?;
    }
    Ok(())
}

/// `windlass migrate` as the owner of the database, then the role [`NAME`] with `deploy/sql/grants.sql`. Airflow goes on
/// as the superuser. Once per server: a role belongs to all databases.
pub fn migrate(env: &BTreeMap<String, String>, postgres: &Postgres, database: &str) -> Result<()> {
    let mut migrate = Command::new(binaries::path("windlass")?);
    let output = migrate.arg("migrate").envs(env).output().context("run `windlass migrate`")?;
    if !output.status.success() {
        bail!("`windlass migrate` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let grants = fs::read_to_string(workspace().join("deploy/sql/grants.sql")).context("read the grants")?;
    let sql = format!("CREATE ROLE {NAME} LOGIN;\n{grants}");
    postgres.psql(database, &sql, &[("airflow_role", "postgres")])?;
    Ok(())
}

/// A running `windlass run`.
#[derive(Debug)]
pub struct Daemon {
    process: Supervised,
    port: u16,
}

impl Daemon {
    /// Starts it with `env` and waits until its probes and metrics are served.
    pub async fn start(name: &str, env: &BTreeMap<String, String>, log: &Path) -> Result<Self> {
        let port = ports::free()?;
        let mut command = Command::new(binaries::path("windlass")?);
        command.arg("run").envs(env).env("WINDLASS__SERVER__LISTEN", format!("127.0.0.1:{port}"));
        let process = Supervised::spawn(name, command, log)?;
        let deadline = Instant::now() + LISTENS_WITHIN;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            process.must_run()?;
            if Instant::now() > deadline {
                bail!("{name} does not listen after {LISTENS_WITHIN:?}:\n{}", process.log_tail(20));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(Self { process, port })
    }

    /// To stop, kill and measure it.
    pub fn process(&self) -> &Supervised {
        &self.process
    }

    /// Where `/metrics` and the probes are, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}
