//! Templates kept in memory and read again when they change.
//!
//! A ConfigMap that is updated swaps a link, an editor writes a new file: modification time, inode and size tell.
//! A changed template that cannot be used is reported once and the last good one stays in use; what never was good
//! fails the tasks that need it, alone.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use windlass_core::pod::Template;

/// Templates kept. Tasks may name their own (`executor_config['pod_template_file']`): a DAG that makes up a new name
/// for each run must not fill the memory.
const TEMPLATES_MAX: usize = 64;

/// Told of a template that changed for the worse.
pub type OnFault = Box<dyn Fn(&Path, &str) + Send + Sync>;

/// By path.
pub(super) struct Templates {
    cache: Mutex<HashMap<PathBuf, Cached>>,
    on_fault: OnFault,
}

#[derive(Clone)]
struct Cached {
    stamp: Stamp,
    /// The last good one, or why there is none yet.
    template: Result<Arc<Template>, String>,
}

/// None: there is no such file.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Templates {
    pub(super) fn new(on_fault: OnFault) -> Self {
        Self { cache: Mutex::default(), on_fault }
    }

    /// The template in `path` as it is now.
    pub(super) fn get(&self, path: &Path) -> Result<Arc<Template>, String> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cache.get(path);
        let stamp = match stamp(path) {
            Ok(stamp) => stamp,
            Err(error) => return keep(before, path, &read_fault(path, &error), &self.on_fault),
        };
        if let Some(cached) = before.filter(|cached| cached.stamp == stamp) {
            return cached.template.clone();
        }
        let template = match load(path, stamp.is_some(), before.is_some_and(|b| b.stamp.is_some())) {
            Ok(template) => Ok(Arc::new(template)),
            Err(fault) => keep(before, path, &fault, &self.on_fault),
        };
        if cache.len() >= TEMPLATES_MAX {
            cache.clear();
        }
        cache.insert(path.to_owned(), Cached { stamp, template: template.clone() });
        template
    }
}

/// The last good template stays; without one the fault is the answer.
fn keep(
    before: Option<&Cached>,
    path: &Path,
    fault: &str,
    on_fault: &OnFault,
) -> Result<Arc<Template>, String> {
    on_fault(path, fault);
    match before {
        Some(Cached { template: Ok(template), .. }) => Ok(template.clone()),
        _ => Err(fault.to_owned()),
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(Some((file.mtime(), file.mtime_nsec(), file.ino(), file.size()))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that never was there is what Airflow makes of it: a template without fields. One that is gone is a fault.
fn load(path: &Path, there: bool, was_there: bool) -> Result<Template, String> {
    match (there, was_there) {
        (true, _) => {}
        (false, true) => return Err(format!("the pod template `{}` is gone; put it back", path.display())),
        (false, false) => return Ok(Template::absent()),
    }
    let text = std::fs::read_to_string(path).map_err(|error| read_fault(path, &error))?;
    Template::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_fault(path: &Path, error: &std::io::Error) -> String {
    format!(
        "the pod template `{}` cannot be read: {error}; mount it into the daemon's container",
        path.display()
    )
}
