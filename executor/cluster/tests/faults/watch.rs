//! The watch: goes on from where it was, starts over where it must, notices a dead connection.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use serde_json::json;
use tokio::time::timeout;
use windlass_cluster::{Cluster, Namespaces};
use windlass_core::cluster::PodEvent;
use windlass_core::ids::InstallationId;

use crate::server::{Reply, Server, Then};
use crate::{client, pod};

type Events = Pin<Box<dyn Stream<Item = PodEvent> + Send>>;

fn watch(cluster: &Cluster, namespaces: &[&str]) -> Events {
    let namespaces = Namespaces::Only(namespaces.iter().map(|n| (*n).to_owned()).collect());
    Box::pin(cluster.watch(&namespaces, &InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into())))
}

async fn next(events: &mut Events) -> String {
    let event = timeout(Duration::from_secs(20), events.next()).await.expect("no event in 20 s").unwrap();
    match event {
        PodEvent::Seen(view) => format!("seen {}", view.pod.name),
        PodEvent::Deleted(view) => format!("deleted {}", view.pod.name),
        PodEvent::Listed(uids) => format!("listed {}", uids.iter().map(|u| u.0.as_str()).collect::<String>()),
        PodEvent::Interrupted { error } => format!("interrupted {error}"),
    }
}

fn line(kind: &str, name: &str, uid: &str, version: &str) -> String {
    json!({ "type": kind, "object": pod(name, uid, version) }).to_string() + "\n"
}

fn whole_list(version: &str) -> String {
    json!({ "type": "BOOKMARK", "object": { "kind": "Pod", "apiVersion": "v1", "metadata": {
        "resourceVersion": version, "annotations": { "k8s.io/initial-events-end": "true" } } } })
    .to_string()
        + "\n"
}

#[tokio::test]
async fn a_watch_goes_on_from_the_last_whole_line() {
    let server = Server::start(|asked, _| {
        if asked.path.contains("sendInitialEvents=true") {
            let torn = line("MODIFIED", "torn", "t", "9")[..60].to_owned();
            let lines = [line("ADDED", "a", "A", "5"), whole_list("6"), line("ADDED", "b", "B", "8"), torn];
            Reply::lines(&lines, Then::Close)
        } else if asked.path.contains("resourceVersion=8") {
            Reply::lines(&[line("DELETED", "a", "A", "12")], Then::KeepAlive)
        } else {
            Reply::lines(&[], Then::Hang)
        }
    })
    .await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let mut events = watch(&cluster, &["etl"]);
    assert_eq!(next(&mut events).await, "seen a");
    assert_eq!(next(&mut events).await, "listed A");
    assert_eq!(next(&mut events).await, "seen b");
    assert!(next(&mut events).await.starts_with("interrupted the connection to the API server"));
    assert_eq!(next(&mut events).await, "deleted a");
    // The server ended that one in order: silently resumed behind it.
    let silent = timeout(Duration::from_millis(500), events.next());
    assert!(silent.await.is_err());
    let paths: Vec<_> = server.asked().into_iter().map(|a| a.path).collect();
    assert!(paths[0].starts_with("/api/v1/namespaces/etl/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=25&labelSelector=windlass.dev/installation%3D6f1c0f8e&"), "{paths:?}");
    assert!(!paths[0].contains("resourceVersion="), "a list is a consistent read: {paths:?}");
    assert!(paths[2].ends_with("&resourceVersion=12"), "{paths:?}");
}

#[tokio::test]
async fn a_half_open_watch_is_noticed_and_resumed() {
    let server = Server::start(|asked, _| {
        if asked.path.contains("sendInitialEvents=true") {
            Reply::lines(&[whole_list("6")], Then::Hang)
        } else {
            Reply::lines(&[line("ADDED", "a", "A", "7")], Then::Hang)
        }
    })
    .await;
    let (_folder, cluster) = client(&server, |mut c| {
        c.watch_timeout = Duration::from_secs(1);
        c
    })
    .await;
    let mut events = watch(&cluster, &["etl"]);
    assert_eq!(next(&mut events).await, "listed ");
    // 1 s that the server was given and 5 s of margin.
    let cut = next(&mut events).await;
    assert!(cut.contains("did not answer `watch pods of namespace etl` within 6000 ms"), "{cut}");
    assert_eq!(next(&mut events).await, "seen a");
    assert!(server.asked()[1].path.ends_with("&resourceVersion=6"));
}

