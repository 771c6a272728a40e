//! An HTTPS server for webhooks, with faults that can be switched while it runs.
//!
//! kube-apiserver and Windlass' own embedded API call it as they call EKS'. It knows nothing of pods: what a path says is
//! a [`Handler`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::review::{Reply, Verdict, answer, response};

/// The pod identity webhook (mutating).
pub const MUTATE_IRSA: &str = "/mutate-irsa";
/// The webhook of security groups for pods (mutating).
pub const MUTATE_SGP: &str = "/mutate-sgp";
/// A webhook that is not of AWS: a mesh, an agent (mutating).
pub const MUTATE_SIDECAR: &str = "/mutate-sidecar";
/// The guard of the annotation of security groups for pods (validating).
pub const VALIDATE_SGP: &str = "/validate-sgp";

/// Largest body: two objects of the size that etcd takes.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;

/// What a path says of an AdmissionReview's `request`.
pub type Handler = Arc<dyn Fn(&Value) -> Verdict + Send + Sync>;

/// How a path behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As its handler says.
    #[default]
    Normal,
    /// Allows everything and changes nothing.
    Silent,
    /// Silent for pods of an account until it is so old, as a cache that lags: see [`Webhooks::account_created`].
    SilentUntil {
        /// Age of the account.
        age: Duration,
    },
    /// As its handler says, after so long.
    Slow(Duration),
    /// Refuses everything.
    Deny {
        /// HTTP status for the API server's client.
        code: u16,
        /// For the client.
        message: String,
    },
    /// Closes the connection without an answer.
    Down,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Loopback does not work.
    #[error("the server cannot listen on 127.0.0.1; check the loopback interface")]
    Listen(#[from] std::io::Error),
    /// No certificate could be made: the machine has no randomness, or a library is broken.
    #[error("the server cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate does not suit the TLS library.
    #[error("the server cannot configure TLS")]
    Tls(#[from] rustls::Error),
}

/// A running server. Dropping it ends it, with all its connections.
pub struct Webhooks {
    address: SocketAddr,
    /// PEM.
    authority: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    paths: BTreeMap<String, Path>,
    /// When each account was made, by namespace and name.
    accounts: Mutex<BTreeMap<(String, String), Instant>>,
}

struct Path {
    handler: Handler,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    calls: u64,
}

impl Webhooks {
    /// Starts serving on a free port of loopback; connections are accepted when it returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        handlers: impl IntoIterator<Item = (&'static str, Handler)>,
    ) -> Result<Self, StartError> {
        let (acceptor, authority) = tls(&[b"http/1.1"])?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let path = |(path, handler): (&str, _)| (path.to_owned(), Path { handler, state: Mutex::default() });
        let paths = handlers.into_iter().map(path).collect();
        let shared = Arc::new(Shared { paths, accounts: Mutex::default() });
        let accepting = tokio::spawn(accept(Arc::clone(&shared), listener, acceptor));
        Ok(Self { address, authority, shared, accepting })
    }

    /// `https://127.0.0.1:PORT` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The authority that clients are to trust, as PEM: the server's own certificate, made at this start.
    pub fn ca_bundle(&self) -> &str {
        &self.authority
    }

    /// From the next request on the path behaves so. Paths without a handler have no mode.
    pub fn set_mode(&self, path: &str, mode: Mode) {
        if let Some(path) = self.shared.paths.get(path) {
            lock(&path.state).mode = mode;
        }
    }

    /// Requests that the path has had, whatever came of them.
    pub fn calls(&self, path: &str) -> u64 {
        self.shared.paths.get(path).map_or(0, |path| lock(&path.state).calls)
    }

    /// The account is made now: what [`Mode::SilentUntil`] counts from. One that nobody told of counts from the first
    /// pod of it.
    pub fn account_created(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.shared.accounts).insert(key, Instant::now());
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Age of the account that the request's pod names.
    fn account_age(&self, request: &Value) -> Duration {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let account = text(&request["object"]["spec"]["serviceAccountName"]);
        let key = (text(&request["namespace"]), account);
        lock(&self.accounts).entry(key).or_insert_with(Instant::now).elapsed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind them is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A certificate for loopback that is its own authority, and its PEM. `protocols`: for ALPN.
pub(crate) fn tls(protocols: &[&[u8]]) -> Result<(TlsAcceptor, String), StartError> {
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok((TlsAcceptor::from(Arc::new(config)), made.cert.pem()))
}

/// Ends when it is aborted, and its connections with it.
async fn accept(shared: Arc<Shared>, listener: TcpListener, acceptor: TlsAcceptor) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve(Arc::clone(&shared), acceptor.clone(), stream));
            }
            // Out of file descriptors: others must end first.
            Err(error) => {
                tracing::warn!(%error, "the webhook server cannot accept a connection; it tries again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, acceptor: TlsAcceptor, stream: TcpStream) {
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a client does not trust the webhook server, or left"),
    };
    let service = service_fn(move |request| respond(Arc::clone(&shared), request));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Ends with an error whenever a client leaves or the path is down: both are ordinary here.
    if let Err(error) = served.await {
        tracing::trace!(%error, "connection ended");
    }
}

/// A connection that is closed on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the webhook is down")]
struct Closed;

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    let Some(path) = shared.paths.get(parts.uri.path()) else {
        return Ok(http(Reply { status: 404, body: "404 page not found\n".to_owned() }));
    };
    let mode = {
        let mut state = lock(&path.state);
        state.calls += 1;
        state.mode.clone()
    };
    match mode {
        Mode::Down => return Err(Closed),
        Mode::Slow(time) => tokio::time::sleep(time).await,
        Mode::Normal | Mode::Silent | Mode::SilentUntil { .. } | Mode::Deny { .. } => {}
    }
    let Ok(body) = Limited::new(body, BODY_MAX_BYTES).collect().await else {
        return Ok(http(Reply { status: 413, body: "the body is too large or was cut off\n".to_owned() }));
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|h| h.to_str().ok());
    Ok(http(answer(content_type.unwrap_or_default(), &body.to_bytes(), |request| {
        response(request, verdict(&shared, path, &mode, request))
    })))
}

fn verdict(shared: &Shared, path: &Path, mode: &Mode, request: &Value) -> Verdict {
    // The age is asked for in every mode: it counts from the first pod.
    let age = shared.account_age(request);
    match mode {
        Mode::Silent => Verdict::Allow,
        Mode::SilentUntil { age: needed } if age < *needed => Verdict::Allow,
        Mode::Deny { code, message } => Verdict::Deny { code: *code, message: message.clone() },
        Mode::Normal | Mode::SilentUntil { .. } | Mode::Slow(_) | Mode::Down => (path.handler)(request),
    }
}

fn http(reply: Reply) -> Response<Full<Bytes>> {
    let content_type =
        if reply.body.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
