//! From configuration to an HTTP service: address, TLS, credentials, connections. Contacts nobody.
//!
//! The stack is put together here and not taken from kube's builder: that one re-sends requests on 429, 503 and 504
//! (a create too) and leaves the number of connections open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::{AuthError, Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tower::{Layer, ServiceBuilder};

use crate::config::{ClusterConfig, Source};
use crate::error::{ClusterError, KUBECONFIG, causes};
use crate::token::TokenFile;

/// Where the kubelet projects the service account's files.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Two clients of one API server with the same credentials and connections apart.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) url: String,
    /// Short calls: a warm pool.
    pub(crate) calls: Client,
    /// Watches hold their connection for long, they must not take one from the pool of calls.
    pub(crate) watches: Client,
    /// Only where the source is a service account; a kubeconfig's credentials are kube's matter.
    pub(crate) token: Option<Arc<TokenFile>>,
}

pub(crate) async fn connection(config: &ClusterConfig) -> Result<Connection, ClusterError> {
    // With two TLS providers compiled into one binary rustls picks none by itself. Already set: then that one holds.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut kube, token) = match &config.source {
        Source::InCluster => {
            let url = in_cluster_url(|variable| std::env::var(variable).ok())?;
            service_account(&url, Path::new(SERVICE_ACCOUNT), config)?
        }
        Source::ServiceAccount { url, directory } => service_account(url, directory, config)?,
        Source::Kubeconfig { path, context } => {
            (kubeconfig(path.as_deref(), context.as_deref()).await?, None)
        }
    };
    if let Some(file) = &config.ca_file {
        kube.root_cert = Some(certificates(file)?);
        kube.root_cert_file = Some(file.clone());
    }
    kube.accept_invalid_certs |= !config.verify_tls;
    let url = kube.cluster_url.to_string().trim_end_matches('/').to_owned();
    // An exec plugin of a kubeconfig runs in here.
    let built = {
        let (config, url) = (config.clone(), url.clone());
        tokio::task::spawn_blocking(move || clients(&kube, &config, &url)).await
    };
    let (calls, watches) = built.map_err(|panic| ClusterError::Credentials {
        url: url.clone(),
        cause: format!("the set-up of the client ended early: {panic}"),
    })??;
    Ok(Connection { url, calls, watches, token })
}

fn clients(kube: &kube::Config, config: &ClusterConfig, url: &str) -> Result<(Client, Client), ClusterError> {
    let refused = |error| set_up_error(&error, url);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.connect_timeout));
    if let Some(keepalive) = config.keepalive {
        tcp.set_keepalive(Some(keepalive.idle));
        tcp.set_keepalive_interval(Some(keepalive.interval));
        tcp.set_keepalive_retries(Some(keepalive.count));
    }
    // Bytes that nobody acknowledges end the connection, long before the kernel's own 15 minutes.
    tcp.set_tcp_user_timeout(Some(config.request_timeout.max(config.watch_timeout)));
    let https = kube.rustls_https_connector_with_connector(tcp).map_err(refused)?;
    let auth = kube.auth_layer().map_err(refused)?;
    let headers = kube.extra_headers_layer().map_err(refused)?;
    let client = |idle_max: usize| {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_connection)
            .pool_max_idle_per_host(idle_max)
            .build::<_, Body>(https.clone());
        let service = ServiceBuilder::new()
            .layer(kube.base_uri_layer())
            .layer(headers.clone())
            .map_err(tower::BoxError::from)
            .service(http);
        match &auth {
            Some(auth) => Client::new(auth.layer(service), &kube.default_namespace),
            None => Client::new(service, &kube.default_namespace),
        }
    };
    Ok((client(config.max_connections), client(1)))
}

