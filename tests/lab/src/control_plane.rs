//! A real Kubernetes control plane: etcd and kube-apiserver from `tests/cluster`, ready in seconds.
//!
//! There is no kubelet: pods stay Pending until somebody plays the node (the process kubelet of `tests/local-cluster`,
//! or a test that patches their status).

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use windlass_lab_prepare::control_plane_binary;

use crate::folder::Folder;
use crate::ports;
use crate::process::{POLL, Supervised};

/// How long a component may take to get ready; 3 to 5 s were seen, more with every core busy.
const READY_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(5);
const APISERVER: &str = "kube-apiserver";
/// What tests can see of the controller-manager: namespaces end, garbage goes, service accounts appear, quotas count,
/// the expressions of admission policies are checked.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
                           root-ca-certificate-publisher-controller,resourcequota-controller,\
                           validatingadmissionpolicy-status-controller";

/// Who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Authorization {
    /// As on a real cluster; the admin's token is in `system:masters`.
    #[default]
    Rbac,
    /// Everybody everything.
    AlwaysAllow,
}

/// What to start and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Of the API server.
    pub authorization: Authorization,
    /// The ServiceAccount admission plugin, on as on a real cluster: a pod needs its service account to exist, and
    /// gets the token volume. Without the controller-manager see [`ControlPlane::create_namespace`].
    pub service_account_admission: bool,
    /// kube-scheduler.
    pub scheduler: bool,
    /// kube-controller-manager with the controllers that matter to pods: namespaces can be deleted, quotas are
    /// counted.
    pub controller_manager: bool,
    /// More flags for kube-apiserver. Its own defaults hold otherwise, the in-flight limits (400 and 200) too: what is
    /// tested and measured here must do within them.
    pub apiserver_flags: Vec<String>,
}

/// A running control plane. Stopped, and its data removed, on drop.
pub struct ControlPlane {
    url: String,
    token: String,
    service_account_admission: bool,
    controller_manager: bool,
    client: kube::Client,
    binary: PathBuf,
    apiserver_args: Vec<String>,
    etcd_url: String,
    // Dropped in this order: clients of the API server first, the store last.
    processes: Vec<Supervised>,
    folder: Folder,
}

impl ControlPlane {
    /// Starts it and waits until `/readyz` says ok. Builds the binary first when it is missing.
    pub async fn start(options: Options) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(control_plane_binary).await??;
        let folder = Folder::new("control-plane")?;
        let (port, etcd_port) = (ports::free()?, ports::free()?);
        let url = format!("https://127.0.0.1:{port}");
        let token = random_token()?;
        make_files(&binary, &folder, &url, &token)?;

        let spawn = |name: &str, args: &[String]| spawn(&binary, &folder, name, args);
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let etcd = spawn("etcd", &[folder.join("etcd").display().to_string(), etcd_url.clone()])?;
        let apiserver_args = apiserver_args(&options, &folder, port, &etcd_url);
        let apiserver = spawn(APISERVER, &apiserver_args)?;
        let client = client_of(&folder.join("kubeconfig")).await?;
        wait_until_ready(&client, &[&etcd, &apiserver]).await?;

        let mut processes = Vec::new();
        if options.scheduler {
            processes.push(spawn("kube-scheduler", &scheduler_args(&folder))?);
        }
        if options.controller_manager {
            processes.push(spawn("kube-controller-manager", &controller_manager_args(&folder))?);
        }
        processes.extend([apiserver, etcd]);
        let Options { service_account_admission, controller_manager, .. } = options;
        Ok(Self {
            url,
            token,
            service_account_admission,
            controller_manager,
            client,
            binary,
            apiserver_args,
            etcd_url,
            processes,
            folder,
        })
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Bearer token of an administrator.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Certificate of the authority that signed the API server's.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A client of the administrator. It belongs to the runtime that started the control plane.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// A folder that goes with the control plane.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Log of a component: `etcd`, `kube-apiserver`, `kube-scheduler`, `kube-controller-manager`.
    pub fn log(&self, component: &str) -> PathBuf {
        self.folder.join(format!("{component}.log"))
    }

    /// Process ids by component, for benchmarks that measure what the control plane costs.
    pub fn pids(&self) -> Vec<(String, i32)> {
        self.processes.iter().map(|process| (process.name().to_owned(), process.pid())).collect()
    }

    /// The API server's process, for faults: pause it, kill it.
    pub fn apiserver(&self) -> Option<&Supervised> {
        self.processes.iter().find(|process| process.name() == APISERVER)
    }

    /// Starts the API server again after it was killed, on its port and with its data. It does not wait: what a client
    /// meets until it is ready is part of an outage.
    pub fn start_apiserver_again(&mut self) -> Result<()> {
        let apiserver = spawn(&self.binary, &self.folder, APISERVER, &self.apiserver_args)?;
        if let Some(place) = self.processes.iter_mut().find(|process| process.name() == APISERVER) {
            *place = apiserver;
        }
        Ok(())
    }

