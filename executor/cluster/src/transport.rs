//! One call: a deadline, a place among the connections, one request, one answer read to a bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::config::ClusterConfig;
use crate::connect::{Connection, connection};
use crate::error::{ClusterError, causes, find};
use crate::observe::{Observer, Verb};
use crate::status::{ApiStatus, words};

const AGENT: &str = concat!("windlass/", env!("CARGO_PKG_VERSION"));

/// The client. Cheap to clone; all clones share connections and their limit.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ClusterConfig,
    pub(crate) observer: Arc<dyn Observer>,
    connection: Connection,
    places: Semaphore,
}

/// A request.
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) method: Method,
    /// With query.
    pub(crate) path: String,
    pub(crate) body: Option<Vec<u8>>,
    /// For messages: `create pod etl/a`.
    pub(crate) name: String,
    /// The body of a PATCH is what a server-side apply takes, not a strategic merge.
    pub(crate) apply: bool,
    /// Tells the server how long it may take (`?timeout=`): what is left of the deadline when the request leaves.
    pub(crate) tell_timeout: bool,
    /// A longer answer is an error.
    pub(crate) answer_max: usize,
}

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) body: Bytes,
}

/// An answer to a read or write of one object stays below this: etcd takes 1.5 MiB.
pub(crate) const OBJECT_MAX: usize = 8 << 20;

