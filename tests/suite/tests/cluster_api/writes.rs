//! Create, update, patch, status, binding.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bodies::pod;
use crate::server::Server;

pub(crate) async fn create_fills_defaults(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let mut body = pod("defaults");
    body["spec"]["containers"][0]["env"] =
        json!([{ "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]);
    body["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "1" } });
    body["spec"]["volumes"] = json!([{ "name": "e" }, { "name": "c", "configMap": { "name": "x" } }]);
    let answer = server.post(&pods, &body).await?.ok(201)?;
    let answer = answer
        .has("/spec/restartPolicy", json!("Always"))?
        .has("/spec/terminationGracePeriodSeconds", json!(30))?
        .has("/spec/dnsPolicy", json!("ClusterFirst"))?
        .has("/spec/schedulerName", json!("default-scheduler"))?
        .has("/spec/enableServiceLinks", json!(true))?
        .has("/spec/priority", json!(0))?
        .has("/spec/preemptionPolicy", json!("PreemptLowerPriority"))?
        .has("/spec/securityContext", json!({}))?
        .has("/spec/tolerations/0/key", json!("node.kubernetes.io/not-ready"))?
        .has("/spec/tolerations/1/tolerationSeconds", json!(300))?
        .has("/spec/containers/0/imagePullPolicy", json!("Always"))?
        .has("/spec/containers/0/terminationMessagePath", json!("/dev/termination-log"))?
        .has("/spec/containers/0/terminationMessagePolicy", json!("File"))?
        .has("/spec/containers/0/resources/requests", json!({ "cpu": "1" }))?
        .has("/spec/containers/0/env/0/valueFrom/fieldRef/apiVersion", json!("v1"))?
        .has("/spec/volumes/0/emptyDir", json!({}))?
        .has("/spec/volumes/1/configMap/defaultMode", json!(420))?
        .has("/metadata/generation", json!(1))?
        .has("/status/phase", json!("Pending"))?
        .has("/status/qosClass", json!("Burstable"))?;
    ensure!(answer.text_at("/metadata/uid").len() == 36, "no uid");
    ensure!(answer.text_at("/metadata/creationTimestamp").ends_with('Z'), "no creationTimestamp");
    ensure!(answer.text_at("/metadata/resourceVersion").parse::<u64>().is_ok(), "no resourceVersion");
    let body = json!({ "metadata": { "generateName": "made-" }, "spec": pod("")["spec"] });
    let made = server.post(&pods, &body).await?.ok(201)?;
    let name = made.text_at("/metadata/name");
    ensure!(name.len() == 10 && name.starts_with("made-"), "the generated name is {name}");
    Ok(())
}

pub(crate) async fn create_refuses_twice_and_elsewhere(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("twice")).await?.ok(201)?;
    server
        .post(&pods, &pod("twice"))
        .await?
        .refused(409, "AlreadyExists", "pods \"twice\" already exists")?
        .has("/details/name", json!("twice"))?
        .has("/details/kind", json!("pods"))?;
    server
        .post("/api/v1/namespaces/no-such-namespace/pods", &pod("lost"))
        .await?
        .refused(404, "NotFound", "namespaces \"no-such-namespace\" not found")?
        .has("/details/kind", json!("namespaces"))?;
    let mut body = pod("elsewhere");
    body["metadata"]["namespace"] = json!("default");
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    server.post(&pods, &body).await?.refused(400, "BadRequest", message)?;
    Ok(())
}

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

pub(crate) async fn create_names_every_mistake(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let spec = |spec: Value| {
        let mut body = pod("wrong");
        body["spec"] = spec;
        body
    };
    let meta = |meta: Value| {
        let mut body = pod("wrong");
        body["metadata"] = meta;
        body
    };
    let container = |rest: Value| {
        let mut body = pod("wrong");
        body["spec"]["containers"] = rest;
        body
    };
    for (body, mistakes) in [
        (container(json!([{ "name": "base" }])), "spec.containers[0].image: Required value".to_owned()),
        (meta(json!({})), "metadata.name: Required value: name or generateName is required".to_owned()),
        (
            meta(json!({ "name": "wrong", "labels": { "a": "-no" } })),
            format!("metadata.labels: Invalid value: \"-no\": {LABEL_VALUE}"),
        ),
        (spec(json!({ "containers": [] })), "spec.containers: Required value".to_owned()),
        (meta(json!({ "name": "Wr_ong" })), format!("metadata.name: Invalid value: \"Wr_ong\": {SUBDOMAIN}")),
        (
            container(json!([{ "name": "a", "image": "x" }, { "name": "a", "image": "y",
                               "env": [{ "name": "" }] }])),
            "[spec.containers[1].env[0].name: Required value, spec.containers[1].name: Duplicate value: \"a\"]"
                .to_owned(),
        ),
        (
            spec(json!({ "restartPolicy": "Sometimes", "containers": [{ "name": "a", "image": "x" }] })),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \
             \"Never\""
                .to_owned(),
        ),
        (
            container(json!([{ "name": "a", "image": "x", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }])),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"".to_owned(),
        ),
        (
            container(json!([{ "name": "a", "image": "x", "imagePullPolicy": "No" }])),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"No\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\""
                .to_owned(),
        ),
        (
            container(json!([{ "name": "a", "image": "x",
                "env": [{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "metadata.nope" } } }] }])),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.nope\": error \
             converting fieldPath: field label not supported: metadata.nope"
                .to_owned(),
        ),
    ] {
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let answer = server.post(&pods, &body).await?;
        let answer = answer.refused(422, "Invalid", &format!("Pod {name:?} is invalid: {mistakes}"))?;
        answer.has("/details/kind", json!("Pod"))?;
    }
    let answer = server.post(&pods, &container(json!([{ "name": "base" }]))).await?;
    answer.has(
        "/details/causes",
        json!([{ "reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers[0].image" }]),
    )?;
    Ok(())
}

pub(crate) async fn create_refuses_unreadable_bodies(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let mut body = pod("unreadable");
    body["spec"]["containers"][0]["image"] = json!(5);
    let beginning = "Pod in version \"v1\" cannot be handled as a Pod: json: ";
    server.post(&pods, &body).await?.refused_with(400, "BadRequest", beginning)?;
    let message = "ConfigMap in version \"v1\" cannot be handled as a Pod: converting (v1.ConfigMap) to (core.Pod): \
                   unknown conversion";
    let other = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" } });
    server.post(&pods, &other).await?.refused(400, "BadRequest", message)?;
    let beginning =
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json";
    let answer = server.send("POST", &pods, "application/json", "application/json", "{no json").await?;
    answer.refused_with(400, "BadRequest", beginning)?;
    let answer = server.send("POST", &pods, "application/json", "text/plain", "x").await?;
    answer.refused_with(415, "UnsupportedMediaType", "the body of the request was in an unknown format")?;
    let mut body = pod("strict");
    body["spec"]["foo"] = json!(1);
    let message =
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.foo\"";
    let path = format!("{pods}?fieldValidation=Strict");
    server.post(&path, &body).await?.refused(400, "BadRequest", message)?;
    server.post(&pods, &body).await?.ok(201)?.has("/spec/foo", Value::Null)?;
    Ok(())
}

pub(crate) async fn dry_run_stores_nothing(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let path = format!("{pods}?dryRun=All");
    server.post(&path, &pod("dry")).await?.ok(201)?.has("/metadata/resourceVersion", Value::Null)?;
    let one = format!("{pods}/dry");
    server.get(&one).await?.refused(404, "NotFound", "pods \"dry\" not found")?;
    let message = "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"foo\"]: supported values: \"All\"";
    server.post(&format!("{pods}?dryRun=foo"), &pod("dry")).await?.refused(422, "Invalid", message)?;
    // A create with a deadline of its own, as Windlass sends.
    server.post(&format!("{pods}?timeout=10s"), &pod("dry")).await?.ok(201)?;
    let path = format!("{one}?dryRun=All");
    server.delete(&path).await?.ok(200)?.has("/metadata/deletionGracePeriodSeconds", json!(0))?;
    server.get(&one).await?.ok(200)?.has("/metadata/deletionTimestamp", Value::Null)?;
    Ok(())
}

pub(crate) async fn quota_refuses_one_pod_more(server: &Server) -> Result<()> {
    let namespace = server.namespace().await?;
    let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "pods": "1" } } });
    server.post(&format!("{namespace}/resourcequotas"), &quota).await?.ok(201)?;
    let path = format!("{namespace}/resourcequotas/few");
    server.eventually(&path, |a| a.body["status"]["used"]["pods"] == "0").await?;
    let pods = format!("{namespace}/pods");
    server.post(&pods, &pod("first")).await?.ok(201)?;
    server
        .post(&pods, &pod("second"))
        .await?
        .refused(
            403,
            "Forbidden",
            "pods \"second\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1",
        )?
        .has("/details/name", json!("second"))?
        .has("/details/kind", json!("pods"))?;
    server.delete(&format!("{pods}/first")).await?.ok(200)?;
    server.eventually(&path, |a| a.body["status"]["used"]["pods"] == "0").await?;
    server.post(&pods, &pod("second")).await?.ok(201)?;
    Ok(())
}

