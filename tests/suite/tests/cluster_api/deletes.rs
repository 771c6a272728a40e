//! Deletes.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bodies::pod;
use crate::server::Server;
use crate::writes::binding_of;

pub(crate) async fn unbound_goes_at_once(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("unbound")).await?.ok(201)?;
    let one = format!("{pods}/unbound");
    let answer = server.delete(&one).await?.ok(200)?;
    answer
        .has("/kind", json!("Pod"))?
        .has("/metadata/deletionGracePeriodSeconds", json!(0))?
        .has("/metadata/generation", json!(2))?;
    server.get(&one).await?.refused(404, "NotFound", "pods \"unbound\" not found")?;
    server.delete(&one).await?.refused(404, "NotFound", "pods \"unbound\" not found")?;
    Ok(())
}

pub(crate) async fn bound_waits_for_its_kubelet(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("bound")).await?.ok(201)?;
    binding_of(server, &pods, "bound").await?;
    let one = format!("{pods}/bound");
    let seconds = |answer: &crate::server::Answer| -> Result<i64> {
        let time = answer.text_at("/metadata/deletionTimestamp");
        // Within one minute and hour of the test: the last two groups say it all.
        let mut parts = time.trim_end_matches('Z').rsplit(':');
        let (s, m) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Ok(m.parse::<i64>()? * 60 + s.parse::<i64>()?)
    };
    let first = server.delete(&one).await?.ok(200)?;
    let first = first.has("/metadata/deletionGracePeriodSeconds", json!(30))?;
    let version = first.text_at("/metadata/resourceVersion");
    // The same again, or with a longer grace, changes nothing.
    for options in [json!({}), json!({ "gracePeriodSeconds": 60 })] {
        let again = server.delete_with(&one, &options).await?.ok(200)?;
        again.has("/metadata/resourceVersion", json!(version))?;
    }
    // A shorter grace counts from the first delete.
    let shorter = server.delete_with(&one, &json!({ "gracePeriodSeconds": 5 })).await?.ok(200)?;
    let moved = (seconds(&first)? - seconds(&shorter)?).rem_euclid(3600);
    ensure!(moved == 25, "the deletion moved by {moved} s");
    shorter.has("/metadata/deletionGracePeriodSeconds", json!(5))?;
    let refused = server.post(&format!("{one}/binding"), &crate::bodies::binding("bound", "other")).await?;
    refused.ok(409)?;
    // The kubelet's last word.
    let last = server.delete(&format!("{one}?gracePeriodSeconds=0")).await?.ok(200)?;
    last.has("/metadata/deletionGracePeriodSeconds", json!(0))?;
    server.get(&one).await?.ok(404)?;
    server.post(&pods, &pod("negative")).await?.ok(201)?;
    binding_of(server, &pods, "negative").await?;
    let path = format!("{pods}/negative");
    let answer = server.delete_with(&path, &json!({ "gracePeriodSeconds": -1 })).await?.ok(200)?;
    answer.has("/metadata/deletionGracePeriodSeconds", json!(1))?;
    Ok(())
}

pub(crate) async fn preconditions(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let made = server.post(&pods, &pod("guarded")).await?.ok(201)?;
    let (uid, version) = (made.text_at("/metadata/uid"), made.text_at("/metadata/resourceVersion"));
    let one = format!("{pods}/guarded");
    let with = |preconditions: Value| {
        json!({ "kind": "DeleteOptions", "apiVersion": "v1",
                                              "preconditions": preconditions })
    };
    let message = format!(
        "Operation cannot be fulfilled on Pod \"guarded\": the UID in the precondition (other) does not match the UID \
         in record ({uid}). The object might have been deleted and then recreated"
    );
    let answer = server.delete_with(&one, &with(json!({ "uid": "other" }))).await?;
    answer.refused(409, "Conflict", &message)?.has("/details/kind", json!("Pod"))?;
    let message = format!(
        "Operation cannot be fulfilled on Pod \"guarded\": the ResourceVersion in the precondition (1) does not match \
         the ResourceVersion in record ({version}). The object might have been modified"
    );
    let stale = with(json!({ "uid": uid, "resourceVersion": "1" }));
    server.delete_with(&one, &stale).await?.refused(409, "Conflict", &message)?;
    let exact = with(json!({ "uid": uid, "resourceVersion": version }));
    server.delete_with(&one, &exact).await?.ok(200)?;
    server.get(&one).await?.ok(404)?;
    let wrong = json!({ "gracePeriodSeconds": "soon" });
    server.post(&pods, &pod("guarded")).await?.ok(201)?;
    let message =
        "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64";
    server.delete_with(&one, &wrong).await?.refused(400, "BadRequest", message)?;
    Ok(())
}

pub(crate) async fn finished_goes_at_once(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("done")).await?.ok(201)?;
    binding_of(server, &pods, "done").await?;
    let one = format!("{pods}/done");
    let done = json!({ "status": { "phase": "Succeeded" } });
    server.patch("merge", &format!("{one}/status"), &done).await?.ok(200)?;
    server.delete(&one).await?.ok(200)?.has("/metadata/deletionGracePeriodSeconds", json!(0))?;
    server.get(&one).await?.ok(404)?;
    Ok(())
}

pub(crate) async fn finalizers_hold(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let mut body = pod("held");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(&pods, &body).await?.ok(201)?;
    let one = format!("{pods}/held");
    server.delete(&one).await?.ok(200)?;
    let answer = server.get(&one).await?.ok(200)?;
    ensure!(!answer.text_at("/metadata/deletionTimestamp").is_empty(), "it is not terminating");
    let free = json!({ "metadata": { "finalizers": null } });
    server.patch("merge", &one, &free).await?.ok(200)?;
    server.get(&one).await?.ok(404)?;
    Ok(())
}

pub(crate) async fn collection(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let body = crate::bodies::labelled(name, json!({ "k": label }));
        server.post(&pods, &body).await?.ok(201)?;
    }
    let answer = server.delete(&format!("{pods}?labelSelector=k%3Dx")).await?.ok(200)?;
    ensure!(answer.names() == ["a", "c"], "deleted are {:?}", answer.names());
    answer.has("/kind", json!("PodList"))?;
    let left = server.get(&pods).await?.ok(200)?.names();
    ensure!(left == ["b"], "left are {left:?}");
    Ok(())
}

pub(crate) async fn eviction(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("evicted")).await?.ok(201)?;
    binding_of(server, &pods, "evicted").await?;
    let one = format!("{pods}/evicted");
    let running = json!({ "status": { "phase": "Running" } });
    server.patch("merge", &format!("{one}/status"), &running).await?.ok(200)?;
    let eviction =
        json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "evicted" } });
    let answer = server.post(&format!("{one}/eviction"), &eviction).await?.ok(201)?;
    answer.has("/status", json!("Success"))?;
    let answer = server.get(&one).await?.ok(200)?.has("/metadata/deletionGracePeriodSeconds", json!(30))?;
    let conditions = answer.body["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget");
    ensure!(
        target.is_some_and(|c| c["reason"] == "EvictionByEvictionAPI" && c["status"] == "True"),
        "{conditions:?}"
    );
    Ok(())
}