impl Call {
    /// A call without body.
    pub(crate) fn plain(verb: Verb, method: Method, path: String, name: String) -> Self {
        Self {
            verb,
            method,
            path,
            body: None,
            name,
            apply: false,
            tell_timeout: false,
            answer_max: OBJECT_MAX,
        }
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Cluster {
    /// Reads addresses and credentials. Does not contact the API server: that it is away is no reason not to start.
    pub async fn connect(config: ClusterConfig, observer: Arc<dyn Observer>) -> Result<Self, ClusterError> {
        for (what, value) in
            [("watch_timeout", config.watch_timeout), ("request_timeout", config.request_timeout)]
        {
            if value < Duration::from_secs(1) || (what == "watch_timeout" && value > Duration::from_secs(30))
            {
                let why = "1 s at least, for a watch 30 s at most".into();
                return Err(ClusterError::Setting { what: format!("{what} = {value:?}"), why });
            }
        }
        if config.max_connections == 0 {
            let why = "at least one connection is needed".into();
            return Err(ClusterError::Setting { what: "max_connections = 0".into(), why });
        }
        let connection = connection(&config).await?;
        let places = Semaphore::new(config.max_connections);
        Ok(Self { inner: Arc::new(Inner { config, observer, connection, places }) })
    }

    /// Of the API server, for logs.
    pub fn url(&self) -> &str {
        &self.inner.connection.url
    }

    /// Sends `call` once and reads its answer, whatever its status, within `limit` from now.
    pub(crate) async fn call(&self, call: Call, limit: Duration) -> Result<Answer, ClusterError> {
        let started = Instant::now();
        let verb = call.verb;
        let result = self.call_by(call, started + limit, limit).await;
        let status = match &result {
            Ok(answer) => Some(answer.status),
            Err(error) => error.status(),
        };
        self.inner.observer.call(verb, status, started.elapsed());
        result
    }

    /// As [`Cluster::call`], with an answer that is no success as an error.
    pub(crate) async fn read(&self, call: Call, limit: Duration) -> Result<Answer, ClusterError> {
        let name = call.name.clone();
        let answer = self.call(call, limit).await?;
        if answer.is_success() { Ok(answer) } else { Err(self.refused(name, &answer)) }
    }

    async fn call_by(&self, call: Call, by: Instant, limit: Duration) -> Result<Answer, ClusterError> {
        let name = call.name.clone();
        let busy = || ClusterError::Busy { call: name.clone(), after_ms: limit.as_millis() };
        let place = timeout_at(by, self.inner.places.acquire()).await.map_err(|_| busy())?;
        // The semaphore is never closed; if it were, nothing would have been sent.
        let _place = place.map_err(|_| busy())?;
        let answer_max = call.answer_max;
        let exchange = async {
            let response = self.send(&self.inner.connection.calls, call, by).await?;
            let (head, body) = response.into_parts();
            let body = whole(body, answer_max).await.map_err(|why| match why {
                Short::Cut(cause) => ClusterError::Cut { url: self.url().into(), call: name.clone(), cause },
                Short::TooLong => {
                    self.unreadable(name.clone(), format!("it is longer than {answer_max} bytes"))
                }
            })?;
            let status = head.status.as_u16();
            self.note(status);
            Ok(Answer { status, retry_after_ms: retry_after_ms(status, &head.headers, &body), body })
        };
        match timeout_at(by, exchange).await {
            Ok(answered) => answered,
            Err(_) => {
                let (url, after_ms) = (self.url().to_owned(), limit.as_millis());
                Err(ClusterError::TimedOut { url, call: name.clone(), after_ms })
            }
        }
    }

    /// Opens a watch: the head of its answer within the request timeout, its body for the caller to read.
    pub(crate) async fn open(&self, call: Call) -> Result<Response<Body>, ClusterError> {
        let (started, limit) = (Instant::now(), self.inner.config.request_timeout);
        let (name, verb) = (call.name.clone(), call.verb);
        let by = started + limit;
        let opened = async {
            let response = self.send(&self.inner.connection.watches, call, by).await?;
            let status = response.status().as_u16();
            self.note(status);
            if response.status().is_success() {
                return Ok(response);
            }
            let (head, body) = response.into_parts();
            let body = whole(body, OBJECT_MAX).await.unwrap_or_default();
            let retry_after_ms = retry_after_ms(status, &head.headers, &body);
            Err(self.refused(name.clone(), &Answer { status, retry_after_ms, body }))
        };
        let result = timeout_at(by, opened).await.unwrap_or_else(|_| {
            let (url, after_ms) = (self.url().to_owned(), limit.as_millis());
            Err(ClusterError::TimedOut { url, call: name.clone(), after_ms })
        });
        let status = match &result {
            Ok(response) => Some(response.status().as_u16()),
            Err(error) => error.status(),
        };
        self.inner.observer.call(verb, status, started.elapsed());
        result
    }

    async fn send(
        &self,
        client: &kube::Client,
        call: Call,
        by: Instant,
    ) -> Result<Response<Body>, ClusterError> {
        let mut path = call.path;
        if call.tell_timeout {
            let left = by.saturating_duration_since(Instant::now()).as_millis().max(1);
            let sign = if path.contains('?') { '&' } else { '?' };
            path = format!("{path}{sign}timeout={left}ms");
        }
        let mut request = Request::builder()
            .method(call.method)
            .uri(path)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.inner.connection.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        if call.body.is_some() {
            let patch = *request.method_ref().unwrap_or(&Method::GET) == Method::PATCH;
            let kind = match (patch, call.apply) {
                // JSON is YAML.
                (true, true) => "application/apply-patch+yaml",
                (true, false) => "application/strategic-merge-patch+json",
                (false, _) => "application/json",
            };
            request = request.header(CONTENT_TYPE, kind);
        }
        let request = request.body(Body::from(call.body.unwrap_or_default())).map_err(|error| {
            ClusterError::Setting { what: format!("request `{}`", call.name), why: error.to_string() }
        })?;
        client.send(request).await.map_err(|error| self.unsent(call.name, &error))
    }

    /// After a 401 the token file is read again before the next call.
    fn note(&self, status: u16) {
        if let (401, Some(token)) = (status, &self.inner.connection.token) {
            token.refused();
        }
    }

    fn unsent(&self, call: String, error: &kube::Error) -> ClusterError {
        let url = self.url().to_owned();
        let cause = causes(error);
        if find::<rustls::Error>(error) {
            return ClusterError::Certificate { url, cause };
        }
        if let kube::Error::Auth(_) = error {
            return ClusterError::Credentials { url, cause: "the kubeconfig's credentials failed".into() };
        }
        if find::<kube::client::AuthError>(error) {
            return ClusterError::Credentials {
                url,
                cause: "the kubeconfig's credentials cannot be renewed".into(),
            };
        }
        if never_connected(error) {
            return ClusterError::Unreachable { url, call, cause };
        }
        ClusterError::Cut { url, call, cause }
    }

    pub(crate) fn refused(&self, call: String, answer: &Answer) -> ClusterError {
        ClusterError::Answered {
            url: self.url().to_owned(),
            call,
            status: answer.status,
            message: words(&answer.body),
            retry_after_ms: answer.retry_after_ms,
        }
    }

    pub(crate) fn unreadable(&self, call: String, why: String) -> ClusterError {
        ClusterError::Undecodable { url: self.url().to_owned(), call, why }
    }
}

fn never_connected(error: &kube::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = next {
        if this
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
        {
            return true;
        }
        next = this.source();
    }
    false
}

enum Short {
    Cut(String),
    TooLong,
}

async fn whole(mut body: Body, max: usize) -> Result<Bytes, Short> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Short::Cut(causes(&error)))?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > max {
                return Err(Short::TooLong);
            }
            read.extend_from_slice(data);
        }
    }
    Ok(read.freeze())
}

/// Header first (seconds; APF always sends it), else the Status's `retryAfterSeconds`.
fn retry_after_ms(status: u16, headers: &HeaderMap, body: &[u8]) -> Option<u64> {
    if status < 400 {
        return None;
    }
    let header = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    let seconds = header
        .and_then(|v| v.trim().parse::<u64>().ok())
        .or_else(|| ApiStatus::read(body)?.details?.retry_after_seconds);
    seconds.map(|s| s.saturating_mul(1_000))
}
