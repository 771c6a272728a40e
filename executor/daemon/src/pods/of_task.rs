//! One task's pod, step by step: draft, guard, hook, check, and what the cluster would make of it.

use std::sync::PoisonError;

use serde_json::Value;
use windlass_core::identity::guard::{Measure, lost, sentence, violations};
use windlass_core::identity::rules::Rule;
use windlass_core::identity::{Freedom, Freedoms, Identity};
use windlass_core::ids::{Attempt, LaunchId};
use windlass_core::outcome::Reason;
use windlass_core::pod;
use windlass_core::task::{ExecutorConfig, TaskSpec};

use super::{Denial, Renderer, identity_of, of_render};
use crate::hook::Unmade;

/// What `pod_mutation_hook`, which is the platform's own code, may do beside what executor_config may.
const FREE_TO_HOOK: [Freedom; 4] =
    [Freedom::Host, Freedom::Privileged, Freedom::ImagePullSecrets, Freedom::NodeSelector];

/// One task's pod in the making.
pub struct OfTask<'a> {
    pub(super) renderer: &'a Renderer,
    pub(super) spec: &'a TaskSpec,
    /// That its identity comes from; None: there are no rules.
    pub(super) rule: Option<&'a Rule>,
}

impl OfTask<'_> {
    fn identity(&self) -> &Identity {
        identity_of(self.rule)
    }

    /// The pod as template, identity, task and pod_override make it, also one that would not be created: see
    /// [`OfTask::guard`] and [`OfTask::check`].
    pub fn draft(&self, launch: &LaunchId, attempt: Attempt) -> Result<Value, Denial> {
        let Self { renderer, spec, .. } = self;
        let template = renderer.template_at(renderer.template_of(spec))?;
        pod::render(&renderer.settings, &template, self.identity(), spec, launch, attempt).map_err(of_render)
    }

    /// I7: what executor_config has made of the pod, and the task's rule does not allow. Without rules nothing is.
    pub fn guard(&self, draft: &Value) -> Result<(), Denial> {
        let Some(rule) = self.rule else { return Ok(()) };
        let changes_nothing = |config: &ExecutorConfig| {
            config.pod_override.is_none() && config.pod_template_file.as_deref().is_none_or(str::is_empty)
        };
        if self.spec.executor_config.as_ref().is_ok_and(changes_nothing) {
            return Ok(());
        }
        let measure = self.renderer.measure(rule, self.spec)?;
        judge(rule, "executor_config", &measure, draft, &rule.may_override)
    }

    /// What `pod_mutation_hook` makes of a draft, where the task's scheduler has one.
    pub async fn mutate(&self, draft: Value, launch: &LaunchId, attempt: Attempt) -> Result<Value, Unmade> {
        let Self { renderer, spec, rule } = self;
        if !spec.has_pod_mutation_hook {
            return Ok(draft);
        }
        let measure = rule.map(|_| Measure::of(&draft));
        let pod = renderer.hook.apply(draft).await?;
        if let (Some(rule), Some(measure)) = (rule, measure) {
            let free: Freedoms = rule.may_override.iter().copied().chain(FREE_TO_HOOK).collect();
            judge(rule, "pod_mutation_hook", &measure, &pod, &free)?;
        }
        let signed = pod::sign_again(pod, &renderer.settings, self.identity(), spec, launch, attempt);
        Ok(signed.map_err(of_render)?)
    }

    /// What keeps a pod from being created: nobody would watch it, or the API server would refuse it.
    pub fn check(&self, pod: &Value) -> Result<(), Denial> {
        let Self { renderer, spec, .. } = self;
        let namespace = renderer.namespace(spec, self.identity());
        if !renderer.settings.watches(&namespace) {
            let message = format!(
                "pod_override asks for namespace `{namespace}`, which Windlass does not watch; set \
                 [kubernetes_executor] multi_namespace_mode and add it to multi_namespace_mode_namespace_list"
            );
            return Err((Reason::ExecutorConfigInvalid, message));
        }
        pod::check(pod).map_err(|error| {
            let (reason, message) = of_render(error);
            (reason, message + &renderer.said_of_template(spec))
        })
    }

    /// What the cluster would make of the pod, and its rule does not say.
    pub fn compare(&self, pod: &Value) -> Result<(), Unmade> {
        let Some(surroundings) = &self.renderer.surroundings else { return Ok(()) };
        let known = surroundings.read().unwrap_or_else(PoisonError::into_inner);
        known.check(self.identity(), pod).map_err(|misfit| match misfit.passes {
            true => Unmade::NotYet(Reason::IdentityMissing, misfit.why),
            false => Unmade::Never(Reason::IdentityDenied, misfit.why),
        })
    }
}

fn judge(rule: &Rule, by: &str, measure: &Measure, pod: &Value, free: &Freedoms) -> Result<(), Denial> {
    let mut found = violations(measure, pod, free);
    found.extend(lost(rule, pod));
    if found.is_empty() { Ok(()) } else { Err((Reason::IdentityDenied, sentence(rule, by, &found))) }
}