pub(crate) async fn patches_of_each_kind(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("patched")).await?.ok(201)?;
    let one = format!("{pods}/patched");
    let labels = |labels: Value| json!({ "metadata": { "labels": labels } });
    let answer = server.patch("merge", &one, &labels(json!({ "app": null, "b": "1" }))).await?.ok(200)?;
    let version = answer.text_at("/metadata/resourceVersion");
    answer.has("/metadata/labels", json!({ "b": "1" }))?.has("/metadata/generation", json!(1))?;
    // A patch that changes nothing writes nothing.
    let answer = server.patch("merge", &one, &labels(json!({ "b": "1" }))).await?.ok(200)?;
    answer.has("/metadata/resourceVersion", json!(version))?;
    let finalizers = json!({ "metadata": { "finalizers": ["example.com/one"] } });
    server.patch("strategic-merge", &one, &finalizers).await?.ok(200)?;
    let remove = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["example.com/one"] } });
    let answer = server.patch("strategic-merge", &one, &remove).await?.ok(200)?;
    answer.has("/metadata/finalizers", Value::Null)?;
    let image = json!({ "spec": { "containers": [{ "name": "base", "image": "other" }] } });
    let answer = server.patch("strategic-merge", &one, &image).await?.ok(200)?;
    answer.has("/spec/containers/0/image", json!("other"))?.has("/metadata/generation", json!(2))?;
    let add = json!([{ "op": "add", "path": "/metadata/labels/a~1b", "value": "2" }]);
    let answer = server.patch("json", &one, &add).await?.ok(200)?;
    answer.has("/metadata/labels", json!({ "b": "1", "a/b": "2" }))?;
    let message = "the server rejected our request due to an error in our request";
    let test = json!([{ "op": "test", "path": "/metadata/labels/b", "value": "other" }]);
    server.patch("json", &one, &test).await?.refused(422, "Invalid", message)?;
    let answer = server.send("PATCH", &one, "application/json", "application/json", "{}").await?;
    answer.refused(415, "UnsupportedMediaType", "415: Unsupported Media Type")?;
    let answer = server.patch("merge", &format!("{pods}/none"), &json!({})).await?;
    answer.refused(404, "NotFound", "pods \"none\" not found")?;
    Ok(())
}

