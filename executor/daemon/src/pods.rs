//! From a task to its pod: template, identity rule, executor_config, hook; and what of it is not allowed.

mod templates;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use windlass_core::identity::guard::{Measure, lost, sentence, violations};
use windlass_core::identity::rules::{Rule, Rules};
use windlass_core::identity::{Freedom, Freedoms, Identity};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::outcome::Reason;
use windlass_core::pod::{self, PodSettings, Template, worker_command};
use windlass_core::task::{DagFacts, ExecutorConfig, TaskSpec};
use windlass_core::time::UtcMicros;

use crate::config::Config;
use crate::hook::{Hook, Unmade};
use crate::metrics::Metrics;

pub use templates::OnFault;
use templates::Templates;

/// What `pod_mutation_hook`, which is the platform's own code, may do beside what executor_config may.
const FREE_TO_HOOK: [Freedom; 4] =
    [Freedom::Host, Freedom::Privileged, Freedom::ImagePullSecrets, Freedom::NodeSelector];

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
        }
    }

    /// The namespace that the task's pod will be created in.
    pub fn place(&self, spec: &TaskSpec) -> String {
        let rule = self.rules.as_ref().and_then(|rules| rules.find(&spec.identity_facts()));
        let none = Identity::default();
        let identity = rule.map_or(&none, |rule| &rule.gives);
        match &spec.executor_config {
            Ok(config) => pod::namespace_of(&self.settings, identity, config),
            // Its launch fails at rendering; until then it needs a place.
            Err(_) => pod::namespace_of(&self.settings, identity, &ExecutorConfig::default()),
        }
    }

    /// The pod of one attempt, ready to be created.
    pub async fn make(&self, spec: &TaskSpec, launch: &LaunchId, attempt: Attempt) -> Result<Value, Unmade> {
        let draft = self.draft(spec, launch, attempt)?;
        self.guard(spec, &draft)?;
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
        let rule = self.rule(spec)?;
        let measure = rule.map(|_| Measure::of(&draft));
        let pod = self.hook.apply(draft).await?;
        if let (Some(rule), Some(measure)) = (rule, measure) {
            let free: Freedoms = rule.may_override.iter().copied().chain(FREE_TO_HOOK).collect();
            judge(rule, "pod_mutation_hook", &measure, &pod, &free)?;
        }
        let none = Identity::default();
        let identity = rule.map_or(&none, |rule| &rule.gives);
        Ok(pod::sign_again(pod, &self.settings, identity, spec, launch, attempt).map_err(of_render)?)
    }

    /// The pod as template, identity, task and pod_override make it, also one that would not be created: see
    /// [`Renderer::guard`] and [`Renderer::check`].
    pub fn draft(&self, spec: &TaskSpec, launch: &LaunchId, attempt: Attempt) -> Result<Value, Denial> {
        let none = Identity::default();
        let identity = self.rule(spec)?.map_or(&none, |rule| &rule.gives);
        let template = self.template_at(self.template_of(spec))?;
        pod::render(&self.settings, &template, identity, spec, launch, attempt).map_err(of_render)
    }

    /// I7: what executor_config has made of the pod, and the task's rule does not allow. Without rules nothing is.
    pub fn guard(&self, spec: &TaskSpec, draft: &Value) -> Result<(), Denial> {
        let Some(rule) = self.rule(spec)? else { return Ok(()) };
        let changes_nothing = |config: &ExecutorConfig| {
            config.pod_override.is_none() && config.pod_template_file.as_deref().is_none_or(str::is_empty)
        };
        if spec.executor_config.as_ref().is_ok_and(changes_nothing) {
            return Ok(());
        }
        judge(rule, "executor_config", &*self.measure(rule, spec)?, draft, &rule.may_override)
    }

    /// The rule that the task's identity comes from; None: there are no rules.
    pub fn rule(&self, spec: &TaskSpec) -> Result<Option<&Rule>, Denial> {
        let Some(rules) = &self.rules else { return Ok(None) };
        match rules.find(&spec.identity_facts()) {
            Some(rule) => Ok(Some(rule)),
            None => {
                let what = format!(
                    "no identity rule matches this task, and [identity.default] denies the rest; `windlass identity \
                     explain {} {}` shows why",
                    spec.queueing.key.dag_id, spec.queueing.key.task_id
                );
                Err((Reason::IdentityDenied, what))
            }
        }
    }

    /// What a task of this rule has without executor_config.
    fn measure(&self, rule: &Rule, spec: &TaskSpec) -> Result<Arc<Measure>, Denial> {
        let template = self.template_at(self.template.as_deref())?;
        let lock = || self.measures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, measure)) = lock().get(&rule.name)
            && Arc::ptr_eq(of, &template)
        {
            return Ok(measure.clone());
        }
        let measure = Arc::new(Measure::of(&self.plain(rule, &template, spec)?));
        lock().insert(rule.name.clone(), (template, measure.clone()));
        Ok(measure)
    }

    fn plain(&self, rule: &Rule, template: &Template, spec: &TaskSpec) -> Result<Value, Denial> {
        let plain = TaskSpec { executor_config: Ok(ExecutorConfig::default()), ..spec.clone() };
        let launch = LaunchId::of(&self.settings.installation, &spec.queueing);
        let pod = pod::render(&self.settings, template, &rule.gives, &plain, &launch, Attempt::FIRST);
        pod.map_err(of_render)
    }

    /// What the guard measures the tasks of a rule by: the pod of an imaginary one without executor_config.
    pub fn measured(&self, rule: &Rule) -> Result<Value, Denial> {
        let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: -1 };
        self.plain(rule, &*self.template_at(self.template.as_deref())?, &imaginary(key))
    }

    /// What keeps a pod from being created: nobody would watch it, or the API server would refuse it.
    pub fn check(&self, spec: &TaskSpec, pod: &Value) -> Result<(), Denial> {
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

fn judge(rule: &Rule, by: &str, measure: &Measure, pod: &Value, free: &Freedoms) -> Result<(), Denial> {
    let mut found = violations(measure, pod, free);
    found.extend(lost(rule, pod));
    if found.is_empty() { Ok(()) } else { Err((Reason::IdentityDenied, sentence(rule, by, &found))) }
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
