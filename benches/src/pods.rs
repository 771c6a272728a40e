//! Pods as the daemon sends them, made from one that it rendered; and as much of a pod as a watch has to decode.

use std::borrow::Cow;

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Label by which the bare client's pods are told from the daemon's, whose watch selects its own installation.
pub(crate) const INSTALLATION: &str = "windlass.dev/installation";
/// Value of [`INSTALLATION`] in the bare client's pods, as long as the daemon's.
pub(crate) const BARE: &str = "ba4e0000";
const LAUNCH: &str = "windlass.dev/launch";

/// The rendered pod of one mapped task.
#[derive(Clone, Debug)]
pub(crate) struct PodForm {
    body: Value,
    map_index: String,
}

impl PodForm {
    /// `rendered`: what `windlass render pod --output json` printed for this map index.
    pub(crate) fn new(rendered: &str, map_index: usize) -> Result<Self> {
        let body: Value = serde_json::from_str(rendered).context("`windlass render pod` printed no JSON")?;
        Ok(Self { body, map_index: map_index.to_string() })
    }

    /// The bare client's pods of a range of map indexes: other names and labels, all else byte for byte as long as the
    /// daemon's, as the indexes have as many digits.
    pub(crate) fn bare(&self, indexes: std::ops::Range<usize>, unique: &str) -> Result<Vec<Pod>> {
        indexes.map(|index| self.bare_one(index, unique)).collect()
    }

    fn bare_one(&self, index: usize, unique: &str) -> Result<Pod> {
        let mut body = self.body.clone();
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let name = text("/metadata/name").context("the rendered pod has no name")?;
        let visible = name.rsplit_once('-').map_or(name.as_str(), |(visible, _)| visible);
        body["metadata"]["name"] = format!("{visible}-{unique}{index:06}").into();
        body["metadata"]["labels"][INSTALLATION] = BARE.into();
        body["metadata"]["labels"][LAUNCH] = launch_like(index).into();
        body["metadata"]["labels"]["map_index"] = index.to_string().into();
        body["metadata"]["annotations"]["map_index"] = index.to_string().into();
        let args = body.pointer_mut("/spec/containers/0/args").and_then(Value::as_array_mut);
        let args = args.context("the rendered pod has no arguments")?;
        for arg in args.iter_mut().filter(|arg| **arg == Value::String(self.map_index.clone())) {
            *arg = index.to_string().into();
        }
        serde_json::from_value(body).context("the rendered pod is none of Kubernetes")
    }
}

/// 26 characters of base 32, as a launch id has.
fn launch_like(index: usize) -> String {
    let digits = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..26_u32).map(|at| char::from(digits[(index >> (5 * at).min(60)) & 31])).collect()
}

/// A pod with the fields that a lean client needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LeanPod {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl LeanPod {
    pub(crate) fn phase(&self) -> &str {
        &self.status.phase
    }

    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

impl kube::Resource for LeanPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        "".into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_clients_pod_differs_by_what_names_it() {
        let rendered = r#"{"metadata": {"name": "bench-work-abcdefgh", "labels": {"map_index": "7"},
            "annotations": {"map_index": "7"}}, "spec": {"containers": [{"name": "base", "args": ["--map-index", "7"]}]}}"#;
        let pods = PodForm::new(rendered, 7).unwrap().bare(8..10, "r1").unwrap();
        let pod = &pods[1];
        assert_eq!(pod.metadata.name.as_deref(), Some("bench-work-r1000009"));
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        assert_eq!((labels["map_index"].as_str(), labels[INSTALLATION].as_str()), ("9", BARE));
        assert_eq!(labels[LAUNCH].len(), 26);
        let args = pod.spec.as_ref().and_then(|spec| spec.containers[0].args.clone());
        assert_eq!(args, Some(vec!["--map-index".to_owned(), "9".to_owned()]));
    }
}