pub(crate) async fn optimistic_locking(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let made = server.post(&pods, &pod("locked")).await?.ok(201)?;
    let one = format!("{pods}/locked");
    let modified = "Operation cannot be fulfilled on pods \"locked\": the object has been modified; please apply your \
                    changes to the latest version and try again";
    let stale = json!({ "metadata": { "resourceVersion": "1", "labels": { "z": "1" } } });
    let answer = server.patch("merge", &one, &stale).await?.refused(409, "Conflict", modified)?;
    answer.has("/details", json!({ "name": "locked", "kind": "pods" }))?;
    let mut body = made.body.clone();
    body["metadata"]["labels"] = json!({ "z": "1" });
    server.put(&one, &body).await?.ok(200)?.has("/metadata/labels", json!({ "z": "1" }))?;
    server.put(&one, &body).await?.refused(409, "Conflict", modified)?;
    let uid = json!({ "metadata": { "uid": "other", "labels": { "z": "2" } } });
    let message = "Pod \"locked\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable";
    server.patch("merge", &one, &uid).await?.refused(422, "Invalid", message)?;
    let message = "the name of the object (other) does not match the name on the URL (locked)";
    server.put(&one, &pod("other")).await?.refused(400, "BadRequest", message)?;
    Ok(())
}

pub(crate) async fn spec_is_fixed(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("fixed")).await?.ok(201)?;
    let change = json!({ "spec": { "containers": [{ "name": "base", "command": ["x"] }] } });
    let answer = server.patch("strategic-merge", &format!("{pods}/fixed"), &change).await?;
    let beginning = "Pod \"fixed\" is invalid: spec: Forbidden: pod updates may not change fields other than \
                     `spec.containers[*].image`";
    answer.refused_with(422, "Invalid", beginning)?.has("/details/causes/0/field", json!("spec"))?;
    Ok(())
}

