//! What the environment tells AWS's SDKs in a worker, beside the role that EKS gives it: which STS to ask, that the
//! node's credentials are nobody's, and under which name CloudTrail shows the task.
//!
//! None of these variables is one of the pair that keeps EKS's pod identity webhook from setting role and token
//! ([`irsa`](super::irsa)). But a container that has those by hand *and* a region *and* the choice of the STS is left
//! without the token's mount: so such a container gets neither region nor choice from here.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::irsa::CREDENTIALS_BY_HAND;

/// Which STS endpoint: `regional` or `legacy`. Regional ones are near, and their tokens are good in every region.
pub(crate) const STS_ENDPOINTS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
/// The names that the webhook takes for one another.
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// Heeded by all SDKs and the command line.
const NO_METADATA: &str = "AWS_EC2_METADATA_DISABLED";
/// Heeded with web identity; EKS Pod Identity makes its own.
pub(super) const SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";

/// Longest `RoleSessionName` (API reference of AWS STS: 2 to 64 of `[\w+=,.@-]`).
const SESSION_MAX: usize = 64;
/// Hexadecimal digits of the SHA-256 that end a session name which had to be changed.
const HASH_LEN: usize = 10;

/// What a rule sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerEnv {
    /// `AWS_REGION` and `AWS_DEFAULT_REGION`, where a container has neither.
    pub region: Option<String>,
    /// `AWS_STS_REGIONAL_ENDPOINTS=regional`, where a container does not choose.
    pub regional_sts: bool,
    /// `AWS_EC2_METADATA_DISABLED=true`, whatever a container says.
    pub no_metadata: bool,
    /// `AWS_ROLE_SESSION_NAME` with DAG and task, whatever a container says.
    pub session_name: bool,
}

impl WorkerEnv {
    /// What a container gets that says nothing itself, by name.
    pub fn variables(&self, dag_id: &str, task_id: &str) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if self.regional_sts {
            variables.push((STS_ENDPOINTS, "regional".to_owned()));
        }
        if let Some(region) = &self.region {
            variables.extend(REGIONS.map(|name| (name, region.clone())));
        }
        if self.no_metadata {
            variables.push((NO_METADATA, "true".to_owned()));
        }
        if self.session_name {
            variables.push((SESSION_NAME, session_name(dag_id, task_id)));
        }
        variables
    }

    /// Writes it into all containers of a pod, those of executor_config too.
    pub fn apply(&self, pod: &mut Map<String, Value>, dag_id: &str, task_id: &str) {
        let variables = self.variables(dag_id, task_id);
        let Some(Value::Object(spec)) = pod.get_mut("spec").filter(|_| !variables.is_empty()) else { return };
        for list in ["containers", "initContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                set(container, &variables);
            }
        }
    }
}

