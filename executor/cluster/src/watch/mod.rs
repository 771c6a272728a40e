//! All pods of this installation, as events that never end: list, then watch, from where it was after each end.
//!
//! - A list is a stream (`sendInitialEvents`) where the server can, else pages. Both are consistent reads, never
//!   `resourceVersion=0`. A list that is whole is told as `Listed`.
//! - The server ends a watch after `watch_timeout`; it goes on from the last resourceVersion, silently. A watch that
//!   brings nothing for a little longer than that is half open and is cut.
//! - 410 (history gone) starts again with a list. Whatever else fails is told as `Interrupted` and tried again with
//!   growing pauses.
//! - Memory: one page or one line at a time, besides the uids of a running list.
//!
//! `Deleted` may also mean that a label was taken off the pod: it is a hint, only a GET says that a pod is gone.

mod kind;
mod lines;
mod merge;
mod source;
mod surroundings;

pub use kind::AccountView;
pub use surroundings::{Changes, Told};

use futures::{Stream, StreamExt, stream};
use windlass_core::cluster::PodEvent;
use windlass_core::ids::InstallationId;
use windlass_core::pod_view::LABEL_INSTALLATION;

use crate::config::Namespaces;
use crate::selector::Selector;
use crate::transport::Cluster;
use kind::Pods;
use source::NamespaceWatch;

impl Cluster {
    /// Starts when polled, ends only when dropped. `Listed` comes when each namespace was listed once (a namespace
    /// that may not be listed or does not exist counts as empty: its pods are then asked for by GET), and after each
    /// new list, always with the uids of all namespaces.
    pub fn watch(
        &self,
        namespaces: &Namespaces,
        installation: &InstallationId,
    ) -> impl Stream<Item = PodEvent> + Send + use<> {
        let selector = Selector::labels(format!("{LABEL_INSTALLATION}={}", installation.short()));
        let watch =
            |namespace: Option<&str>| NamespaceWatch::<Pods>::new(self.clone(), namespace, &selector).steps();
        match namespaces {
            Namespaces::All => watch(None).filter_map(|step| async { merge::event(step) }).boxed(),
            Namespaces::Only(names) => {
                let names: std::collections::BTreeSet<_> = names.iter().collect();
                let count = names.len();
                let all = stream::select_all(
                    names
                        .into_iter()
                        .enumerate()
                        .map(|(number, name)| watch(Some(name)).map(move |step| (number, step)).boxed()),
                );
                let mut merge = merge::Merge::new(count);
                all.flat_map(move |(number, step)| stream::iter(merge.take(number, step))).boxed()
            }
        }
    }
}
