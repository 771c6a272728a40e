//! The objects, their history and their resourceVersions: what etcd and the watch cache are to a real server.
//!
//! One counter numbers every write of every resource, so a list can be rolled back to any version that is still in
//! the history, and a watch is a cursor into it. Nothing is copied per watcher.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::status::ApiError;

/// Namespace (empty for cluster scope) and name. The order is that of etcd's keys, hence of lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One write. `after` is `None` for a removal; `before` is `None` for a creation.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) resource: &'static str,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

type Objects = BTreeMap<Key, Arc<Value>>;

#[derive(Debug)]
struct Inner {
    version: u64,
    objects: BTreeMap<&'static str, Objects>,
    history: VecDeque<Arc<Change>>,
    history_max: usize,
}

/// The store.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    latest: watch::Sender<u64>,
}

/// A consistent list.
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) objects: Vec<(Key, Arc<Value>)>,
}

impl Store {
    /// `history_max`: writes that watches can go back over; older ones answer 410.
    pub(crate) fn new(history_max: usize) -> Self {
        // A real server never starts at 0: there "0" means "any".
        let version = 1;
        let inner = Inner { version, objects: BTreeMap::new(), history: VecDeque::new(), history_max };
        Self { inner: Mutex::new(inner), latest: watch::Sender::new(version) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in another request leaves whole objects behind: each write is one insert.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes when a write was made.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    pub(crate) fn get(&self, resource: &'static str, key: &Key) -> Option<Arc<Value>> {
        self.lock().objects.get(resource)?.get(key).cloned()
    }

    /// Runs `write` alone: its reads and writes are one transaction. It must refuse before it writes.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut Tx<'_>) -> T) -> T {
        let mut inner = self.lock();
        let before = inner.version;
        let result = write(&mut Tx { inner: &mut inner });
        let after = inner.version;
        drop(inner);
        if after != before {
            self.latest.send_replace(after);
        }
        result
    }

    /// All objects of a resource (in `namespace`, if any) as they were at `version` (now, if none).
    pub(crate) fn snapshot(
        &self,
        resource: &'static str,
        namespace: Option<&str>,
        version: Option<u64>,
    ) -> Result<Snapshot, ApiError> {
        let inner = self.lock();
        let version = version.unwrap_or(inner.version);
        if version < inner.oldest_readable() {
            return Err(ApiError::gone(version, inner.oldest_readable()));
        }
        let wanted = |key: &Key| namespace.is_none_or(|n| key.namespace == n);
        let mut objects: Objects = inner
            .objects
            .get(resource)
            .into_iter()
            .flatten()
            .filter(|(key, _)| wanted(key))
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        for change in inner.history.iter().rev().take_while(|c| c.version > version) {
            if change.resource != resource || !wanted(&change.key) {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        Ok(Snapshot { version, objects: objects.into_iter().collect() })
    }

    /// The writes after `version`, oldest first; an error if some of them are compacted.
    pub(crate) fn changes_after(&self, version: u64) -> Result<Vec<Arc<Change>>, ApiError> {
        let inner = self.lock();
        let oldest = inner.oldest_readable();
        if version < oldest {
            return Err(ApiError::gone(version, oldest));
        }
        let skip = usize::try_from(version - oldest).unwrap_or(usize::MAX);
        Ok(inner.history.iter().skip(skip).cloned().collect())
    }

    /// Forgets the history, as etcd's compaction does.
    pub(crate) fn compact(&self) {
        self.lock().history.clear();
    }
}

impl Inner {
    /// The oldest version of which everything after it is known.
    fn oldest_readable(&self) -> u64 {
        self.history.front().map_or(self.version, |first| first.version - 1)
    }

    fn record(&mut self, change: Change) {
        self.history.push_back(Arc::new(change));
        while self.history.len() > self.history_max {
            self.history.pop_front();
        }
    }
}

/// A transaction: see [`Store::write`].
pub(crate) struct Tx<'a> {
    inner: &'a mut Inner,
}

impl Tx<'_> {
    pub(crate) fn get(&self, resource: &'static str, key: &Key) -> Option<Arc<Value>> {
        self.inner.objects.get(resource)?.get(key).cloned()
    }

    pub(crate) fn all(&self, resource: &'static str, namespace: &str) -> Vec<Arc<Value>> {
        let objects = self.inner.objects.get(resource).into_iter().flatten();
        objects.filter(|(key, _)| key.namespace == namespace).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Creates or replaces an object; gives it the next resourceVersion.
    pub(crate) fn put(&mut self, resource: &'static str, key: &Key, mut object: Value) -> Arc<Value> {
        self.inner.version += 1;
        let version = self.inner.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        let before = self.inner.objects.entry(resource).or_default().insert(key.clone(), Arc::clone(&object));
        let after = Some(Arc::clone(&object));
        self.inner.record(Change { version, resource, key: key.clone(), before, after });
        object
    }

    /// Removes an object. Returns its last state, with the resourceVersion of the removal.
    pub(crate) fn remove(&mut self, resource: &'static str, key: &Key) -> Option<Value> {
        let before = self.inner.objects.get_mut(resource)?.remove(key)?;
        self.inner.version += 1;
        let version = self.inner.version;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(version.to_string());
        self.inner.record(Change { version, resource, key: key.clone(), before: Some(before), after: None });
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Value {
        json!({ "metadata": { "name": name } })
    }

    #[test]
    fn a_snapshot_is_rolled_back_to_its_version() {
        let store = Store::new(10);
        let [a, b] = ["a", "b"].map(|n| Key::new("x", n));
        store.write(|tx| tx.put("pods", &a, pod("a")));
        let then = store.version();
        store.write(|tx| {
            tx.put("pods", &b, pod("b"));
            tx.remove("pods", &a)
        });
        let names = |version| -> Vec<String> {
            let snapshot = store.snapshot("pods", Some("x"), version).expect("is in the history");
            snapshot.objects.into_iter().map(|(key, _)| key.name).collect()
        };
        assert_eq!(names(Some(then)), ["a"]);
        assert_eq!(names(None), ["b"]);
    }

    #[test]
    fn compacted_versions_are_gone_and_the_present_is_not() {
        let store = Store::new(2);
        let key = Key::new("x", "a");
        for _ in 0..4 {
            store.write(|tx| tx.put("pods", &key, pod("a")));
        }
        let now = store.version();
        assert_eq!(store.changes_after(now - 2).expect("two are kept").len(), 2);
        assert!(store.changes_after(now - 3).is_err());
        store.compact();
        assert!(store.changes_after(now - 1).is_err());
        assert!(store.changes_after(now).expect("nothing to tell").is_empty());
    }
}
