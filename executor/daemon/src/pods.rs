//! From a task to its pod, with the templates kept in memory and read again when they change.
//!
//! A ConfigMap that is updated swaps a link, an editor writes a new file: modification time, inode and size tell.
//! A changed template that cannot be used is reported once and the last good one stays in use; what never was good
//! fails the tasks that need it, alone.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::outcome::Reason;
use windlass_core::pod::{self, PodSettings, Template, worker_command};
use windlass_core::task::{ExecutorConfig, TaskSpec};
use windlass_core::time::UtcMicros;

use crate::config::Config;
use crate::hook::{Hook, Unmade};
use crate::metrics::Metrics;

/// Templates kept. Tasks may name their own (`executor_config['pod_template_file']`): a DAG that makes up a new name
/// for each run must not fill the memory.
const TEMPLATES_MAX: usize = 64;

/// Told of a template that changed for the worse.
pub type OnFault = Box<dyn Fn(&Path, &str) + Send + Sync>;

/// Renders pods.
pub struct Renderer {
    settings: PodSettings,
    template: Option<PathBuf>,
    cache: Mutex<HashMap<PathBuf, Cached>>,
    hook: Hook,
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

/// A task instance that is nowhere queued, as plain as can be: first try, everything else as Airflow has it unset.
pub fn imaginary(key: TaskKey) -> TaskSpec {
    TaskSpec {
        command: worker_command(&key, None),
        queueing: Queueing { key, try_number: 1, queued_at: UtcMicros(0) },
        queue: "default".into(),
        pool: "default_pool".into(),
        priority_weight: 1,
        scheduler_job_id: 1,
        airflow_version: "2.11.2".into(),
        has_pod_mutation_hook: false,
        command_is_own: false,
        executor_config: Ok(ExecutorConfig::default()),
    }
}

impl Renderer {
    /// For the daemon: a template that cannot be used any more is logged and counted.
    pub fn new(settings: PodSettings, config: &Config, metrics: Arc<Metrics>) -> Self {
        let on_fault = move |path: &Path, fault: &str| {
            metrics.template_faults.inc();
            tracing::warn!(
                "{fault}; the last good form of `{}` stays in use, if there was one",
                path.display()
            );
        };
        let hook = Hook::of(config);
        Self { hook, ..Self::with(settings, config.kubernetes.pod_template_file.clone(), Box::new(on_fault)) }
    }

    /// For a command that renders once: a template that cannot be used is the answer's to tell.
    pub fn for_once(config: &Config, installation: InstallationId) -> Self {
        let template = config.kubernetes.pod_template_file.clone();
        let hook = Hook::of(config);
        Self { hook, ..Self::with(config.pod_settings(installation), template, Box::new(|_, _| {})) }
    }

    /// `template`: `[kubernetes_executor] pod_template_file`. No hook is called.
    pub fn with(settings: PodSettings, template: Option<PathBuf>, on_fault: OnFault) -> Self {
        Self { settings, template, cache: Mutex::default(), hook: Hook::none(), on_fault }
    }

    /// The namespace that the task's pod will be created in.
    pub fn place(&self, spec: &TaskSpec) -> String {
        match &spec.executor_config {
            Ok(config) => pod::namespace_of(&self.settings, config),
            // Its launch fails at rendering; until then it needs a place.
            Err(_) => pod::namespace_of(&self.settings, &ExecutorConfig::default()),
        }
    }

    /// The pod of one attempt, ready to be created.
    pub async fn make(&self, spec: &TaskSpec, launch: &LaunchId, attempt: Attempt) -> Result<Value, Unmade> {
        let draft = self.draft(spec, launch, attempt)?;
        let pod = self.mutate(draft, spec, launch, attempt).await?;
        self.check(spec, &pod)?;
        Ok(pod)
    }

    /// What `pod_mutation_hook` makes of a draft, where the task's scheduler has one.
    pub async fn mutate(
        &self,
        draft: Value,
        spec: &TaskSpec,
        launch: &LaunchId,
        attempt: Attempt,
    ) -> Result<Value, Unmade> {
        if !spec.has_pod_mutation_hook {
            return Ok(draft);
        }
        let pod = self.hook.apply(draft).await?;
        Ok(pod::sign_again(pod, &self.settings, spec, launch, attempt).map_err(of_render)?)
    }

    /// The pod as template, task and pod_override make it, also one that would not be created: see
    /// [`Renderer::check`].
    pub fn draft(
        &self,
        spec: &TaskSpec,
        launch: &LaunchId,
        attempt: Attempt,
    ) -> Result<Value, (Reason, String)> {
        let template = match self.template_of(spec) {
            Some(path) => self.template(path).map_err(|why| (Reason::TemplateInvalid, why))?,
            None => Arc::new(Template::absent()),
        };
        pod::render(&self.settings, &template, spec, launch, attempt).map_err(of_render)
    }

    /// What keeps a pod from being created: nobody would watch it, or the API server would refuse it.
    pub fn check(&self, spec: &TaskSpec, pod: &Value) -> Result<(), (Reason, String)> {
        let namespace = self.place(spec);
        if !self.settings.watches(&namespace) {
            let message = format!(
                "pod_override asks for namespace `{namespace}`, which Windlass does not watch; set \
                 [kubernetes_executor] multi_namespace_mode and add it to multi_namespace_mode_namespace_list"
            );
            return Err((Reason::ExecutorConfigInvalid, message));
        }
        pod::check(pod).map_err(|error| {
            let (reason, message) = of_render(error);
            (reason, message + &self.said_of_template(spec))
        })
    }

