//! What an identity rule puts into the environment of workers, before the webhook: it must not keep role and token away.

use serde_json::{Value, json};
use windlass_core::identity::admitted::judge;
use windlass_core::identity::irsa::{Credentials, DEFAULT_AUDIENCE, check};
use windlass_core::identity::{Identity, WorkerEnv};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::pod::{self, PodSettings, Template, WatchedNamespaces};
use windlass_core::pod_view::Gate;
use windlass_core::task::{DagFacts, ExecutorConfig, TaskSpec};
use windlass_core::time::UtcMicros;
use windlass_eks::irsa::{Flags, Webhook};

use crate::goldens::{self, request};

const ROLE: &str = "arn:aws:iam::111122223333:role/etl";

fn all(region: Option<&str>) -> WorkerEnv {
    WorkerEnv { region: region.map(str::to_owned), regional_sts: true, no_metadata: true, session_name: true }
}

/// Pods of all kinds that the real webhook was recorded with, hand-made credentials among them.
#[test]
fn every_recorded_pod_gets_the_credentials_that_it_gets_without() {
    let mut with_role = 0;
    for case in goldens::irsa().iter().filter(|case| case.input.get("rawBody").is_none()) {
        let plain = &case.input["pod"];
        let role = case.annotation("role-arn").unwrap_or(ROLE).to_owned();
        let audience = case.annotation("audience").unwrap_or(DEFAULT_AUDIENCE);
        let made = |pod: &Value| {
            let admission = case.webhook().admit(&request(pod));
            let pod = admission.pod_after.unwrap_or_else(|| pod.clone());
            (admission.allowed, check(&pod, &role, audience))
        };
        for env in [all(None), all(Some("eu-west-1"))] {
            let mut pod = plain.clone();
            if let Some(pod) = pod.as_object_mut() {
                env.apply(pod, "etl", "load");
            }
            let (without, with) = (made(plain), made(&pod));
            assert_eq!(with, without, "{}", case.id);
            with_role += usize::from(with.1.is_ok());
        }
    }
    assert!(with_role > 40, "{with_role}");
}

fn spec(pod_override: Option<Value>) -> TaskSpec {
    let key =
        TaskKey { dag_id: "etl".into(), task_id: "load".into(), run_id: "manual__1".into(), map_index: -1 };
    TaskSpec {
        command: pod::worker_command(&key, None),
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
        executor_config: Ok(ExecutorConfig { pod_override, ..ExecutorConfig::default() }),
    }
}

/// The pod of a rule as the webhook leaves it.
fn admitted(env: WorkerEnv, flags: Flags, pod_override: Option<Value>) -> Value {
    let identity = Identity {
        rule: Some("etl".into()),
        service_account: Some("etl-worker".into()),
        role_arn: Some(ROLE.into()),
        worker_env: env,
        ..Identity::default()
    };
    let settings = PodSettings {
        namespace: "airflow".into(),
        kube_image: Some("airflow:2.11".into()),
        watched: WatchedNamespaces::Own,
        installation: InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into()),
        hide_from_neighbours: false,
    };
    let spec = spec(pod_override);
    let launch = LaunchId::of(&settings.installation, &spec.queueing);
    let pod = pod::render(&settings, &Template::absent(), &identity, &spec, &launch, Attempt::FIRST).unwrap();
    let account = json!({ "metadata": {
        "namespace": "airflow", "name": "etl-worker", "annotations": { "eks.amazonaws.com/role-arn": ROLE },
    }});
    let webhook = Webhook { flags, service_accounts: vec![account], ..Webhook::default() };
    webhook.admit(&request(&pod)).pod_after.unwrap()
}

fn env(pod: &Value, container: usize) -> Vec<String> {
    let env = pod["spec"]["containers"][container]["env"].as_array().unwrap().iter();
    let told = env.map(|e| format!("{}={}", e["name"].as_str().unwrap(), e["value"].as_str().unwrap()));
    told.filter(|told| told.starts_with("AWS_")).collect()
}

#[test]
fn a_worker_has_its_role_and_the_rules_variables_once() {
    let token = "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token";
    let role = format!("AWS_ROLE_ARN={ROLE}");
    let ours = ["AWS_EC2_METADATA_DISABLED=true", "AWS_ROLE_SESSION_NAME=etl@load"];
    let sts = "AWS_STS_REGIONAL_ENDPOINTS=regional";
    for flags in [Flags::default(), Flags::on_eks("eu-west-1")] {
        let on_eks = !flags.region.is_empty();
        let pod = admitted(all(None), flags.clone(), None);
        assert_eq!(check(&pod, ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
        assert_eq!(judge(&pod), Gate::Fit);
        let webhooks = ["AWS_DEFAULT_REGION=eu-west-1", "AWS_REGION=eu-west-1"];
        let webhooks = webhooks.into_iter().filter(|_| on_eks);
        let expected: Vec<&str> =
            [sts].into_iter().chain(ours).chain(webhooks).chain([&*role, token]).collect();
        assert_eq!(env(&pod, 0), expected);

        let pod = admitted(all(Some("eu-central-1")), flags, None);
        assert_eq!(
            (check(&pod, ROLE, DEFAULT_AUDIENCE), judge(&pod)),
            (Ok(Credentials::WebIdentity), Gate::Fit)
        );
        let region = ["AWS_REGION=eu-central-1", "AWS_DEFAULT_REGION=eu-central-1"];
        let expected: Vec<&str> =
            [sts].into_iter().chain(region).chain(ours).chain([&*role, token]).collect();
        assert_eq!(env(&pod, 0), expected, "the webhook leaves a region that is there");
    }
}

#[test]
fn an_author_may_choose_the_region_and_neither_the_name_nor_the_nodes_credentials() {
    let wanted = json!({ "spec": { "containers": [
        { "name": "base", "env": [
            { "name": "AWS_REGION", "value": "us-east-1" },
            { "name": "AWS_EC2_METADATA_DISABLED", "value": "false" },
            { "name": "AWS_ROLE_SESSION_NAME", "value": "payroll@run" },
        ]},
        { "name": "sidecar", "image": "tool:1" },
    ]}});
    let pod = admitted(all(Some("eu-central-1")), Flags::on_eks("eu-west-1"), Some(wanted));
    assert_eq!((check(&pod, ROLE, DEFAULT_AUDIENCE), judge(&pod)), (Ok(Credentials::WebIdentity), Gate::Fit));
    let (base, sidecar) = (env(&pod, 0), env(&pod, 1));
    assert!(base.contains(&"AWS_REGION=us-east-1".to_owned()), "{base:?}");
    assert!(sidecar.contains(&"AWS_REGION=eu-central-1".to_owned()), "{sidecar:?}");
    for env in [base, sidecar] {
        let of = |name: &str| env.iter().filter(|told| told.starts_with(name)).cloned().collect::<Vec<_>>();
        assert_eq!(of("AWS_EC2_METADATA_DISABLED"), ["AWS_EC2_METADATA_DISABLED=true"]);
        assert_eq!(of("AWS_ROLE_SESSION_NAME"), ["AWS_ROLE_SESSION_NAME=etl@load"]);
    }
}
