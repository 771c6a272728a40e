//! API and kubelet in one process, and the client configurations that lead to them.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::{ApiOptions, ApiServer, Kubelet, KubeletError, KubeletOptions, StartError};

/// Why a local cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The API.
    #[error(transparent)]
    Api(#[from] StartError),
    /// The kubelet.
    #[error(transparent)]
    Kubelet(#[from] KubeletError),
    /// The kubeconfig.
    #[error("the kubeconfig `{name}` cannot be used; check that it exists and names a current context")]
    Kubeconfig {
        /// File, or what stands for one.
        name: String,
        /// kube's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A running API with one node.
pub struct LocalCluster {
    /// The API.
    pub api: ApiServer,
    /// The node.
    pub kubelet: Kubelet,
}

impl LocalCluster {
    /// Starts both.
    pub async fn start(api: ApiOptions, kubelet: KubeletOptions) -> Result<Self, ClusterError> {
        let api = ApiServer::start(api).await?;
        let kubelet = Kubelet::start(client_config(&api).await?, kubelet).await?;
        Ok(Self { api, kubelet })
    }

    /// Ends both, and all containers.
    pub async fn stop(self) {
        self.kubelet.stop().await;
        self.api.stop().await;
    }
}

/// Client configuration for an API of this process.
pub async fn client_config(api: &ApiServer) -> Result<kube::Config, ClusterError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ClusterError::Kubeconfig {
        name: api.url(),
        source,
    };
    let kubeconfig: Kubeconfig = serde_json::from_str(&api.kubeconfig()).map_err(|e| failed(e.into()))?;
    from_kubeconfig(kubeconfig).await.map_err(|e| failed(e.into()))
}

/// Client configuration from a file.
pub async fn kubeconfig_file(path: &Path) -> Result<kube::Config, ClusterError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ClusterError::Kubeconfig {
        name: path.display().to_string(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|e| failed(e.into()))?;
    from_kubeconfig(kubeconfig).await.map_err(|e| failed(e.into()))
}

async fn from_kubeconfig(kubeconfig: Kubeconfig) -> Result<kube::Config, kube::config::KubeconfigError> {
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}