    /// Where the template of the task's pod should be.
    fn template_of<'a>(&'a self, spec: &'a TaskSpec) -> Option<&'a Path> {
        let config = spec.executor_config.as_ref().ok();
        let own = config.and_then(|config| config.pod_template_file.as_deref());
        own.filter(|path| !path.is_empty()).map(Path::new).or(self.template.as_deref())
    }

    /// For a pod that lacks something: the file that it should stand in.
    fn said_of_template(&self, spec: &TaskSpec) -> String {
        match self.template_of(spec) {
            Some(path) if path.exists() => format!("; the pod template is `{}`", path.display()),
            Some(path) => format!("; the pod template `{}` does not exist", path.display()),
            None => String::new(),
        }
    }

    /// The template in `path` as it is now.
    fn template(&self, path: &Path) -> Result<Arc<Template>, String> {
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

fn of_render(error: pod::RenderError) -> (Reason, String) {
    (error.reason(), error.to_string())
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU32, Ordering};

    use windlass_core::pod::WatchedNamespaces;

    use super::*;

    fn settings() -> PodSettings {
        PodSettings {
            namespace: "airflow".into(),
            kube_image: None,
            watched: WatchedNamespaces::Own,
            installation: InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into()),
            hide_from_neighbours: false,
        }
    }

    fn spec(config: ExecutorConfig) -> TaskSpec {
        let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: -1 };
        TaskSpec { executor_config: Ok(config), ..imaginary(key) }
    }

    fn image(renderer: &Renderer, config: ExecutorConfig) -> Result<String, (Reason, String)> {
        let spec = spec(config);
        let launch = LaunchId::of(&settings().installation, &spec.queueing);
        let pod = renderer.draft(&spec, &launch, Attempt::FIRST)?;
        renderer.check(&spec, &pod)?;
        Ok(pod["spec"]["containers"][0]["image"].as_str().unwrap_or("-").to_owned())
    }

    fn template(image: &str) -> String {
        format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - name: base\n      image: {image}\n")
    }

    #[test]
    fn a_changed_template_is_used_and_a_broken_one_is_told_and_not_used() {
        static FAULTS: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template.yaml");
        fs::write(&path, template("one:1")).unwrap();
        let count: OnFault = Box::new(|_, _| {
            FAULTS.fetch_add(1, Ordering::Relaxed);
        });
        let renderer = Renderer::with(settings(), Some(path.clone()), count);
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("one:1".into()));
        fs::write(&path, template("three:3")).unwrap();
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("three:3".into()));
        fs::write(&path, "spec: [\n").unwrap();
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("three:3".into()));
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("three:3".into()));
        assert_eq!(FAULTS.load(Ordering::Relaxed), 1, "told once");
        fs::remove_file(&path).unwrap();
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("three:3".into()));
    }

    #[test]
    fn a_config_map_that_is_swapped_by_its_link_is_taken_up() {
        // As the kubelet does it: `template.yaml -> ..data/template.yaml`, `..data -> ..1`, and a rename over `..data`.
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, image) in [("..1", "one:1"), ("..2", "two:2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("template.yaml"), template(image)).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/template.yaml", at("template.yaml")).unwrap();
        let renderer = Renderer::with(settings(), Some(at("template.yaml")), Box::new(|_, _| {}));
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("one:1".into()));
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("two:2".into()));
    }

    #[test]
    fn a_template_that_never_was_good_fails_only_its_own_task() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good.yaml"), folder.path().join("bad.yaml"));
        fs::write(&good, template("one:1")).unwrap();
        fs::write(&bad, "- a\n- b\n").unwrap();
        let renderer = Renderer::with(settings(), Some(good), Box::new(|_, _| {}));
        let own = |path: &Path| ExecutorConfig {
            pod_template_file: Some(path.display().to_string()),
            ..ExecutorConfig::default()
        };
        let (reason, message) = image(&renderer, own(&bad)).unwrap_err();
        assert_eq!(reason, Reason::TemplateInvalid);
        assert!(message.contains("bad.yaml: the pod template holds a list"), "{message}");
        let (reason, message) = image(&renderer, own(&folder.path().join("missing.yaml"))).unwrap_err();
        assert_eq!(reason, Reason::TemplateInvalid);
        assert!(message.starts_with("container `base` of the pod has no image; set it"), "{message}");
        assert!(message.ends_with("missing.yaml` does not exist"), "{message}");
        assert_eq!(image(&renderer, ExecutorConfig::default()), Ok("one:1".into()));
    }

    #[test]
    fn a_namespace_that_is_not_watched_is_refused() {
        let renderer = Renderer::with(settings(), None, Box::new(|_, _| {}));
        let pod = serde_json::json!({"metadata": {"namespace": "else"}, "spec": {"containers": [{"name": "base", "image": "i:1"}]}});
        let config = ExecutorConfig { pod_override: Some(pod), pod_template_file: None };
        let (reason, message) = image(&renderer, config).unwrap_err();
        assert_eq!(reason, Reason::ExecutorConfigInvalid);
        let expected = "pod_override asks for namespace `else`, which Windlass does not watch";
        assert!(message.starts_with(expected), "{message}");
    }
}
