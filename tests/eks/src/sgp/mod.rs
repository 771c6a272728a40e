//! The webhooks of security groups for pods (amazon-vpc-resource-controller-k8s v1.8.2) as functions. Answers and texts
//! are the real ones, and its recordings are the test; how it writes a pod anew (empty `status` and the like) is not
//! repeated. Which policies match is core's answer, which the recordings of `sgp_match` hold to.

mod known;

use serde_json::{Map, Value, json};
use windlass_core::identity::sgp::{FARGATE_POD_SG, Match, MatchError, POD_ENI, PodFacts, PodKind};

use crate::go;
use crate::review::Verdict;

pub use known::Known;

/// The resource that Windows pods ask for where the controller manages their addresses.
pub const PRIVATE_IPV4: &str = "vpc.amazonaws.com/PrivateIPv4Address";

/// Who may change the annotations of the controller: EKS's controller, and two names that it ran under before.
pub const CONTROLLERS: [&str; 3] = [
    "eks:vpc-resource-controller",
    "system:serviceaccount:kube-system:vpc-resource-controller",
    "system:serviceaccount:kube-system:eks-vpc-resource-controller",
];

/// Beginning of the text with which a pod is denied if its groups can't be found.
const NO_ANSWER: &str = "Failed to get Matching SGP for Pods, rejecting event";

/// A webhook's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// HTTP status: 200 allowed, 403 denied, 400 no pod, 500 the webhook failed.
    pub code: u16,
    /// Why; may be empty.
    pub message: String,
    /// The pod as the webhook leaves it, if it changes it.
    pub pod: Option<Value>,
}

impl Admission {
    /// Whether the pod may pass.
    pub fn allowed(&self) -> bool {
        self.code == 200
    }

    fn answer(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), pod: None }
    }

    fn patched(pod: Value) -> Self {
        Self { code: 200, message: String::new(), pod: Some(pod) }
    }
}

impl From<Admission> for Verdict {
    fn from(admission: Admission) -> Self {
        match admission.pod {
            Some(pod) => Self::Mutated(pod),
            None if admission.allowed() => Self::Allow,
            None => Self::Deny { code: admission.code, message: admission.message },
        }
    }
}

/// The mutating webhook (`/mutate-v1-pod`, CREATE). `namespace` is the request's, `windows_ipam` whether the controller
/// manages the addresses of Windows pods. `find` answers for the policies, as in [`windlass_core::identity::sgp::decide`];
/// its error denies the pod.
pub fn mutate(
    pod: &Value,
    namespace: &str,
    windows_ipam: bool,
    find: impl FnOnce(&PodFacts) -> Result<Match, MatchError>,
) -> Admission {
    if let Some(error) = undecodable(pod) {
        return Admission::answer(400, error);
    }
    if pod.pointer("/spec/containers/0").is_none() {
        // The real one looks at the first container before anything else.
        let panic = "panic: runtime error: index out of range [0] with length 0 [recovered]";
        return Admission::answer(500, panic);
    }
    let facts = match PodFacts::read(pod, namespace) {
        Ok(facts) => facts,
        Err(error) => return Admission::answer(400, error.to_string()),
    };
    let patched = |pod| Admission::patched(written_anew(pod, &facts.namespace));
    match facts.kind {
        PodKind::HostNetwork => Admission::answer(200, "SGP not supported on Pod running on HostNetwork"),
        PodKind::Windows if windows_ipam => patched(asking_for(pod, PRIVATE_IPV4)),
        PodKind::Windows => Admission::answer(200, ""),
        PodKind::Linux => match find(&facts) {
            Err(cause) => Admission::answer(403, format!("{NO_ANSWER}, error {cause}")),
            Ok(found) if found.groups.is_empty() => Admission::answer(200, "Pod didn't match any SGP"),
            Ok(_) => patched(asking_for(pod, POD_ENI)),
        },
        PodKind::Fargate => match find(&facts) {
            Err(_) => Admission::answer(403, NO_ANSWER),
            Ok(found) if !found.groups.is_empty() => patched(annotated(pod, Some(found.groups.join(",")))),
            // Nobody but the webhook may set it.
            Ok(_) if annotation(pod, FARGATE_POD_SG).is_some() => patched(annotated(pod, None)),
            Ok(_) => Admission::answer(200, "Fargate pod not matching any SGP"),
        },
    }
}

