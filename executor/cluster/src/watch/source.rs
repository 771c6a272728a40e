//! The watch of one kind of object in one namespace (or in all): where it is, and the step from there.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use http::Method;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::{sleep, timeout};
use windlass_core::ids::PodRef;

use super::kind::Kind;
use super::lines::{Line, Lines, TooLong};
use crate::error::{ClusterError, causes};
use crate::observe::Verb;
use crate::page::{Page, Place};
use crate::selector::Selector;
use crate::transport::{Call, Cluster};

/// First and longest pause after failures in a row, doubled between.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);
/// Past the server's own end of a watch, before its silence is taken for a dead connection.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);
/// Streamed lists that end early in a row (a busy API server cuts slow watchers), before pages are used instead.
const TORN_LISTS_MAX: u32 = 2;

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Step<V> {
    /// A list begins: what is seen until `Listed` is part of it.
    Listing,
    Seen(Box<V>),
    Deleted(Box<V>),
    /// With the uids of all.
    Listed(Vec<String>),
    Failed {
        error: ClusterError,
        /// By the API server's decision (403, 404), not by an outage.
        refused: bool,
    },
}

enum State {
    /// Nothing is known: list.
    Begin,
    /// A list in pages; `token` of the next one.
    Paging { token: Option<String>, uids: Vec<String> },
    /// A watch is to be opened from here.
    Resume { version: String },
    /// Reading. `list` collects the uids until the list at the start of the stream is whole.
    Open { stream: Box<Reading>, version: String, list: Option<Vec<String>> },
}

struct Reading {
    body: Body,
    lines: Lines,
}

pub(super) struct NamespaceWatch<K: Kind> {
    cluster: Cluster,
    place: Place,
    selector: Selector,
    state: State,
    ready: VecDeque<Step<K::View>>,
    pause: Option<Duration>,
    /// The server streams lists, as far as we know.
    streams_lists: bool,
    torn_lists: u32,
    begun: bool,
}

impl<K: Kind> NamespaceWatch<K> {
    pub(super) fn new(cluster: Cluster, namespace: Option<&str>, selector: &Selector) -> Self {
        Self {
            cluster,
            place: Place::of(K::RESOURCE, namespace),
            selector: selector.clone(),
            state: State::Begin,
            ready: VecDeque::new(),
            pause: None,
            streams_lists: true,
            torn_lists: 0,
            begun: false,
        }
    }

    pub(super) fn steps(self) -> impl Stream<Item = Step<K::View>> + Send {
        stream::unfold(self, |mut watch| async move {
            let step = watch.next().await;
            Some((step, watch))
        })
        .boxed()
    }

