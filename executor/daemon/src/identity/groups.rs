//! `windlass identity groups`: which security groups EKS would give a pod.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use windlass_core::identity::sgp;

use crate::cli::{Failure, Form, print};
use crate::document;

/// Largest document, in bytes: thousands of policies.
const DOCUMENT_MAX: u64 = 64 * 1024 * 1024;

/// Answers as the VPC resource controller would, from what it is given: no cluster and no configuration is needed.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
With --input, one JSON document: {\"pod\", \"serviceAccounts\": [..], \"policies\": [..]}. With --manifests, what kubectl
prints or applies: one Pod, its ServiceAccounts and SecurityGroupPolicies, in YAML documents or a List. The answer is
{\"matched\", \"groups\", \"policies\", \"error\"}; the order of groups across policies is of no account.

Examples:
  windlass identity groups --input case.json --output json
  windlass render pod --dag-id etl --task-id load --run-id r1 --from-flags > pod.yaml
  kubectl get sgp,sa -n airflow -o yaml > policies.yaml
  windlass identity groups -f pod.yaml -f policies.yaml")]
pub struct Groups {
    /// Pod, service accounts and policies in one JSON document; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "manifests", conflicts_with = "manifests")]
    input: Option<PathBuf>,
    /// Kubernetes objects in YAML or JSON; may be repeated; `-` is standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    manifests: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "text")]
    output: Form,
}

/// Answers and prints.
pub fn groups(of: &Groups) -> Result<(), Failure> {
    let input = match &of.input {
        Some(path) => {
            let bytes = read(path)?;
            serde_json::from_slice(&bytes).map_err(|error| wrong(path, format!("is no JSON: {error}")))?
        }
        None => sgp::from_manifests(objects(&of.manifests)?).map_err(|why| {
            let names: Vec<String> =
                of.manifests.iter().map(|path| format!("`{}`", path.display())).collect();
            Failure::other(format!("{}: {why}", names.join(", ")))
        })?,
    };
    let answer = sgp::answer(&input).map_err(|why| match &of.input {
        Some(path) => wrong(path, why),
        None => Failure::other(why),
    })?;
    print(&match of.output {
        Form::Text => text(&answer),
        Form::Json => format!("{answer:#}\n"),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    document::read(path, DOCUMENT_MAX).map_err(|error| wrong(path, format!("cannot be read: {error}")))
}

/// The objects in YAML or JSON documents.
pub(super) fn objects(paths: &[PathBuf]) -> Result<Vec<Value>, Failure> {
    let mut objects = Vec::new();
    for path in paths {
        let text = String::from_utf8(read(path)?).map_err(|_| wrong(path, "is not UTF-8"))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .map_err(|error| wrong(path, format!("is no YAML: {error}")))?;
        objects.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    Ok(objects)
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::Other {
        what: format!("`{}`: {what}", path.display()),
        hint: "`--help` of this command shows what it takes".into(),
    }
}

fn text(answer: &Value) -> String {
    let list = |name: &str| {
        let texts = answer[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    match (answer["error"].as_str(), answer["matched"] == true) {
        (Some(error), _) => {
            let _ = writeln!(text, "the pod is refused: {error}");
        }
        (None, true) => {
            let _ = writeln!(text, "groups    {}\npolicies  {}", list("groups"), list("policies"));
        }
        (None, false) => text.push_str("no policy matches: the pod has its node's security groups\n"),
    }
    text
}
