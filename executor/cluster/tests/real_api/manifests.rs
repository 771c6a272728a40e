//! The other manifests of deploy/: nothing in them that a real API server does not know or does not take.

use std::path::PathBuf;

use serde_json::{Value, json};
use windlass_lab::control_plane::ControlPlane;

/// Unknown and doubled fields are errors, and nothing is stored.
const STRICT: &str = "fieldValidation=Strict&dryRun=All";

fn deploy(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The API server reads YAML itself.
pub(crate) async fn post(plane: &ControlPlane, file: &str, path: &str) -> String {
    send(plane, file, path, deploy(file)).await
}

async fn send(plane: &ControlPlane, file: &str, path: &str, body: String) -> String {
    let request = http::Request::post(path).header("content-type", "application/yaml");
    let answer = plane.client().request_text(request.body(body.into_bytes()).unwrap()).await;
    answer.unwrap_or_else(|error| panic!("deploy/{file}: {error}"))
}

pub(crate) async fn are_what_the_api_server_takes(plane: &ControlPlane) {
    let job = format!("/apis/batch/v1/namespaces/airflow/jobs?{STRICT}");
    post(plane, "migrate-job.yaml", &job).await;
    sidecar(plane).await;
}

/// The scheduler's pod as the chart puts it together, as far as the values of Windlass go into it.
async fn sidecar(plane: &ControlPlane) {
    let file = "helm/values.yaml";
    let text = deploy(file)
        .replace("{{ .Values.airflowHome }}", "/opt/airflow")
        .replace("{{ include \"airflow_pod_template_file\" . }}", "/opt/airflow/pod_templates");
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let list = |pointer: &str| values.pointer(pointer).unwrap().as_array().unwrap().clone();
    let mut mounts = list("/volumeMounts");
    mounts.extend(list("/scheduler/extraVolumeMounts"));
    let mut environment = list("/env");
    environment.extend(list("/scheduler/env"));
    let scheduler =
        json!({ "name": "scheduler", "image": "apache/airflow", "env": environment, "volumeMounts": mounts });
    let mut containers = vec![scheduler];
    containers.extend(list("/scheduler/extraContainers"));
    let mut volumes = vec![json!({ "name": "config", "configMap": { "name": "airflow-config" } })];
    volumes.extend(list("/volumes"));
    volumes.extend(list("/scheduler/extraVolumes"));
    let account = values.pointer("/scheduler/serviceAccount/name").unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "scheduler" },
        "spec": { "serviceAccountName": account, "containers": containers, "volumes": volumes },
    });
    // JSON is YAML.
    let path = format!("/api/v1/namespaces/airflow/pods?{STRICT}");
    let admitted = send(plane, file, &path, pod.to_string()).await;
    let admitted: Value = serde_json::from_str(&admitted).unwrap();
    let with_token: Vec<&str> = admitted["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["volumeMounts"].to_string().contains("/var/run/secrets/kubernetes.io/serviceaccount"))
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(with_token, ["windlass"], "the API server adds no token to the scheduler's container");
    assert!(text.contains("executor: windlass_airflow.WindlassExecutor"));
}