    async fn next(&mut self) -> Step<K::View> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return step;
            }
            match std::mem::replace(&mut self.state, State::Begin) {
                State::Begin => self.begin().await,
                State::Paging { token, uids } => self.page(token, uids).await,
                State::Resume { version } => self.resume(version).await,
                State::Open { stream, version, list } => self.read(stream, version, list).await,
            }
        }
    }

    async fn begin(&mut self) {
        self.ready.push_back(Step::Listing);
        if std::mem::replace(&mut self.begun, true) {
            self.cluster.inner.observer.watch_restarted(true);
        }
        if !self.streams_lists || self.torn_lists >= TORN_LISTS_MAX {
            self.torn_lists = 0;
            self.state = State::Paging { token: None, uids: Vec::new() };
            return;
        }
        self.wait().await;
        // No resourceVersion: the list is as new as etcd, not as some API server's cache.
        match self.open("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan").await {
            Ok(stream) => {
                self.state = State::Open { stream, version: String::new(), list: Some(Vec::new()) };
            }
            // The server's feature gate WatchList is off (its default in some versions).
            Err(error) if matches!(error.status(), Some(400 | 422)) => {
                tracing::debug!(error = %error, "the API server does not stream lists, reading pages");
                self.streams_lists = false;
            }
            Err(error) => self.fail(error),
        }
    }

    async fn page(&mut self, token: Option<String>, mut uids: Vec<String>) {
        self.wait().await;
        let answer = match self.cluster.read_page(&self.place, &self.selector, token.as_deref()).await {
            Ok(answer) => answer,
            // The list's snapshot was compacted away: a new list begins, the uids of the old one are void.
            Err(error) if error.status() == Some(410) => return self.relist(error),
            Err(error) => {
                self.fail(error);
                self.state = State::Paging { token, uids };
                return;
            }
        };
        let page = match Page::decode(&answer.body) {
            Ok(page) => page,
            Err(error) => return self.fail(self.unreadable_list(error.to_string())),
        };
        self.pause = None;
        for item in page.items() {
            let object: K::Object = match serde_json::from_str(item.get()) {
                Ok(object) => object,
                Err(error) => {
                    self.skip(&nameless(), &error.to_string());
                    continue;
                }
            };
            let uid = K::meta(&object).uid.clone();
            if let Some(view) = self.view(object) {
                uids.push(uid);
                self.ready.push_back(Step::Seen(view));
            }
        }
        match page.next() {
            Some(token) => self.state = State::Paging { token: Some(token.to_owned()), uids },
            None if page.resource_version().is_empty() => {
                self.fail(self.unreadable_list("the list has no resourceVersion".into()));
            }
            None => {
                self.ready.push_back(Step::Listed(uids));
                self.state = State::Resume { version: page.resource_version().to_owned() };
            }
        }
    }

    fn unreadable_list(&self, why: String) -> ClusterError {
        self.cluster.unreadable(self.place.list_call(), why)
    }

    async fn resume(&mut self, version: String) {
        self.wait().await;
        match self.open(&format!("&resourceVersion={version}")).await {
            Ok(stream) => self.state = State::Open { stream, version, list: None },
            Err(error) if error.status() == Some(410) => self.relist(error),
            Err(error) => {
                self.fail(error);
                self.state = State::Resume { version };
            }
        }
    }

    async fn open(&mut self, query: &str) -> Result<Box<Reading>, ClusterError> {
        let seconds = self.cluster.inner.config.watch_timeout.as_secs();
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}{}{query}",
            self.place.path, self.selector
        );
        let call = Call::plain(Verb::Watch, Method::GET, path, self.place.watch_call());
        let response = self.cluster.open(call).await?;
        Ok(Box::new(Reading { body: response.into_body(), lines: Lines::default() }))
    }

    /// Takes one line, or one chunk of the stream.
    async fn read(&mut self, mut stream: Box<Reading>, version: String, list: Option<Vec<String>>) {
        if let Some(line) = stream.lines.next() {
            return self.line(&line, stream, version, list);
        }
        let silence = self.cluster.inner.config.watch_timeout + SILENCE_MARGIN;
        let came = timeout(silence, stream.body.frame()).await;
        let url = || self.cluster.url().to_owned();
        let error = match came {
            // The server's own end, by its time-out or because it cut us off as slow: nothing is lost.
            Ok(None) => return self.ended(version, list),
            Ok(Some(Ok(frame))) => match frame.data_ref().map(|data| stream.lines.push(data)) {
                Some(Err(TooLong)) => self
                    .cluster
                    .unreadable(self.place.watch_call(), "a line is longer than any object".into()),
                Some(Ok(())) | None => {
                    self.state = State::Open { stream, version, list };
                    return;
                }
            },
            Ok(Some(Err(error))) => {
                ClusterError::Cut { url: url(), call: self.place.watch_call(), cause: causes(&error) }
            }
            Err(_) => ClusterError::TimedOut {
                url: url(),
                call: self.place.watch_call(),
                after_ms: silence.as_millis(),
            },
        };
        self.torn_lists += u32::from(list.is_some());
        self.fail(error);
        self.go_on_from(version, list);
    }

    fn line(
        &mut self,
        line: &[u8],
        stream: Box<Reading>,
        mut version: String,
        mut list: Option<Vec<String>>,
    ) {
        match Line::<K::Object>::read(line) {
            Ok(Line::Seen(object)) => {
                let meta = K::meta(&object);
                version.clone_from(meta.resource_version);
                let uid = meta.uid.clone();
                if let Some(view) = self.view(*object) {
                    if let Some(uids) = &mut list {
                        uids.push(uid);
                    }
                    self.ready.push_back(Step::Seen(view));
                }
            }
            Ok(Line::Deleted(object)) => {
                version.clone_from(K::meta(&object).resource_version);
                if let Some(view) = self.view(*object) {
                    self.ready.push_back(Step::Deleted(view));
                }
            }
            Ok(Line::Bookmark { resource_version, initial_events_end }) => {
                version = resource_version;
                if initial_events_end && let Some(uids) = list.take() {
                    self.torn_lists = 0;
                    self.ready.push_back(Step::Listed(uids));
                }
            }
            Ok(Line::Unreadable { resource_version, why }) => {
                version = resource_version;
                self.skip(&nameless(), &why);
            }
            Ok(Line::Error { status, message }) => {
                let error = ClusterError::Answered {
                    url: self.cluster.url().to_owned(),
                    call: self.place.watch_call(),
                    status,
                    message,
                    retry_after_ms: None,
                };
                if status == 410 {
                    return self.relist(error);
                }
                self.fail(error);
                return self.go_on_from(version, list);
            }
            Err(error) => {
                let why = format!("a line is no watch event: {error}");
                self.fail(self.cluster.unreadable(self.place.watch_call(), why));
                return self.go_on_from(version, list);
            }
        }
        // Something came: the next failure is the first of its row.
        self.pause = None;
        self.state = State::Open { stream, version, list };
    }

    fn ended(&mut self, version: String, list: Option<Vec<String>>) {
        // A server that ends each watch at once would be asked in a tight loop without this.
        self.pause.get_or_insert(PAUSE_FIRST);
        self.torn_lists += u32::from(list.is_some());
        self.go_on_from(version, list);
    }

    /// A list that is not whole gives no place to go on from.
    fn go_on_from(&mut self, version: String, list: Option<Vec<String>>) {
        if list.is_none() && !version.is_empty() {
            self.cluster.inner.observer.watch_restarted(false);
            self.state = State::Resume { version };
        } else {
            self.state = State::Begin;
        }
    }

    fn relist(&mut self, error: ClusterError) {
        tracing::info!(error = %error, "the watch's history is gone, listing anew");
        self.pause.get_or_insert(PAUSE_FIRST);
        self.state = State::Begin;
    }

    fn fail(&mut self, error: ClusterError) {
        let longer = self.pause.map_or(PAUSE_FIRST, |p| (p * 2).min(PAUSE_LONGEST));
        let asked = match &error {
            ClusterError::Answered { retry_after_ms: Some(ms), .. } => Duration::from_millis(*ms),
            _ => Duration::ZERO,
        };
        self.pause = Some(longer.max(asked.min(3 * PAUSE_LONGEST)));
        let refused = matches!(error.status(), Some(403 | 404));
        self.ready.push_back(Step::Failed { error, refused });
        self.state = State::Begin;
    }

    /// Kept until something arrives, so that it grows over failures in a row.
    async fn wait(&mut self) {
        if let Some(pause) = self.pause {
            sleep(pause).await;
        }
    }

    fn view(&self, object: K::Object) -> Option<Box<K::View>> {
        let at = K::meta(&object).at();
        match K::view(object) {
            Ok(view) => Some(Box::new(view)),
            Err(why) => {
                self.skip(&at, &why);
                None
            }
        }
    }

    fn skip(&self, at: &PodRef, why: &str) {
        tracing::debug!(object = %at, why, "one of {} skipped", K::RESOURCE.plural);
        K::skipped(&*self.cluster.inner.observer, at);
    }
}

/// Of what cannot be read.
fn nameless() -> PodRef {
    PodRef { namespace: String::new(), name: String::new() }
}