fn set(container: &mut Map<String, Value>, variables: &[(&'static str, String)]) {
    let mut env = match container.remove("env") {
        Some(Value::Array(env)) => env,
        _ => Vec::new(),
    };
    let has = |names: &[&str]| env.iter().any(|entry| names.iter().any(|name| entry["name"] == *name));
    let by_hand = has(&CREDENTIALS_BY_HAND);
    let (has_region, has_sts) = (by_hand || has(&REGIONS), by_hand || has(&[STS_ENDPOINTS]));
    for (name, value) in variables {
        match *name {
            STS_ENDPOINTS if has_sts => continue,
            name if has_region && REGIONS.contains(&name) => continue,
            name => env.retain(|entry| entry["name"] != name),
        }
        env.push(json!({ "name": name, "value": value }));
    }
    container.insert("env".into(), env.into());
}

/// `DAG@TASK`, as CloudTrail shows it behind the role. What does not fit is cut or replaced, and told apart by a hash of
/// both ids, so that a task always has the same name and no two have one.
pub fn session_name(dag_id: &str, task_id: &str) -> String {
    let plain = format!("{dag_id}@{task_id}");
    // An `@` in an id could make two tasks look alike.
    let fits = |text: &str| text.bytes().all(is_allowed);
    if !dag_id.is_empty() && plain.len() <= SESSION_MAX && fits(dag_id) && fits(task_id) {
        return plain;
    }
    let hash = Sha256::new().chain_update(dag_id).chain_update([0]).chain_update(task_id).finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let (dag, task) = (allowed(dag_id), allowed(task_id));
    let room = SESSION_MAX - HASH_LEN - 2;
    // Half of the room for each; what one leaves is the other's.
    let dag_room = room - task.len().min(room / 2);
    let dag = &dag[..dag.len().min(dag_room)];
    let task = &task[..task.len().min(room - dag.len())];
    format!("{dag}@{task}-{}", &hash[..HASH_LEN])
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.-".contains(&byte)
}

/// ASCII alone, one `-` for each character that cannot stand there.
fn allowed(id: &str) -> String {
    let plain = |c: char| u8::try_from(c).ok().filter(|byte| is_allowed(*byte)).map_or('-', char::from);
    id.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> WorkerEnv {
        WorkerEnv {
            region: Some("eu-central-1".into()),
            regional_sts: true,
            no_metadata: true,
            session_name: true,
        }
    }

    #[test]
    fn a_session_name_says_dag_and_task_within_what_sts_takes() {
        let long = "a".repeat(200);
        let cases = [
            ("etl", "load", "etl@load"),
            ("etl", "group.load-1", "etl@group.load-1"),
            ("a@b", "c", "a-b@c-"),
            ("ETL täglich", "größe", "ETL-t-glich@gr--e-"),
            ("etl", &long, &format!("etl@{}-", &long[..49])),
            (&long, "load", &format!("{}@load-", &long[..48])),
            (&long, &long, &format!("{}@{}-", &long[..26], &long[..26])),
            ("", "", "@-"),
            ("数据", "\n", "--@--"),
        ];
        for (dag, task, begins) in cases {
            let name = session_name(dag, task);
            assert!(name.starts_with(begins), "{name}");
            assert!((2..=64).contains(&name.len()), "{name}");
            assert!(name.bytes().all(|byte| is_allowed(byte) || byte == b'@'), "{name}");
            assert_eq!(name, session_name(dag, task));
        }
        let names: std::collections::BTreeSet<_> =
            cases.iter().map(|(dag, task, _)| session_name(dag, task)).collect();
        assert_eq!(names.len(), cases.len());
        let (one, other) = (session_name("a@b", "c"), session_name("a", "b@c"));
        assert_ne!(one, other);
        assert_eq!(session_name(&long, "load").len(), 64);
    }

    #[test]
    fn region_and_endpoint_leave_a_containers_own_and_the_rest_is_the_rules() {
        let mut pod = json!({"spec": {
            "containers": [
                {"name": "base", "env": [{"name": "X", "value": "1"}]},
                {"name": "own", "env": [
                    {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"},
                    {"name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "legacy"},
                    {"name": "AWS_EC2_METADATA_DISABLED", "value": "false"},
                    {"name": "AWS_ROLE_SESSION_NAME", "value": "somebody-else"},
                    {"name": "AWS_ROLE_SESSION_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            ],
            "initContainers": [{"name": "by-hand", "env": [{"name": "AWS_ROLE_ARN", "value": "arn"}]}],
        }});
        all().apply(pod.as_object_mut().unwrap(), "etl", "load");
        let env = |list: &str, at: usize| -> Vec<String> {
            let env = pod["spec"][list][at]["env"].as_array().unwrap().iter();
            env.map(|e| format!("{}={}", e["name"].as_str().unwrap(), e["value"].as_str().unwrap())).collect()
        };
        assert_eq!(
            env("containers", 0),
            [
                "X=1",
                "AWS_STS_REGIONAL_ENDPOINTS=regional",
                "AWS_REGION=eu-central-1",
                "AWS_DEFAULT_REGION=eu-central-1",
                "AWS_EC2_METADATA_DISABLED=true",
                "AWS_ROLE_SESSION_NAME=etl@load"
            ]
        );
        assert_eq!(
            env("containers", 1),
            [
                "AWS_DEFAULT_REGION=us-east-1",
                "AWS_STS_REGIONAL_ENDPOINTS=legacy",
                "AWS_EC2_METADATA_DISABLED=true",
                "AWS_ROLE_SESSION_NAME=etl@load"
            ]
        );
        assert_eq!(
            env("initContainers", 0),
            ["AWS_ROLE_ARN=arn", "AWS_EC2_METADATA_DISABLED=true", "AWS_ROLE_SESSION_NAME=etl@load"]
        );
        let before = pod.clone();
        all().apply(pod.as_object_mut().unwrap(), "etl", "load");
        assert_eq!(pod, before, "twice is once");
        WorkerEnv::default().apply(pod.as_object_mut().unwrap(), "etl", "load");
        assert_eq!(pod, before);
    }
}
