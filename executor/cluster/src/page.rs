//! Where objects are listed, and one page of such a list.

use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ClusterError;
use crate::observe::Verb;
use crate::selector::{Selector, escaped};
use crate::transport::{Answer, Call, Cluster};

/// A page of 500 pods is some 3 MB; with the largest pods etcd takes it may be this.
const PAGE_MAX: usize = 256 << 20;

/// A kind of object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource {
    /// Path of its group and version.
    pub(crate) api: &'static str,
    /// In paths and for people.
    pub(crate) plural: &'static str,
}

pub(crate) const PODS: Resource = Resource { api: "/api/v1", plural: "pods" };

/// Objects of one kind in one namespace, or in all of them.
pub(crate) struct Place {
    /// Of the collection.
    pub(crate) path: String,
    /// For messages: `namespace etl`, `all namespaces`.
    pub(crate) name: String,
    plural: &'static str,
}

/// What decides of a page; the pods as they came.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    r#continue: Option<String>,
}

impl Place {
    /// `None`: all namespaces.
    pub(crate) fn of(Resource { api, plural }: Resource, namespace: Option<&str>) -> Self {
        let (path, name) = match namespace {
            None => (format!("{api}/{plural}"), "all namespaces".into()),
            Some(n) => (format!("{api}/namespaces/{n}/{plural}"), format!("namespace {n}")),
        };
        Self { path, name, plural }
    }

    /// What a list of it is called in errors.
    pub(crate) fn list_call(&self) -> String {
        format!("list {} of {}", self.plural, self.name)
    }

    /// What a watch of it is called in errors.
    pub(crate) fn watch_call(&self) -> String {
        format!("watch {} of {}", self.plural, self.name)
    }
}

impl<'a> Page<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &'a RawValue> {
        self.items.iter().flatten().copied()
    }

    /// Token of the next page; `None`: this is the last one.
    pub(crate) fn next(&self) -> Option<&str> {
        self.metadata.r#continue.as_deref().filter(|token| !token.is_empty())
    }

    /// Of the list. Empty: the server did not say.
    pub(crate) fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Path and query of one page.
pub(crate) fn page_path(of: &str, size: u32, selector: &Selector, token: Option<&str>) -> String {
    let next = token.map(|token| format!("&continue={}", escaped(token))).unwrap_or_default();
    format!("{of}?limit={size}{selector}{next}")
}

impl Cluster {
    /// Reads the first page of a list, or the one of `token`. Without a resourceVersion: as new as etcd.
    pub(crate) async fn read_page(
        &self,
        place: &Place,
        selector: &Selector,
        token: Option<&str>,
    ) -> Result<Answer, ClusterError> {
        let path = page_path(&place.path, self.inner.config.page_size, selector, token);
        let call =
            Call { answer_max: PAGE_MAX, ..Call::plain(Verb::List, Method::GET, path, place.list_call()) };
        self.read(call, self.inner.config.request_timeout).await
    }
}