#[tokio::test]
async fn history_that_is_gone_starts_a_new_list() {
    let server = Server::start(|asked, before| {
        if asked.path.contains("resourceVersion=6") {
            let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "code": 410, "reason": "Expired",
                "message": "too old resource version: 6 (9)" } });
            return Reply::lines(&[gone.to_string() + "\n"], Then::KeepAlive);
        }
        let lines = if before == 0 {
            vec![line("ADDED", "a", "A", "5"), whole_list("6")]
        } else {
            vec![line("ADDED", "b", "B", "8"), whole_list("9")]
        };
        Reply::lines(&lines, if before == 0 { Then::KeepAlive } else { Then::Hang })
    })
    .await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let mut events = watch(&cluster, &["etl"]);
    for expected in ["seen a", "listed A", "seen b", "listed B"] {
        assert_eq!(next(&mut events).await, expected);
    }
}

#[tokio::test]
async fn a_server_that_streams_no_lists_is_read_in_pages() {
    let server = Server::start(|asked, _| {
        if asked.path.contains("sendInitialEvents") {
            let no = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled","reason":"Invalid","code":422}"#;
            return Reply::json(422, "", no);
        }
        if asked.path.contains("watch=true") {
            return Reply::lines(&[], Then::Hang);
        }
        let page = if asked.path.contains("continue=t%3D") {
            json!({ "kind": "PodList", "metadata": { "resourceVersion": "9" }, "items": [pod("b", "B", "4")] })
        } else {
            // A pod with a foreign label value, one that is no pod, and one of ours.
            let mut foreign = pod("f", "F", "2");
            foreign["metadata"]["labels"]["windlass.dev/launch"] = json!("foreign");
            let odd = json!({ "metadata": { "name": 1 } });
            json!({ "kind": "PodList", "metadata": { "resourceVersion": "9", "continue": "t=" },
                "items": [foreign, odd, pod("a", "A", "3")] })
        };
        Reply::json(200, "", &page.to_string())
    })
    .await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let mut events = watch(&cluster, &["etl"]);
    for expected in ["seen a", "seen b", "listed AB"] {
        assert_eq!(next(&mut events).await, expected);
    }
    assert!(timeout(Duration::from_millis(300), events.next()).await.is_err());
    let paths: Vec<_> = server.asked().into_iter().map(|a| a.path).collect();
    assert!(paths[1].contains("limit=500") && !paths[1].contains("resourceVersion"), "{paths:?}");
    assert!(paths[3].ends_with("&resourceVersion=9"), "{paths:?}");
}

#[tokio::test]
async fn an_outage_is_told_and_waited_out_with_growing_pauses() {
    let server = Server::start(|_, before| {
        if before < 3 { Reply::json(503, "", "down") } else { Reply::lines(&[whole_list("6")], Then::Hang) }
    })
    .await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let started = tokio::time::Instant::now();
    let mut events = watch(&cluster, &["etl"]);
    for _ in 0..3 {
        let told = next(&mut events).await;
        assert!(told.contains("503"), "{told}");
    }
    assert_eq!(next(&mut events).await, "listed ");
    // 100 + 200 + 400 ms.
    assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
}

#[tokio::test]
async fn one_namespace_without_rights_does_not_keep_the_others_list_back() {
    let server = Server::start(|asked, _| {
        if asked.path.contains("/namespaces/shut/") {
            Reply::json(
                403,
                "",
                r#"{"kind":"Status","code":403,"reason":"Forbidden","message":"pods is forbidden"}"#,
            )
        } else {
            Reply::lines(&[line("ADDED", "a", "A", "5"), whole_list("6")], Then::Hang)
        }
    })
    .await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let mut events = watch(&cluster, &["etl", "shut"]);
    let mut told = Vec::new();
    while !told.contains(&"listed A".to_owned()) {
        told.push(next(&mut events).await);
    }
    assert!(told.contains(&"seen a".to_owned()));
    assert!(
        told.iter().any(|t| t.contains("watch pods of namespace shut` with 403: pods is forbidden")),
        "{told:?}"
    );
}
