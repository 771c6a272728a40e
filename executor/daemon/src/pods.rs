//! From a task to its pod: template, identity rule, executor_config, hook; and what of it is not allowed.

mod of_task;
mod templates;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::Value;
use windlass_core::identity::guard::Measure;
use windlass_core::identity::rules::{Rule, Rules};
use windlass_core::identity::surroundings::Surroundings;
use windlass_core::identity::{Identity, NOBODY};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::outcome::Reason;
use windlass_core::pod::{self, PodSettings, Template, worker_command};
use windlass_core::task::{BranchPool, DagFacts, ExecutorConfig, TaskSpec};
use windlass_core::time::UtcMicros;

use crate::config::Config;
use crate::hook::{Hook, Unmade};
use crate::metrics::Metrics;

pub use of_task::OfTask;
pub use templates::OnFault;
use templates::Templates;

/// Renders pods.
pub struct Renderer {
    settings: PodSettings,
    template: Option<PathBuf>,
    /// Stands for a template where none is configured.
    absent: Arc<Template>,
    templates: Templates,
    rules: Option<Arc<Rules>>,
    /// What the configured template gives under a rule, by the rule's name: the same until the template changes.
    measures: Mutex<HashMap<String, Measured>>,
    hook: Hook,
    /// What is known of the cluster; None: nobody looks at it.
    surroundings: Option<Arc<RwLock<Surroundings>>>,
}

/// With the template that it was measured by.
type Measured = (Arc<Template>, Arc<Measure>);
/// Why there is no pod.
type Denial = (Reason, String);

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
        operator: String::new(),
        dag: DagFacts::default(),
        command_is_own: false,
        branches: None,
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
        Self::of(config, settings, Box::new(on_fault))
    }

    /// Pods are compared with what is known of the cluster before they are made.
    #[must_use]
    pub fn in_surroundings(self, surroundings: Arc<RwLock<Surroundings>>) -> Self {
        Self { surroundings: Some(surroundings), ..self }
    }

    /// For a command that renders once: a template that cannot be used is the answer's to tell.
    pub fn for_once(config: &Config, installation: InstallationId) -> Self {
        Self::of(config, config.pod_settings(installation), Box::new(|_, _| {}))
    }

    fn of(config: &Config, settings: PodSettings, on_fault: OnFault) -> Self {
        Self {
            hook: Hook::of(config),
            rules: config.rules.clone(),
            ..Self::with(settings, config.kubernetes.pod_template_file.clone(), on_fault)
        }
    }

    /// `template`: `[kubernetes_executor] pod_template_file`. No hook is called, and there are no rules.
    pub fn with(settings: PodSettings, template: Option<PathBuf>, on_fault: OnFault) -> Self {
        Self {
            settings,
            template,
            absent: Arc::new(Template::absent()),
            templates: Templates::new(on_fault),
            rules: None,
            measures: Mutex::default(),
            hook: Hook::none(),
            surroundings: None,
        }
    }

    /// The namespace that the task's pod will be created in, and the nodes whose branch interfaces it competes for.
    pub fn place(&self, spec: &TaskSpec) -> (String, Option<BranchPool>) {
        let rule = self.rules.as_ref().and_then(|rules| rules.find(&spec.identity_facts()));
        let identity = identity_of(rule);
        (self.namespace(spec, identity), identity.branch_pool())
    }

    fn namespace(&self, spec: &TaskSpec, identity: &Identity) -> String {
        match &spec.executor_config {
            Ok(config) => pod::namespace_of(&self.settings, identity, config),
            // Its launch fails at rendering; until then it needs a place.
            Err(_) => pod::namespace_of(&self.settings, identity, &ExecutorConfig::default()),
        }
    }

    /// The pod of one attempt, ready to be created.
    pub async fn make(&self, spec: &TaskSpec, launch: &LaunchId, attempt: Attempt) -> Result<Value, Unmade> {
        let of = self.of_task(spec)?;
        let draft = of.draft(launch, attempt)?;
        of.guard(&draft)?;
        let pod = of.mutate(draft, launch, attempt).await?;
        of.check(&pod)?;
        of.compare(&pod)?;
        Ok(pod)
    }

    /// Its rule is looked up once, for all that is made of it.
    pub fn of_task<'a>(&'a self, spec: &'a TaskSpec) -> Result<OfTask<'a>, Denial> {
        let rule = match &self.rules {
            None => None,
            Some(rules) => Some(rules.find(&spec.identity_facts()).ok_or_else(|| {
                let what = format!(
                    "no identity rule matches this task, and [identity.default] denies the rest; `windlass identity \
                     explain {} {}` shows why",
                    spec.queueing.key.dag_id, spec.queueing.key.task_id
                );
                (Reason::IdentityDenied, what)
            })?),
        };
        Ok(OfTask { renderer: self, spec, rule })
    }

    /// What a task of this rule has without executor_config, by the configured template.
    fn measure(
        &self,
        rule: &Rule,
        spec: &TaskSpec,
        template: &Arc<Template>,
    ) -> Result<Arc<Measure>, Denial> {
        let lock = || self.measures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, measure)) = lock().get(&rule.name)
            && Arc::ptr_eq(of, template)
        {
            return Ok(measure.clone());
        }
        let measure = Arc::new(Measure::of(&self.plain(rule, spec, template)?));
        lock().insert(rule.name.clone(), (template.clone(), measure.clone()));
        Ok(measure)
    }

    /// The task's pod as the configured template gives it without executor_config.
    fn plain(&self, rule: &Rule, spec: &TaskSpec, template: &Template) -> Result<Value, Denial> {
        let plain = TaskSpec { executor_config: Ok(ExecutorConfig::default()), ..spec.clone() };
        self.under(&rule.gives, template, &plain)
    }

    /// The pod of a plain task under a rule, as it would be sent; None: without rules. No hook has seen it.
    pub fn typical(&self, rule: Option<&Rule>) -> Result<Value, Denial> {
        let key = ["windlass-doctor", "try", "doctor"].map(str::to_owned);
        let [dag_id, task_id, run_id] = key;
        let spec = imaginary(TaskKey { dag_id, task_id, run_id, map_index: -1 });
        let template = self.configured_template()?;
        let pod = self.under(identity_of(rule), &template, &spec)?;
        pod::check(&pod).map_err(of_render)?;
        Ok(pod)
    }

    fn under(&self, identity: &Identity, template: &Template, spec: &TaskSpec) -> Result<Value, Denial> {
        let launch = LaunchId::of(&self.settings.installation, &spec.queueing);
        pod::render(&self.settings, template, identity, spec, &launch, Attempt::FIRST).map_err(of_render)
    }

    fn configured_template(&self) -> Result<Arc<Template>, Denial> {
        self.template_at(self.template.as_deref())
    }

    fn template_at(&self, path: Option<&Path>) -> Result<Arc<Template>, Denial> {
        match path {
            Some(path) => self.templates.get(path).map_err(|why| (Reason::TemplateInvalid, why)),
            None => Ok(self.absent.clone()),
        }
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
}

fn identity_of(rule: Option<&Rule>) -> &Identity {
    rule.map_or(&NOBODY, |rule| &rule.gives)
}

fn of_render(error: pod::RenderError) -> (Reason, String) {
    (error.reason(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU32, Ordering};

    use windlass_core::pod::WatchedNamespaces;

    use super::*;

    pub(super) fn settings() -> PodSettings {
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
        let of = renderer.of_task(&spec)?;
        let pod = of.draft(&launch, Attempt::FIRST)?;
        of.check(&pod)?;
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
