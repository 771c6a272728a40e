//! `metadata` of any object: what names it, and of its labels and annotations what decides.

use serde::Deserialize;
use serde::de::IgnoredAny;
use windlass_core::ids::PodRef;

use crate::lean::or_default;

/// `L` and `A` decode the labels and annotations that count.
#[derive(Debug, Default, Deserialize)]
#[serde(
    default,
    rename_all = "camelCase",
    bound(deserialize = "L: Default + Deserialize<'de>, A: Default + Deserialize<'de>")
)]
pub(crate) struct Meta<L, A> {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) deletion_timestamp: Option<IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) labels: L,
    #[serde(deserialize_with = "or_default")]
    pub(crate) annotations: A,
}

/// What names an object, whatever counts of the rest.
pub(crate) struct Names<'a> {
    pub(crate) name: &'a String,
    pub(crate) namespace: &'a String,
    pub(crate) uid: &'a String,
    pub(crate) resource_version: &'a String,
}

impl<L, A> Meta<L, A> {
    pub(crate) fn names(&self) -> Names<'_> {
        let Self { name, namespace, uid, resource_version, .. } = self;
        Names { name, namespace, uid, resource_version }
    }
}

impl Names<'_> {
    pub(crate) fn at(&self) -> PodRef {
        PodRef { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}
