//! `tests/fixtures/eks`, in the words of the tests.

use std::path::Path;

use serde_json::{Value, json};
use windlass_eks::irsa::Webhook;

/// One recording.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) input: Value,
    pub(crate) expected: Value,
}

impl From<Value> for Case {
    fn from(mut case: Value) -> Self {
        let id = format!("{} {}", case["id"], case["title"]);
        Self { id, input: case["input"].take(), expected: case["expected"].take() }
    }
}

impl Case {
    /// The webhook as it stood.
    pub(crate) fn webhook(&self) -> Webhook {
        serde_json::from_value(self.input.clone()).unwrap()
    }

    /// The role that the case's account, or its config map, gives.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        let prefix = self.input["flags"]["annotationPrefix"].as_str().unwrap_or("eks.amazonaws.com");
        self.input["serviceAccounts"][0]["metadata"]["annotations"][format!("{prefix}/{name}")].as_str()
    }
}

/// The request that a pod comes in. The recordings were made in namespace `airflow`.
pub(crate) fn request(pod: &Value) -> Value {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("airflow");
    json!({ "uid": "req-1", "namespace": namespace, "operation": "CREATE", "object": pod })
}

pub(crate) fn irsa() -> Vec<Case> {
    let text = include_str!("../../../fixtures/eks/irsa_webhook.json");
    let Value::Array(cases) = serde_json::from_str(text).unwrap() else { panic!("a list of cases") };
    assert!(cases.len() > 70);
    cases.into_iter().map(Case::from).collect()
}

/// The recordings of the controller of security groups in a file of `tests/fixtures/eks`.
pub(crate) fn sgp(name: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/eks").join(name);
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let Value::Array(cases) = file["cases"].take() else { panic!("a list of cases") };
    assert_eq!(Value::from(cases.len()), file["n"]);
    cases.into_iter().map(Case::from).collect()
}
