//! WATCH: a cursor into the store's history, written out as events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Api;
use super::list::{Scope, refused, selector};
use super::request::{Body, Query, Shape};
use super::resource::Resource;
use super::selector::Selector;
use super::status::ApiError;
use super::store::Change;
use super::table;

/// Seconds after which a watch without `timeoutSeconds` ends (upstream: 30 to 60 minutes).
const TIMEOUT_DEFAULT_S: u64 = 2400;
/// How often a quiet watch gets a bookmark, and how long before its end it gets the last (upstream's watch cache).
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Where a watch begins.
enum Start {
    /// Existing objects as ADDED first; then a bookmark that ends them, if asked for.
    State { end_bookmark: bool },
    /// What came after this version.
    After(u64),
}

struct Watch {
    api: Arc<Api>,
    resource: &'static Resource,
    namespace: Option<String>,
    selector: Selector,
    shape: Shape,
    /// As it came: faults are addressed by it.
    query: String,
    bookmarks: bool,
    cursor: u64,
    /// Tables carry their columns once.
    columns_sent: bool,
    out: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

/// Starts a watch; its events are the body.
pub(crate) fn watch(
    api: &Arc<Api>,
    scope: &Scope<'_>,
    query: &Query,
    shape: Shape,
) -> Result<Body, ApiError> {
    let selector = selector(scope.resource, query)?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let start = start(query, bookmarks)?;
    let timeout = match query.integer("timeoutSeconds")? {
        Some(s) if s > 0 => u64::try_from(s).unwrap_or(TIMEOUT_DEFAULT_S),
        _ => TIMEOUT_DEFAULT_S,
    };
    let (out, events) = mpsc::channel(16);
    let watch = Watch {
        api: Arc::clone(api),
        resource: scope.resource,
        namespace: scope.namespace.map(str::to_owned),
        selector,
        shape,
        query: query.raw().to_owned(),
        bookmarks,
        cursor: 0,
        columns_sent: false,
        out,
    };
    tokio::spawn(watch.run(start, Instant::now() + Duration::from_secs(timeout)));
    let frames = tokio_stream::wrappers::ReceiverStream::new(events).map(|chunk| chunk.map(Frame::data));
    Ok(StreamBody::new(frames).boxed_unsync())
}

fn start(query: &Query, bookmarks: bool) -> Result<Start, ApiError> {
    let raw = query.get("resourceVersion");
    let version: u64 = raw.unwrap_or("0").parse().map_err(|_| {
        let raw = raw.unwrap_or_default();
        ApiError::internal(format!(
            "resourceVersion: Invalid value: {raw:?}: strconv.ParseUint: parsing {raw:?}: invalid syntax"
        ))
    })?;
    let matching = query.get("resourceVersionMatch");
    match query.get("sendInitialEvents") {
        Some(_) if matching != Some("NotOlderThan") => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            Err(refused("resourceVersionMatch", why))
        }
        None if matching.is_some() => {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            Err(refused("resourceVersionMatch", why))
        }
        Some("true" | "1") => Ok(Start::State { end_bookmark: bookmarks }),
        None if version == 0 => Ok(Start::State { end_bookmark: bookmarks && raw.is_some() }),
        _ => Ok(Start::After(version)),
    }
}

impl Watch {
    async fn run(mut self, start: Start, end: Instant) {
        let mut latest = self.api.store.subscribe();
        let mut control = self.api.faults.watch_control();
        // Cuts and silences that came before this watch are not for it.
        let born = control.borrow_and_update().cut_count();
        if self.begin(start).await.is_none() {
            return;
        }
        let mut bookmark_at = (Instant::now() + BOOKMARK_PERIOD).min(end - BOOKMARK_BEFORE_END);
        loop {
            let (cut, silent) = {
                let control = control.borrow_and_update();
                (control.cuts(born, &self.query), control.silences(&self.query))
            };
            if cut {
                // An error in the body ends the connection in the middle of the chunked stream.
                let _ = self.out.send(Err(std::io::Error::other("watch cut by the test"))).await;
                return;
            }
            if !silent && self.send_changes().await.is_none() {
                return;
            }
            tokio::select! {
                changed = latest.changed(), if !silent => if changed.is_err() { return },
                changed = control.changed() => if changed.is_err() { return },
                () = sleep_until(bookmark_at), if bookmark_at < end => {
                    bookmark_at = if bookmark_at < end - BOOKMARK_BEFORE_END {
                        (bookmark_at + BOOKMARK_PERIOD).min(end - BOOKMARK_BEFORE_END)
                    } else {
                        end
                    };
                    if self.bookmarks && !silent && self.send_bookmark(false).await.is_none() {
                        return;
                    }
                }
                () = sleep_until(end) => return,
                () = self.out.closed() => return,
            }
        }
    }

