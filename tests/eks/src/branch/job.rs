//! The job that gives one pod its branch interfaces: what the controller decides, says and writes. No IO.

use std::time::Duration;

use serde_json::Value;
use windlass_core::identity::sgp::{Match, MatchError, POD_ENI};

use super::trunk::{Ec2, NoInterface, Trunk};

/// An event on the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// `Normal` or `Warning`.
    pub(super) kind: &'static str,
    /// For example `ResourceAllocated`.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
}

impl Event {
    fn normal(reason: &'static str, message: String) -> Self {
        Self { kind: "Normal", reason, message }
    }

    pub(super) fn warning(reason: &'static str, message: String) -> Self {
        Self { kind: "Warning", reason, message }
    }
}

/// What comes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing is left to do.
    Done,
    /// The annotation is to be written, and the last of the events to be said once it is.
    Annotate(String),
    /// The node has no interface free: another try after so long.
    Again(Duration),
    /// Another try at once, up to five times.
    Retry(String),
    /// What the job needs does not exist: it is dropped.
    Drop(String),
}

/// The interfaces that a pod's containers ask for.
pub(super) fn asked(pod: &Value) -> usize {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let requests = containers.filter_map(|container| container.pointer("/resources/requests")?.get(POD_ENI));
    let number = |quantity: &Value| match quantity {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    };
    requests.map(number).sum::<u64>().try_into().unwrap_or(usize::MAX)
}

/// Whether the controller gave the pod its interfaces.
pub(super) fn is_annotated(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(POD_ENI).is_some()
}

/// One try. `found` is what matches the pod now, `trunk` that of the pod's node, if it has one.
pub(super) fn attempt(
    pod: &Value,
    count: usize,
    found: Result<Match, MatchError>,
    trunk: Option<&mut Trunk>,
    ec2: &mut Ec2,
    cool_down: Duration,
) -> (Vec<Event>, Then) {
    if is_annotated(pod) {
        return (Vec::new(), Then::Done);
    }
    let groups = match found {
        Ok(found) => found.groups,
        Err(error @ MatchError::ServiceAccountNotFound(_)) => {
            return (Vec::new(), Then::Drop(error.to_string()));
        }
        Err(error @ MatchError::Read(_)) => return (Vec::new(), Then::Retry(error.to_string())),
    };
    let mut events = vec![requested(&groups)];
    let Some(trunk) = trunk else {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        return (events, Then::Retry(format!("trunk not found for node {node}")));
    };
    let then = match trunk.take(pod["metadata"]["uid"].as_str().unwrap_or_default(), count, ec2) {
        Ok(interfaces) => {
            // It holds texts and numbers alone.
            let annotation = serde_json::to_string(&interfaces).unwrap_or_default();
            events.push(Event::normal("ResourceAllocated", format!("Allocated {annotation} to the pod")));
            Then::Annotate(annotation)
        }
        Err(NoInterface::AtLimit) => Then::Again(cool_down),
        Err(NoInterface::Failed(error)) => {
            let message = format!("failed to allocate branch ENI to pod: {error}");
            events.push(Event::warning("BranchAllocationFailed", message));
            Then::Retry(error)
        }
    };
    (events, then)
}

/// A pod whose policies went away after its admission gets an interface with the groups of its node.
fn requested(groups: &[String]) -> Event {
    const REASON: &str = "SecurityGroupRequested";
    if groups.is_empty() {
        let message = "Pod will get the instance security group as the pod didn't match any Security Group from \
                       SecurityGroupPolicy";
        return Event::warning(REASON, message.to_owned());
    }
    let message = format!("Pod will get the following Security Groups [{}]", groups.join(" "));
    Event::normal(REASON, message)
}
