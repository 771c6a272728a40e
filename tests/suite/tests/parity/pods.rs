//! `example_kubernetes_executor`, the example that Airflow ships for its KubernetesExecutor: volumes, a sidecar, another
//! namespace, labels, annotations, another image, resources and affinity, each by a `pod_override`.
//!
//! Two things are adapted, both because this machine pulls no image and mounts no volume: the mounted folders lie below
//! the test's own, and what is in an image is the machine's. The pods themselves are as the example wants them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use windlass_lab::folder::Folder;
use windlass_lab::process::POLL;
use windlass_suite::{NAMESPACE, Stack};

use crate::play::Form;

pub(crate) const EXAMPLE: &str = "example_kubernetes_executor";
/// The one that the example names.
pub(crate) const SECOND_NAMESPACE: &str = "test-namespace";

/// Repository and tag of the worker's image in the settings; the template has another one.
pub(crate) const IMAGE: (&str, &str) = ("windlass-lab/airflow", "of-the-settings");

/// The folders that the example's volumes are mounted at.
pub(crate) fn make_mounts(folder: &Folder) -> Result<()> {
    for mount in ["foo", "shared"] {
        fs::create_dir_all(folder.join(mount)).with_context(|| format!("make {mount}"))?;
    }
    Ok(())
}

/// What was seen of the run: each task's pod, by the task's id.
pub(crate) struct Seen {
    state: String,
    pods: BTreeMap<String, Pod>,
    folder: PathBuf,
}

/// Runs it, and looks at its pods while they are there: a task that succeeded leaves none.
pub(crate) async fn of_the_example(stack: &Stack, form: Form) -> Result<Seen> {
    let run = stack.trigger(EXAMPLE).await?;
    let mut pods = BTreeMap::new();
    let everywhere: Api<Pod> = Api::all(stack.plane.client());
    let wanted = ListParams::default().labels(&format!("dag_id={EXAMPLE}"));
    let look = async {
        loop {
            for pod in everywhere.list(&wanted).await? {
                let task = pod.metadata.annotations.as_ref().and_then(|notes| notes.get("task_id")).cloned();
                pods.entry(task.context("a pod without its task")?).or_insert(pod);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let state = tokio::select! {
        wrong = look => return wrong,
        // Beside all the other runs, so as long as those may take.
        state = stack.airflow.wait_run(EXAMPLE, &run, form.at_most()) => state?,
    };
    let tasks = stack.airflow.tasks(EXAMPLE, &run).await?;
    ensure!(tasks.iter().all(|row| row.is("success") && row.try_number == 1), "{tasks:?}");
    ensure!(tasks.len() == 7 && pods.len() == 7, "{} tasks, pods of {:?}", tasks.len(), pods.keys());
    let dags = stack.airflow.env().get("AIRFLOW__CORE__DAGS_FOLDER").context("no DAG folder")?;
    let folder = Path::new(dags).parent().context("the DAG folder has no parent")?.to_owned();
    Ok(Seen { state, pods, folder })
}

impl Seen {
    /// The pods are what the example asks for, and the containers did what it wants to be done.
    pub(crate) fn check(&self) -> Result<()> {
        assert_eq!(self.state, "success");
        let spec = |task: &str| serde_json::to_value(self.pod(task)?.spec.as_ref()).context("a pod's spec");
        let namespace = |task: &str| Ok::<_, anyhow::Error>(self.pod(task)?.metadata.namespace.clone());
        let label = |task: &str| {
            let labels = self.pod(task)?.metadata.labels.as_ref();
            Ok::<_, anyhow::Error>(labels.and_then(|labels| labels.get("release")).cloned())
        };
        let notes = self.pod("start_task")?.metadata.annotations.as_ref();
        assert_eq!(notes.and_then(|notes| notes.get("test")).map(String::as_str), Some("annotation"));

        assert_eq!(namespace("other_namespace_task")?.as_deref(), Some(SECOND_NAMESPACE));
        assert_eq!(namespace("non_root_task")?.as_deref(), Some(NAMESPACE));
        assert_eq!(label("other_namespace_task")?.as_deref(), Some("stable"));
        assert_eq!(label("non_root_task")?.as_deref(), Some("stable"));

        let volume = spec("test_volume_mount")?;
        assert_eq!(volume["volumes"][0]["hostPath"]["path"], "/tmp/");
        let mount = &volume["containers"][0]["volumeMounts"][0];
        assert_eq!(mount["name"], "example-kubernetes-test-volume");
        assert_eq!(mount["mountPath"], format!("{}/foo/", self.folder.display()));
        assert_eq!(self.file("foo/volume_mount_test.txt")?, "Hello");

        let shared = spec("test_sharedvolume_mount")?;
        assert_eq!(shared["containers"][1]["name"], "sidecar");
        assert_eq!(shared["containers"][1]["image"], "ubuntu");
        for container in [0, 1] {
            assert_eq!(shared["containers"][container]["volumeMounts"][0]["name"], "shared-empty-dir");
        }
        assert_eq!(self.file("shared/test.txt")?.trim(), "retrieved from mount");

        let image = &spec("base_image_override_task")?["containers"][0]["image"];
        assert_eq!(image, &format!("{}:{}", IMAGE.0, IMAGE.1));
        let limited = spec("task_with_resource_limits")?;
        assert_eq!(limited["containers"][0]["resources"]["limits"]["memory"], "512Mi");
        assert_eq!(limited["tolerations"][0]["value"], "airflow");
        let affinity =
            &limited["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(affinity[0]["topologyKey"], "kubernetes.io/hostname");
        Ok(())
    }

    fn pod(&self, task: &str) -> Result<&Pod> {
        self.pods.get(task).with_context(|| format!("no pod of {task} was seen"))
    }

    fn file(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.folder.join(name)).with_context(|| format!("read {name}"))
    }
}
