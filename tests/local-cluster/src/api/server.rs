//! The HTTP side: connections, authentication, faults, and the handle that tests hold.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Api;
use super::faults::{Fault, FaultRule, Faults};
use super::request::{Body, Call, Query, Reply};
use super::resource::by_plural;
use super::route;
use super::status::ApiError;
use super::store::{Key, Store};
use super::write::{WriteOptions, create};
use crate::tls::Tls;

/// Largest request body: etcd's limit on an object.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;

/// First byte of a TLS connection (RFC 8446, ContentType handshake).
const TLS_HANDSHAKE: u8 = 22;

/// How to run the API.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// Loopback port; 0 takes a free one.
    pub port: u16,
    /// The one bearer token that is accepted.
    pub token: String,
    /// Pods need an existing service account (`default` if they name none), as with upstream's admission plugin.
    pub service_account_admission: bool,
    /// Writes that watches can go back over; older resourceVersions answer 410.
    pub history_max: usize,
}

impl Default for ApiOptions {
    fn default() -> Self {
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Self { port: 0, token, service_account_admission: true, history_max: 10_000 }
    }
}

/// Why the API could not start or be told where it is.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or loopback does not work.
    #[error(
        "the local cluster cannot listen on 127.0.0.1:{port}; choose another --port (0 takes a free one)"
    )]
    Listen {
        /// Port asked for.
        port: u16,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The kubeconfig could not be written.
    #[error("the kubeconfig `{path}` cannot be written; check the folder and its permissions")]
    Kubeconfig {
        /// File.
        path: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// A running embedded API. Dropping it ends it.
pub struct ApiServer {
    api: Arc<Api>,
    address: SocketAddr,
    /// PEM.
    authority: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ApiServer {
    /// Starts serving on loopback; returns when connections are accepted.
    pub async fn start(options: ApiOptions) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { port: options.port, source };
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = Tls::new().map_err(|e| failed(e.into()))?;
        let store = Store::new(options.history_max);
        let api = Arc::new(Api { options, address: address.to_string(), store, faults: Faults::default() });
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let namespace = json!({ "metadata": { "name": namespace } });
            // Fixed, valid names in an empty store.
            let _ = create(&api, &super::resource::NAMESPACES, "", namespace, WriteOptions::default());
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(Arc::clone(&api), listener, tls.acceptor, stop.clone(), tasks.clone()));
        Ok(Self { api, address, authority: tls.authority, stop, tasks })
    }

    /// `https://127.0.0.1:PORT`. The same port speaks plain HTTP to clients that begin so.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// PEM of the authority that signed the server's certificate, made at this start.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The bearer token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.api.options.token
    }

    /// A kubeconfig for kubectl and client libraries.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let authority = base64::engine::general_purpose::STANDARD.encode(&self.authority);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "local-cluster",
            "clusters": [{ "name": "local-cluster", "cluster": {
                "server": self.url(), "certificate-authority-data": authority } }],
            "users": [{ "name": "admin", "user": { "token": self.token() } }],
            "contexts": [{ "name": "local-cluster", "context": {
                "cluster": "local-cluster", "user": "admin", "namespace": "default" } }],
        })
        .to_string()
    }

    /// Writes the kubeconfig, readable by its owner only: it holds the token.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<(), StartError> {
        crate::private_file::write(path, &self.kubeconfig())
            .map_err(|source| StartError::Kubeconfig { path: path.display().to_string(), source })
    }

    /// Adds a fault; the first rule that matches a request meets it.
    pub fn inject(&self, rule: FaultRule) {
        self.api.faults.add(rule);
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.api.faults.clear();
    }

    /// Ends running watches in the middle of their streams: those whose query contains this (`""`: all; the kubelet's
    /// have a `fieldSelector`, Windlass' a `labelSelector`).
    pub fn cut_watches(&self, query_contains: &str) {
        self.api.faults.cut_watches(query_contains);
    }

    /// Watches whose query contains this stay open but tell nothing, until `None`.
    pub fn silence_watches(&self, query_contains: Option<&str>) {
        self.api.faults.silence_watches(query_contains);
    }

    /// Forgets the history: older resourceVersions and continue tokens are answered with 410.
    pub fn compact(&self) {
        self.api.store.compact();
    }

    /// From now on lists with `resourceVersion=0` show the present moment, as a cache that lags. `false` ends it.
    pub fn stale_lists(&self, stale: bool) {
        self.api.faults.set_stale(stale.then(|| self.api.store.version()));
    }

    /// The store's resourceVersion.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.api.store.version()
    }

    /// Reads an object without a request: `get("pods", "default", "p")`. Cluster scope has an empty namespace.
    #[must_use]
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.api.store.get(by_plural(resource)?.plural, &Key::new(namespace, name))
    }

    /// Reads all objects of a resource without a request.
    #[must_use]
    pub fn all(&self, resource: &str) -> Vec<Arc<Value>> {
        by_plural(resource)
            .and_then(|r| self.api.store.snapshot(r.plural, None, None).ok())
            .map_or_else(Vec::new, |s| s.objects.into_iter().map(|(_, object)| object).collect())
    }

    /// Ends all connections and waits until the port is free.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    api: Arc<Api>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (api, acceptor, stop) = (Arc::clone(&api), acceptor.clone(), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(api, acceptor, stream) => {}
                    }
                });
            }
            // Out of file descriptors: others must end first.
            Err(error) => {
                tracing::warn!(%error, "the local cluster cannot accept a connection; it tries again");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(api: Arc<Api>, acceptor: TlsAcceptor, stream: TcpStream) {
    // Small answers must not wait for the client's delayed ACK.
    let _ = stream.set_nodelay(true);
    let mut first = [0_u8];
    if stream.peek(&mut first).await.is_err() {
        return;
    }
    if first[0] != TLS_HANDSHAKE {
        return serve(api, stream).await;
    }
    match acceptor.accept(stream).await {
        Ok(stream) => serve(api, stream).await,
        Err(error) => tracing::debug!(%error, "a client does not trust this server, or gave up"),
    }
}

async fn serve(api: Arc<Api>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(move |request| answer(Arc::clone(&api), request));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Ends with an error whenever a client goes away or a fault cuts it: both are ordinary here.
    if let Err(error) = served.await {
        tracing::trace!(%error, "connection ended");
    }
}

/// A connection that is closed on purpose.
#[derive(Debug, thiserror::Error)]
#[error("connection closed by an injected fault")]
struct Dropped;

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let fault = api.faults.meet(parts.method.as_str(), &path);
    match fault {
        Some(Fault::DropRequest) => return Err(Dropped),
        Some(Fault::TooManyRequests { retry_after_s }) => {
            return Ok(response(ApiError::too_many_requests(retry_after_s).into()));
        }
        Some(Fault::Error(code)) => return Ok(response(ApiError::injected(code).into())),
        Some(Fault::Latency(latency)) => tokio::time::sleep(latency).await,
        Some(Fault::DropAnswer) | None => {}
    }
    if !authorized(&api, &path, parts.headers.get(header::AUTHORIZATION)) {
        return Ok(response(ApiError::unauthorized().into()));
    }
    let body = match http_body_util::Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let problem = format!("the request body is larger than {BODY_MAX_BYTES} bytes or was cut off");
            return Ok(response(ApiError::bad_request(problem).into()));
        }
    };
    let call = Call {
        method: parts.method,
        path: path.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body,
    };
    let reply = route::serve(&api, &call);
    if fault == Some(Fault::DropAnswer) {
        return Err(Dropped);
    }
    Ok(response(reply))
}

/// Health and version are public, as with upstream's default roles.
fn authorized(api: &Api, path: &str, header: Option<&HeaderValue>) -> bool {
    if matches!(path, "/version" | "/readyz" | "/livez" | "/healthz") {
        return true;
    }
    header
        .and_then(|h| h.to_str().ok())
        .and_then(|h| h.strip_prefix("Bearer "))
        .is_some_and(|token| token.trim() == api.options.token)
}

fn response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Some(seconds) = reply.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