/// A request to the validating webhook (`/validate-v1-pod`).
#[derive(Clone, Copy, Debug)]
pub struct AnnotationReview<'a> {
    /// `CREATE` or `UPDATE`; any other is allowed.
    pub operation: &'a str,
    /// Name of who asks.
    pub user: &'a str,
    /// The pod as it is to be.
    pub pod: &'a Value,
    /// The pod as it is; null on CREATE.
    pub old_pod: &'a Value,
    /// Whether the controller manages the addresses of Windows pods.
    pub windows_ipam: bool,
}

/// Whether the annotations of the controller are left to it: nobody creates a pod with them, only the controller
/// changes them, and nobody changes that of Fargate.
pub fn validate_annotation(review: &AnnotationReview<'_>) -> Admission {
    let guarded: &[&str] = if review.windows_ipam { &[POD_ENI, PRIVATE_IPV4] } else { &[POD_ENI] };
    let AnnotationReview { pod, old_pod, .. } = *review;
    let decoded: &[&Value] = match review.operation {
        "CREATE" => &[pod],
        "UPDATE" => &[pod, old_pod],
        _ => &[],
    };
    if let Some(error) = decoded.iter().find_map(|pod| undecodable(pod)) {
        return Admission::answer(400, error);
    }
    // Absent and empty are the same on UPDATE.
    let changed =
        |name| annotation(pod, name).unwrap_or_default() != annotation(old_pod, name).unwrap_or_default();
    match review.operation {
        "CREATE" => match guarded.iter().find(|name| annotation(pod, name).is_some()) {
            Some(name) => Admission::answer(403, format!("pod cannot be created with {name} annotation")),
            None => Admission::answer(200, ""),
        },
        "UPDATE" if changed(FARGATE_POD_SG) => {
            Admission::answer(403, "annotation is not set by mutating webhook")
        }
        "UPDATE" if guarded.iter().any(|name| changed(name)) && !CONTROLLERS.contains(&review.user) => {
            Admission::answer(403, "annotation is not set by vpc-resource-controller")
        }
        _ => Admission::answer(200, ""),
    }
}

/// Why the decoder of the controller's library takes the object for no pod.
fn undecodable(pod: &Value) -> Option<String> {
    match pod {
        Value::Null => Some("there is no content to decode".into()),
        Value::Object(_) => go::refusal(pod),
        other => Some(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ \
             APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            go::kind(other)
        )),
    }
}

fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let value = pod.get("metadata")?.get("annotations")?.get(name)?;
    // Go reads null as the empty text.
    Some(value.as_str().unwrap_or_default())
}

fn first_container(pod: &mut Value) -> Option<&mut Map<String, Value>> {
    let first = pod.get_mut("spec")?.get_mut("containers")?.get_mut(0)?;
    if first.is_null() {
        *first = json!({});
    }
    first.as_object_mut()
}

/// The object in a field, made if it is not there.
fn object<'a>(fields: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let value = fields.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// The first container asks for one `resource`, whatever number it asked for.
fn asking_for(pod: &Value, resource: &str) -> Value {
    let mut pod = pod.clone();
    let resources = first_container(&mut pod).and_then(|container| object(container, "resources"));
    if let Some(resources) = resources {
        for part in ["limits", "requests"] {
            if let Some(quantities) = object(resources, part) {
                quantities.insert(resource.to_owned(), json!("1"));
            }
        }
    }
    pod
}

/// The annotation for Fargate set, or taken off.
fn annotated(pod: &Value, groups: Option<String>) -> Value {
    let mut pod = pod.clone();
    let metadata = pod.as_object_mut().and_then(|pod| object(pod, "metadata"));
    if let Some(annotations) = metadata.and_then(|metadata| object(metadata, "annotations")) {
        match groups {
            Some(groups) => annotations.insert(FARGATE_POD_SG.to_owned(), json!(groups)),
            None => annotations.remove(FARGATE_POD_SG),
        };
    }
    pod
}

/// What of a pod changes by going through Go's types and matters: the namespace of the request stands in it, the first
/// container has `resources`, and empty maps are gone.
fn written_anew(mut pod: Value, namespace: &str) -> Value {
    if let Some(resources) = first_container(&mut pod).and_then(|container| object(container, "resources")) {
        for part in ["limits", "requests"] {
            remove_empty(resources, part);
        }
    }
    if let Some(metadata) = pod.as_object_mut().and_then(|pod| object(pod, "metadata")) {
        remove_empty(metadata, "annotations");
        if !namespace.is_empty() {
            metadata.insert("namespace".into(), json!(namespace));
        }
    }
    pod
}

