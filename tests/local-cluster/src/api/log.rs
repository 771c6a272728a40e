//! GET of `pods/log`: the embedded API reads the files of the node's kubelet (a real server asks it over HTTPS).

use std::path::Path;

use futures::StreamExt as _;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::pod::node_name;
use super::request::{Query, Reply};
use super::resource::NODES;
use super::status::ApiError;
use super::store::Key;
use crate::logs::{self, LOG_DIR_ANNOTATION, LogOptions};

const PLAIN: &str = "text/plain";

/// Answers with the log, or why there is none.
pub(crate) fn log(api: &Api, key: &Key, query: &Query) -> Result<Reply, ApiError> {
    let pod = api.store.get("pods", key).ok_or_else(|| ApiError::not_found("pods", &key.name))?;
    let container = container(&pod, &key.name, query)?;
    let node = node_name(&pod);
    if node.is_empty() {
        return Ok(Reply::text(204, ""));
    }
    let Some(node_object) = api.store.get(NODES.plural, &Key::new("", node)) else {
        // Upstream names the resource of the request here, not the node's.
        return Err(ApiError::not_found("pods", node));
    };
    let Some(root) = node_object["metadata"]["annotations"][LOG_DIR_ANNOTATION].as_str() else {
        return Err(ApiError::internal("no preferred addresses found; known addresses: []"));
    };
    let unsigned = |v: Option<i64>| v.and_then(|v| u64::try_from(v).ok());
    let options = LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        tail_lines: unsigned(query.integer("tailLines")?),
        limit_bytes: unsigned(query.integer("limitBytes")?),
    };
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let dir = logs::container_dir(Path::new(root), &key.namespace, &key.name, uid, &container);
    let Some(chunks) = logs::read(&dir, options) else {
        return Err(no_log(&pod, &key.name, &container, options.previous));
    };
    let frames = ReceiverStream::new(chunks).map(|chunk| chunk.map(Frame::data));
    Ok(Reply::stream(PLAIN, StreamBody::new(frames).boxed_unsync()))
}

/// The container asked for; without a name, the only one.
fn container(pod: &Value, name: &str, query: &Query) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    match query.get("container") {
        Some(asked) if main.iter().chain(&init).any(|n| n == asked) => Ok(asked.to_owned()),
        Some(asked) => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None if main.len() == 1 && init.is_empty() => Ok(main[0].clone()),
        None => {
            let default = &pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"];
            if let Some(default) = default.as_str().filter(|d| main.iter().any(|n| n == d)) {
                return Ok(default.to_owned());
            }
            let mut problem = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            );
            if !init.is_empty() {
                problem += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            Err(ApiError::bad_request(problem))
        }
    }
}

fn no_log(pod: &Value, name: &str, container: &str, previous: bool) -> ApiError {
    if previous {
        return ApiError::bad_request(format!(
            "previous terminated container {container:?} in pod {name:?} not found"
        ));
    }
    let mut statuses = ["containerStatuses", "initContainerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    let waiting = statuses
        .find(|s| s["name"] == container)
        .and_then(|s| s["state"]["waiting"]["reason"].as_str())
        .unwrap_or("ContainerCreating");
    ApiError::bad_request(format!("container {container:?} in pod {name:?} is waiting to start: {waiting}"))
}
