//! The kubelet's own HTTPS endpoint, as far as a real kube-apiserver asks it for `kubectl logs`.
//!
//! It listens on loopback only and asks nobody who they are: whoever is on this machine may read the pods' logs. A real
//! kubelet asks the API server; the API servers of tests send no client certificate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::logs::{self, LogOptions};
use crate::tls::Tls;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The endpoint, bound but not yet served.
pub(crate) struct LogServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    root: PathBuf,
}

impl LogServer {
    pub(crate) async fn bind(root: &Path) -> std::io::Result<Self> {
        let listener = TcpListener::bind((super::HOST_IP, 0)).await?;
        Ok(Self { listener, acceptor: Tls::new()?.acceptor, root: root.to_owned() })
    }

    /// For `status.daemonEndpoints` of the node.
    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// Serves until its task is aborted.
    pub(crate) async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(self.acceptor.clone(), stream, self.root.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the log endpoint cannot accept a connection; it tries again");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, root: PathBuf) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request| {
        let root = root.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&root, &request)) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::trace!(%error, "a reader of logs went away");
    }
}

fn answer(root: &Path, request: &Request<Incoming>) -> Response<Body> {
    let path: Vec<&str> = request.uri().path().split('/').filter(|p| !p.is_empty()).collect();
    let ["containerLogs", namespace, pod, container] = path.as_slice() else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    let query: HashMap<_, _> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect();
    let number = |name: &str| query.get(name).and_then(|v| v.parse().ok());
    let flag = |name: &str| query.get(name).is_some_and(|v| v == "true" || v == "1");
    let options = LogOptions {
        follow: flag("follow"),
        previous: flag("previous"),
        tail_lines: number("tailLines"),
        limit_bytes: number("limitBytes"),
    };
    let chunks =
        logs::find_pod_dir(root, namespace, pod).and_then(|dir| logs::read(&dir.join(container), options));
    let Some(chunks) = chunks else {
        let which = if options.previous { "previous terminated container" } else { "container" };
        let why = if options.previous { "not found" } else { "is waiting to start: ContainerCreating" };
        return text(StatusCode::BAD_REQUEST, &format!("{which} {container:?} in pod {pod:?} {why}"));
    };
    let frames = ReceiverStream::new(chunks).map(|chunk| chunk.map(Frame::data));
    with_type(Response::new(StreamBody::new(frames).boxed_unsync()))
}

fn text(code: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {});
    let mut response = with_type(Response::new(body.boxed_unsync()));
    *response.status_mut() = code;
    response
}

fn with_type(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