fn set_up_error(error: &kube::Error, url: &str) -> ClusterError {
    match error {
        // What a plugin prints may be a credential: its exit status says enough.
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => ClusterError::Credentials {
            url: url.to_owned(),
            cause: format!("exec command `{cmd}` failed with {}", out.status),
        },
        kube::Error::Auth(AuthError::AuthExecParse(_)) => ClusterError::Credentials {
            url: url.to_owned(),
            cause: "the exec command did not print an ExecCredential".into(),
        },
        kube::Error::Auth(other) => ClusterError::Credentials { url: url.to_owned(), cause: causes(other) },
        other => ClusterError::Certificate { url: url.to_owned(), cause: causes(other) },
    }
}

fn in_cluster_url(variable: impl Fn(&str) -> Option<String>) -> Result<String, ClusterError> {
    let required = |name: &'static str| {
        variable(name).filter(|value| !value.is_empty()).ok_or(ClusterError::NotInCluster { variable: name })
    };
    let (host, port) = (required("KUBERNETES_SERVICE_HOST")?, required("KUBERNETES_SERVICE_PORT")?);
    // An IPv6 cluster has a bare address in the variable.
    if host.contains(':') {
        Ok(format!("https://[{host}]:{port}"))
    } else {
        Ok(format!("https://{host}:{port}"))
    }
}

type WithToken = (kube::Config, Option<Arc<TokenFile>>);

fn service_account(url: &str, directory: &Path, config: &ClusterConfig) -> Result<WithToken, ClusterError> {
    let token = TokenFile::open(directory.join("token"), config.token_reload)?;
    let mut kube = kube::Config::new(parsed(url, "address of the API server")?);
    if config.ca_file.is_none() && kube.cluster_url.scheme_str() == Some("https") {
        let ca = directory.join("ca.crt");
        kube.root_cert = Some(certificates(&ca)?);
        // Read again by kube every minute: the CA is rotated as the token is.
        kube.root_cert_file = Some(ca);
    }
    Ok((kube, Some(Arc::new(token))))
}

fn parsed(url: &str, what: &str) -> Result<http::Uri, ClusterError> {
    let wrong = |why: String| ClusterError::Setting { what: format!("{what} `{url}`"), why };
    let uri: http::Uri = url.parse().map_err(|e: http::uri::InvalidUri| wrong(e.to_string()))?;
    match uri.scheme_str() {
        Some("https" | "http") => Ok(uri),
        _ => Err(wrong("it does not start with https://".into())),
    }
}

fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, ClusterError> {
    let failed = |source| ClusterError::File { what: "CA certificate", path: file.to_owned(), source };
    let invalid = |why: String| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    let pem = std::fs::read(file).map_err(failed)?;
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&pem).map(|c| c.map(|c| c.to_vec())).collect();
    match found {
        Ok(found) if found.is_empty() => Err(invalid("it holds no PEM certificate".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(invalid(error.to_string())),
    }
}

async fn kubeconfig(path: Option<&Path>, context: Option<&str>) -> Result<kube::Config, ClusterError> {
    let shown = path.map_or_else(default_kubeconfig, Path::to_owned);
    let wrong = |error: KubeconfigError| kubeconfig_error(error, &shown);
    let file = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let file = file.map_err(wrong)?;
    if proxied(&file, context) {
        return Err(ClusterError::Kubeconfig {
            path: shown,
            why: "its cluster has a `proxy-url`, which is not supported".into(),
        });
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    let mut kube = kube::Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)?;
    // kube takes HTTPS_PROXY here. The API server is reached directly, as from inside the cluster.
    kube.proxy_url = None;
    Ok(kube)
}

fn proxied(file: &Kubeconfig, context: Option<&str>) -> bool {
    let name = context.or(file.current_context.as_deref());
    let named = file.contexts.iter().find(|c| Some(c.name.as_str()) == name);
    let cluster = named.and_then(|c| c.context.as_ref()).map(|c| c.cluster.as_str());
    let cluster = file.clusters.iter().find(|c| Some(c.name.as_str()) == cluster);
    cluster.and_then(|c| c.cluster.as_ref()).is_some_and(|c| c.proxy_url.is_some())
}

fn default_kubeconfig() -> PathBuf {
    std::env::var_os("KUBECONFIG").map_or_else(|| PathBuf::from("~/.kube/config"), PathBuf::from)
}

fn kubeconfig_error(error: KubeconfigError, path: &Path) -> ClusterError {
    let path = path.to_owned();
    match error {
        KubeconfigError::ReadConfig(source, path) => ClusterError::File { what: KUBECONFIG, path, source },
        // The parser's message shows the lines around the fault, which may hold a token.
        KubeconfigError::Parse(fault) => {
            let place = fault.location().map_or_else(String::new, |at| format!(" at line {}", at.line()));
            ClusterError::Kubeconfig { path, why: format!("it is no valid kubeconfig YAML{place}") }
        }
        KubeconfigError::LoadContext(name) => {
            ClusterError::Kubeconfig { path, why: format!("it has no context `{name}`") }
        }
        other => ClusterError::Kubeconfig { path, why: causes(&other) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(source: Source) -> ClusterConfig {
        ClusterConfig { source, ..ClusterConfig::default() }
    }

    async fn failure(config: ClusterConfig) -> ClusterError {
        match connection(&config).await {
            Ok(_) => panic!("connected"),
            Err(error) => error,
        }
    }

    #[test]
    fn in_cluster_takes_the_two_variables_and_no_file_of_the_user() {
        let url = |host: &'static str| {
            in_cluster_url(move |v| Some(if v.ends_with("HOST") { host } else { "443" }.to_owned())).unwrap()
        };
        assert_eq!(url("10.100.0.1"), "https://10.100.0.1:443");
        assert_eq!(url("fd00::1"), "https://[fd00::1]:443");
        let error = in_cluster_url(|_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "in-cluster configuration: environment variable KUBERNETES_SERVICE_HOST is not set"
        );
    }

    #[tokio::test]
    async fn a_bad_kubeconfig_is_named_and_nothing_of_it_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let source = |context: Option<&str>| Source::Kubeconfig {
            path: Some(path.clone()),
            context: context.map(str::to_owned),
        };
        let missing = failure(with(source(None))).await;
        assert_eq!(missing.to_string(), format!("cannot read the kubeconfig `{}`", path.display()));
        assert!(missing.hint().starts_with("name a readable file in `[kubernetes_executor] config_file`"));

        std::fs::write(&path, "users:\n- name: a\n  user: {token: s3cret\n").unwrap();
        let broken = failure(with(source(None))).await;
        assert_eq!(broken.kind(), "kubeconfig");
        let said = format!("{} {broken:?}", broken.line());
        assert!(said.contains("no valid kubeconfig YAML at line") && !said.contains("s3cret"), "{said}");

        let good = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
                    contexts: [{name: a, context: {cluster: c, user: u}}]\n\
                    clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1', proxy-url: 'http://p:1'}}]\n\
                    users: [{name: u, user: {token: s3cret}}]\n";
        std::fs::write(&path, good).unwrap();
        let absent = failure(with(source(Some("prod")))).await;
        assert!(absent.to_string().ends_with("cannot be used: it has no context `prod`"), "{absent}");
        let proxied = failure(with(source(None))).await;
        assert!(proxied.to_string().contains("proxy-url"), "{proxied}");
    }

    #[tokio::test]
    async fn a_service_account_folder_without_ca_is_an_error_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "t").unwrap();
        std::fs::write(folder.path().join("ca.crt"), "no certificate").unwrap();
        let source =
            |url: &str| Source::ServiceAccount { url: url.into(), directory: folder.path().to_owned() };
        let error = failure(with(source("https://127.0.0.1:1"))).await;
        assert!(error.line().contains("ca.crt`: it holds no PEM certificate"), "{}", error.line());
        let error = failure(with(source("127.0.0.1:1"))).await;
        assert_eq!(error.kind(), "setting");
    }
}