    /// Address of etcd, whose history a test may compact.
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    /// Makes a namespace in which pods can be created: its `default` service account exists when this returns.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        namespaces
            .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
            .await
            .with_context(|| format!("create namespace {name}"))?;
        if !self.service_account_admission {
            return Ok(());
        }
        if !self.controller_manager {
            return self.create_service_account(name, "default").await;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), name);
        let deadline = Instant::now() + READY_WITHIN;
        while accounts.get_opt("default").await?.is_none() {
            if Instant::now() > deadline {
                bail!("the controller-manager made no default service account in namespace {name}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Makes a service account; it may do nothing yet.
    pub async fn create_service_account(&self, namespace: &str, name: &str) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        accounts
            .create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() })
            .await
            .with_context(|| format!("create service account {namespace}/{name}"))?;
        Ok(())
    }

    /// Sends a manifest with one object to the path of its collection, for example
    /// `/apis/rbac.authorization.k8s.io/v1/namespaces/airflow/roles`. The API server reads YAML itself.
    pub async fn create_from_yaml(&self, collection: &str, manifest: &Path) -> Result<()> {
        let body = fs::read(manifest).with_context(|| format!("read {}", manifest.display()))?;
        let request =
            http::Request::post(collection).header("content-type", "application/yaml").body(body)?;
        self.client()
            .request_text(request)
            .await
            .with_context(|| format!("create {} in {collection}", manifest.display()))?;
        Ok(())
    }

    /// A bearer token of a service account that exists (TokenRequest, one hour).
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("request a token of service account {namespace}/{name}"))?;
        Ok(answer.status.context("the TokenRequest came back without a token")?.token)
    }

    /// A kubeconfig with a token of a service account that exists; its default namespace is that of the account.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.service_account_token(namespace, name).await?;
        let path = self.folder.join(format!("kubeconfig-{namespace}-{name}"));
        fs::write(&path, kubeconfig(&self.url, &self.ca(), &token, namespace))?;
        Ok(path)
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token.
        f.debug_struct("ControlPlane")
            .field("url", &self.url)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for process in &self.processes {
            process.stop(STOP_WITHIN);
        }
    }
}

fn spawn(binary: &Path, folder: &Folder, name: &str, args: &[String]) -> Result<Supervised> {
    let mut command = Command::new(binary);
    command.arg(name).args(args).current_dir(folder.path());
    Supervised::spawn(name, command, &folder.join(format!("{name}.log")))
}

/// A client with the answers of this API server only.
async fn client_of(kubeconfig: &Path) -> Result<kube::Client> {
    let config = Kubeconfig::read_from(kubeconfig).context("read the kubeconfig of the lab")?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    kube::Client::try_from(config).context("make a client of the lab's API server")
}

async fn wait_until_ready(client: &kube::Client, processes: &[&Supervised]) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        for process in processes {
            process.must_run()?;
        }
        let request = http::Request::get("/readyz").body(Vec::new())?;
        match client.request_text(request).await {
            Ok(text) if text == "ok" => return Ok(()),
            Ok(_) | Err(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Ok(text) => bail!("kube-apiserver is not ready after {READY_WITHIN:?}: {text}"),
            Err(error) => bail!("kube-apiserver is not ready after {READY_WITHIN:?}: {error}"),
        }
    }
}

/// 128 bits from the kernel, in hexadecimal: other users of the machine can reach the loopback address too.
fn random_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Certificates, the administrator's token and the kubeconfigs.
fn make_files(binary: &Path, folder: &Folder, url: &str, token: &str) -> Result<()> {
    let pki = Command::new(binary).arg("pki").arg(folder.path()).output();
    let pki = pki.with_context(|| format!("run {} pki", binary.display()))?;
    if !pki.status.success() {
        bail!("making certificates failed: {}", String::from_utf8_lossy(&pki.stderr).trim());
    }
    fs::write(folder.join("tokens.csv"), format!("{token},admin,admin,\"system:masters\"\n"))?;
    fs::write(folder.join("kubeconfig"), kubeconfig(url, &folder.join("ca.crt"), token, "default"))?;
    let scheduler = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\n\
         kind: KubeSchedulerConfiguration\n\
         leaderElection: {{leaderElect: false}}\n\
         clientConnection: {{kubeconfig: {}, qps: 5000, burst: 5000}}\n",
        folder.join("kubeconfig").display()
    );
    fs::write(folder.join("scheduler.yaml"), scheduler)?;
    Ok(())
}

fn kubeconfig(url: &str, ca: &Path, token: &str, namespace: &str) -> String {
    let ca = ca.display();
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: lab\n\
         clusters: [{{name: lab, cluster: {{server: \"{url}\", certificate-authority: \"{ca}\"}}}}]\n\
         users: [{{name: lab, user: {{token: \"{token}\"}}}}]\n\
         contexts: [{{name: lab, context: {{cluster: lab, user: lab, namespace: \"{namespace}\"}}}}]\n"
    )
}

fn apiserver_args(options: &Options, folder: &Folder, port: u16, etcd_url: &str) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let mode = match options.authorization {
        Authorization::Rbac => "Node,RBAC",
        Authorization::AlwaysAllow => "AlwaysAllow",
    };
    // No node-lifecycle-controller runs here, so nobody would take the taint of a new node away.
    let mut admission_off = vec!["TaintNodesByCondition"];
    if !options.service_account_admission {
        admission_off.push("ServiceAccount");
    }
    let mut args = vec![
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--token-auth-file={}", file("tokens.csv")),
        format!("--authorization-mode={mode}"),
        format!("--disable-admission-plugins={}", admission_off.join(",")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("sa.key")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--event-ttl=15m".to_owned(),
        "--shutdown-delay-duration=0".to_owned(),
        "--profiling=false".to_owned(),
    ];
    args.extend(options.apiserver_flags.iter().cloned());
    args
}

fn scheduler_args(folder: &Folder) -> Vec<String> {
    let kubeconfig = folder.join("kubeconfig").display().to_string();
    vec![
        format!("--config={}", folder.join("scheduler.yaml").display()),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--secure-port=0".to_owned(),
    ]
}

fn controller_manager_args(folder: &Folder) -> Vec<String> {
    let kubeconfig = folder.join("kubeconfig").display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--controllers={CONTROLLERS}"),
        format!("--root-ca-file={}", folder.join("ca.crt").display()),
        format!("--service-account-private-key-file={}", folder.join("sa.key").display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ]
}