pub(crate) async fn status_subresource(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let made = server.post(&pods, &pod("worked")).await?.ok(201)?;
    let (one, uid) = (format!("{pods}/worked"), made.text_at("/metadata/uid"));
    let status = format!("{one}/status");
    let ready = |status: &str| json!([{ "type": "Ready", "status": status }]);
    let body = json!({ "metadata": { "uid": uid }, "status": { "phase": "Running", "conditions": ready("False"),
        "containerStatuses": [{ "name": "base", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                                "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } }] } });
    let answer = server.patch("strategic-merge", &status, &body).await?.ok(200)?;
    answer
        .has("/status/phase", json!("Running"))?
        .has("/status/qosClass", json!("BestEffort"))?
        .has("/metadata/generation", json!(1))?;
    let body = json!({ "status": { "conditions": [{ "type": "Initialized", "status": "True" }] } });
    let answer = server.patch("strategic-merge", &status, &body).await?.ok(200)?;
    let kinds: Vec<&str> = answer.body["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["type"].as_str())
        .collect();
    ensure!(kinds.len() == 2, "conditions are not merged by type: {kinds:?}");
    // The main resource leaves the status alone, and the status the spec.
    let mut changed = server.get(&one).await?.ok(200)?.body;
    changed["status"] = json!({ "phase": "Failed" });
    server.put(&one, &changed).await?.ok(200)?.has("/status/phase", json!("Running"))?;
    let mut changed = server.get(&one).await?.ok(200)?.body;
    changed["spec"]["containers"][0]["image"] = json!("other");
    changed["status"]["phase"] = json!("Succeeded");
    let answer = server.put(&status, &changed).await?.ok(200)?;
    answer.has("/status/phase", json!("Succeeded"))?.has("/spec/containers/0/image", json!("some/image"))?;
    Ok(())
}

pub(crate) async fn binding_of(server: &Server, pods: &str, name: &str) -> Result<()> {
    let path = format!("{pods}/{name}/binding");
    let answer = server.post(&path, &crate::bodies::binding(name, "some-node")).await?.ok(201)?;
    answer.has("/kind", json!("Status"))?.has("/status", json!("Success"))?;
    Ok(())
}

pub(crate) async fn binding(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("bound")).await?.ok(201)?;
    let path = format!("{pods}/bound/binding");
    binding_of(server, &pods, "bound").await?;
    let answer = server.get(&format!("{pods}/bound")).await?.ok(200)?;
    answer
        .has("/spec/nodeName", json!("some-node"))?
        .has("/status/conditions/0/type", json!("PodScheduled"))?
        .has("/status/conditions/0/status", json!("True"))?;
    let message = "Operation cannot be fulfilled on pods/binding \"bound\": pod bound is already assigned to node \
                   \"some-node\"";
    let answer = server.post(&path, &crate::bodies::binding("bound", "other")).await?;
    answer.refused(409, "Conflict", message)?.has("/details/kind", json!("pods/binding"))?;
    let answer = server.post(&format!("{pods}/none/binding"), &crate::bodies::binding("none", "n")).await?;
    answer.refused(404, "NotFound", "pods \"none\" not found")?;
    let message = "name in URL does not match name in Binding object";
    let nameless = json!({ "target": { "kind": "Node", "name": "n" } });
    server.post(&path, &nameless).await?.refused(400, "BadRequest", message)?;
    Ok(())
}

pub(crate) async fn scheduling_gates(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let mut body = pod("gated");
    body["spec"]["schedulingGates"] = json!([{ "name": "windlass.dev/identity" }]);
    let answer = server.post(&pods, &body).await?.ok(201)?;
    answer.has("/status/conditions/0/reason", json!("SchedulingGated"))?;
    let path = format!("{pods}/gated/binding");
    let message = "Operation cannot be fulfilled on pods/binding \"gated\": pod gated has non-empty .spec.schedulingGates";
    server.post(&path, &crate::bodies::binding("gated", "n")).await?.refused(409, "Conflict", message)?;
    let open = json!({ "spec": { "schedulingGates": null } });
    let answer = server.patch("merge", &format!("{pods}/gated"), &open).await?.ok(200)?;
    answer.has("/spec/schedulingGates", Value::Null)?;
    binding_of(server, &pods, "gated").await
}