    async fn begin(&mut self, start: Start) -> Option<()> {
        let end_bookmark = match start {
            Start::After(version) => {
                self.cursor = version;
                return Some(());
            }
            Start::State { end_bookmark } => end_bookmark,
        };
        let snapshot = self.api.store.snapshot(self.resource.plural, self.namespace.as_deref(), None).ok()?;
        self.cursor = snapshot.version;
        let mut chunk = Vec::new();
        for (_, object) in &snapshot.objects {
            if self.selector.matches(object) {
                self.write_event(&mut chunk, "ADDED", object);
            }
        }
        self.send(chunk).await?;
        if end_bookmark { self.send_bookmark(true).await } else { Some(()) }
    }

    /// Sends what is new; `None` ends the watch.
    async fn send_changes(&mut self) -> Option<()> {
        let changes = match self.api.store.changes_after(self.cursor) {
            Ok(changes) => changes,
            Err(gone) => {
                let line = json!({ "type": "ERROR", "object": gone.body() });
                self.send(format!("{line}\n").into_bytes()).await?;
                return None;
            }
        };
        let mut chunk = Vec::new();
        for change in changes {
            if change.version <= self.cursor {
                continue;
            }
            self.cursor = change.version;
            self.write_change(&mut chunk, &change);
        }
        self.send(chunk).await
    }

    fn write_change(&mut self, chunk: &mut Vec<u8>, change: &Change) {
        if change.resource != self.resource.plural
            || self.namespace.as_ref().is_some_and(|n| *n != change.key.namespace)
        {
            return;
        }
        let matching = |object: &Option<Arc<Value>>| object.clone().filter(|o| self.selector.matches(o));
        match (matching(&change.before), matching(&change.after)) {
            (None, None) => {}
            (None, Some(after)) => self.write_event(chunk, "ADDED", &after),
            (Some(_), Some(after)) => self.write_event(chunk, "MODIFIED", &after),
            // Gone, or no longer selected: the last state that was, with the version of the change.
            (Some(before), None) => {
                let mut last = Value::clone(&before);
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                self.write_event(chunk, "DELETED", &last);
            }
        }
    }

    fn write_event(&mut self, chunk: &mut Vec<u8>, kind: &str, object: &Value) {
        let shown = match self.shape {
            Shape::Whole => None,
            Shape::Partial => Some(table::partial(object)),
            Shape::Table => {
                let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                let table = table::table(self.resource, &[object], &meta, None, !self.columns_sent);
                self.columns_sent = true;
                Some(table)
            }
        };
        let event = Event { r#type: kind, object: shown.as_ref().unwrap_or(object) };
        // Writing a JSON value into memory does not fail.
        if serde_json::to_writer(&mut *chunk, &event).is_ok() {
            chunk.push(b'\n');
        }
    }

    async fn send_bookmark(&mut self, ends_initial: bool) -> Option<()> {
        let mut object = json!({ "kind": self.resource.kind, "apiVersion": "v1",
                                 "metadata": { "resourceVersion": self.cursor.to_string() } });
        if ends_initial {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        if self.resource.kind == "Pod" {
            object["spec"] = json!({ "containers": null });
            object["status"] = json!({});
        }
        let line = json!({ "type": "BOOKMARK", "object": object });
        self.send(format!("{line}\n").into_bytes()).await
    }

    async fn send(&self, chunk: Vec<u8>) -> Option<()> {
        if chunk.is_empty() {
            return Some(());
        }
        self.out.send(Ok(Bytes::from(chunk))).await.ok()
    }
}

#[derive(serde::Serialize)]
struct Event<'a> {
    r#type: &'a str,
    object: &'a Value,
}