fn remove_empty(fields: &mut Map<String, Value>, name: &str) {
    if fields.get(name).is_some_and(|value| value.is_null() || value.as_object().is_some_and(Map::is_empty)) {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(names: &[&str]) -> Result<Match, MatchError> {
        let groups = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(Match { groups, policies: vec!["p".into()] })
    }

    fn pod(labels: Value, spec: Value) -> Value {
        let mut pod = json!({"metadata": {"labels": labels, "namespace": "n"}, "spec": {"containers": [{}]}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod
    }

    #[test]
    fn policies_are_not_asked_for_pods_that_stay_as_they_are() {
        for spec in [json!({"hostNetwork": true}), json!({"nodeSelector": {"kubernetes.io/os": "windows"}})] {
            let answer = mutate(&pod(json!({}), spec), "n", false, |_| panic!("asked"));
            assert!(answer.allowed() && answer.pod.is_none());
        }
    }

    #[test]
    fn fargate_tells_no_cause() {
        let fargate = pod(json!({"eks.amazonaws.com/fargate-profile": "f"}), json!({}));
        let answer = mutate(&fargate, "n", false, |_| Err(MatchError::ServiceAccountNotFound("a".into())));
        assert_eq!(answer, Admission::answer(403, "Failed to get Matching SGP for Pods, rejecting event"));
        let answer = mutate(&pod(json!({}), json!({})), "n", false, |_| Err(MatchError::Read("gone".into())));
        let text = "Failed to get Matching SGP for Pods, rejecting event, error gone";
        assert_eq!(answer, Admission::answer(403, text));
    }

    #[test]
    fn null_and_empty_fields() {
        let odd = pod(
            json!(null),
            json!({"containers": [{"resources": {"limits": null, "requests": {"cpu": "1"}}}]}),
        );
        let after = mutate(&odd, "n", false, |_| groups(&["sg-1"])).pod.unwrap();
        assert_eq!(
            after["spec"]["containers"][0]["resources"],
            json!({"limits": {"vpc.amazonaws.com/pod-eni": "1"},
                   "requests": {"cpu": "1", "vpc.amazonaws.com/pod-eni": "1"}})
        );
        let mut fargate = pod(json!({"eks.amazonaws.com/fargate-profile": "f"}), json!({}));
        fargate["metadata"]["annotations"] = json!({"fargate.amazonaws.com/pod-sg": null});
        let after = mutate(&fargate, "n", false, |_| groups(&[])).pod.unwrap();
        assert_eq!(after["metadata"].get("annotations"), None);
        assert_eq!(after["spec"]["containers"], json!([{"resources": {}}]));
    }

    #[test]
    fn a_pod_without_containers_breaks_the_webhook() {
        for containers in [json!([]), json!(null)] {
            let answer = mutate(&json!({"spec": {"containers": containers}}), "n", false, |_| groups(&[]));
            assert_eq!(answer.code, 500);
        }
        assert_eq!(
            mutate(&json!(null), "n", false, |_| groups(&[])).message,
            "there is no content to decode"
        );
    }

    #[test]
    fn other_operations_and_taking_annotations_off() {
        let with = json!({"metadata": {"annotations": {POD_ENI: "[]", FARGATE_POD_SG: "sg-1"}}});
        let none = Value::Null;
        let plain = json!({});
        let review = |operation, user, pod, old_pod| {
            let review = AnnotationReview { operation, user, pod, old_pod, windows_ipam: true };
            let answer = validate_annotation(&review);
            (answer.code, answer.message)
        };
        assert_eq!(review("DELETE", "me", &none, &with), (200, String::new()));
        assert_eq!(
            review("UPDATE", CONTROLLERS[0], &plain, &with),
            (403, "annotation is not set by mutating webhook".into())
        );
        let eni = json!({"metadata": {"annotations": {POD_ENI: "[]"}}});
        let windows = json!({"metadata": {"annotations": {PRIVATE_IPV4: "10.0.0.1/20"}}});
        for (pod, old) in [(&plain, &eni), (&eni, &plain), (&windows, &plain), (&windows, &eni)] {
            let denied = (403, "annotation is not set by vpc-resource-controller".into());
            assert_eq!(review("UPDATE", "me", pod, old), denied);
            for user in CONTROLLERS {
                assert_eq!(review("UPDATE", user, pod, old), (200, String::new()));
            }
        }
        assert_eq!(review("UPDATE", "me", &plain, &none).1, "there is no content to decode");
    }
}
