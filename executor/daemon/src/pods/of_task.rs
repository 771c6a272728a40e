//! One task's pod, step by step: draft, guard, hook, check, and what the cluster would make of it.

use std::sync::PoisonError;

use serde_json::Value;
use windlass_core::identity::guard::{Measure, lost, sentence, violations};
use windlass_core::identity::rules::Rule;
use windlass_core::identity::{Freedom, Freedoms, Identity};
use windlass_core::ids::{Attempt, LaunchId};
use windlass_core::outcome::Reason;
use windlass_core::pod::{self, Template};
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
        let template = self.renderer.configured_template()?;
        let measure = self.renderer.measure(rule, self.spec, &template)?;
        judge(rule, "executor_config", &measure, draft, &rule.may_override)?;
        self.guard_groups(rule, draft, &template)
    }

    /// Any label may be one that a SecurityGroupPolicy selects by, so labels are judged by what they do. Where the rule
    /// says which groups the pod gets, [`OfTask::compare`] does that.
    fn guard_groups(&self, rule: &Rule, draft: &Value, template: &Template) -> Result<(), Denial> {
        let Some(surroundings) = &self.renderer.surroundings else { return Ok(()) };
        if !rule.gives.security_groups.is_empty() || rule.may_override.contains(&Freedom::Labels) {
            return Ok(());
        }
        let known = surroundings.read().unwrap_or_else(PoisonError::into_inner);
        if !known.groups_known() {
            return Ok(());
        }
        let usual = self.renderer.plain(rule, self.spec, template)?;
        let Some(what) = known.groups_by_labels(&usual, draft) else { return Ok(()) };
        let message = format!(
            "identity rule `{}` (line {}) does not let executor_config change the pod's security groups by its labels: \
             {what}; take the labels out, or have the platform add \"labels\" to the rule's may-override",
            rule.name, rule.place.line
        );
        Err((Reason::IdentityDenied, message))
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, RwLock};

    use serde_json::json;
    use windlass_core::identity::Labels;
    use windlass_core::identity::rules::{Place, Rules};
    use windlass_core::identity::sgp::SecurityGroupPolicy;
    use windlass_core::identity::surroundings::Surroundings;
    use windlass_core::ids::TaskKey;
    use windlass_core::pod::PodSettings;

    use super::*;
    use crate::pods::imaginary;
    use crate::pods::tests::settings;

    /// Where every pod with the label `team: fin` gets a group.
    fn renderer(may_override: Freedoms) -> Renderer {
        let settings = PodSettings { kube_image: Some("airflow:2".into()), ..settings() };
        let policy = json!({
            "metadata": { "namespace": "airflow", "name": "fin" },
            "spec": { "podSelector": { "matchLabels": { "team": "fin" } }, "securityGroups": { "groupIds": ["sg-a"] } },
        });
        let mut known =
            Surroundings { accounts_known: true, policies_known: true, ..Surroundings::default() };
        known.accounts.insert("airflow", "default", Labels::new());
        known.policies.insert(SecurityGroupPolicy::read(&policy).unwrap());
        let gives = Identity { rule: Some("web".into()), ..Identity::default() };
        let rule = Rule {
            name: "web".into(),
            place: Place { line: 2, column: 1 },
            when: Vec::new(),
            gives,
            may_override,
        };
        let rules = Some(Arc::new(Rules::new(vec![rule], None)));
        let renderer = Renderer { rules, ..Renderer::with(settings, None, Box::new(|_, _| {})) };
        renderer.in_surroundings(Arc::new(RwLock::new(known)))
    }

    async fn with_team(renderer: &Renderer, team: &str) -> Result<Value, Unmade> {
        let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: -1 };
        let config = ExecutorConfig {
            pod_override: Some(json!({ "metadata": { "labels": { "team": team } } })),
            ..ExecutorConfig::default()
        };
        let spec = TaskSpec { executor_config: Ok(config), ..imaginary(key) };
        let launch = LaunchId::of(&renderer.settings.installation, &spec.queueing);
        renderer.make(&spec, &launch, Attempt::FIRST).await
    }

    #[tokio::test]
    async fn a_label_that_takes_another_teams_security_groups_is_denied() {
        let strict = renderer(Freedoms::new());
        assert!(with_team(&strict, "web").await.is_ok());
        let Err(Unmade::Never(reason, why)) = with_team(&strict, "fin").await else { panic!("it was made") };
        assert_eq!(reason, Reason::IdentityDenied);
        assert_eq!(
            why,
            "identity rule `web` (line 2) does not let executor_config change the pod's security groups by its labels: \
             with them the pod gets sg-a (SecurityGroupPolicies fin), without them no security groups of its own; take \
             the labels out, or have the platform add \"labels\" to the rule's may-override"
        );
        assert!(with_team(&renderer(Freedoms::from([Freedom::Labels])), "fin").await.is_ok());
    }
}
