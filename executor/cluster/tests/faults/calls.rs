//! Single calls: sent once, ended in time, read for what they say.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use windlass_core::ids::{Attempt, PodRef, PodUid};

use crate::server::{Reply, Server, Then};
use crate::{client, create, launch, pod};

const LIMIT: Duration = Duration::from_secs(5);

fn status(code: u16, reason: &str, message: &str, kind: &str) -> String {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
        "details": { "name": "a", "kind": kind }, "code": code })
    .to_string()
}

fn at() -> PodRef {
    PodRef { namespace: "etl".into(), name: "a".into() }
}

#[tokio::test]
async fn a_create_is_posted_exactly_once_whatever_comes_back() {
    for code in [429, 500, 502, 503, 504] {
        let server =
            Server::start(move |_, _| Reply::json(code, "retry-after: 1\r\n", "upstream request timeout"))
                .await;
        let (_folder, cluster) = client(&server, |c| c).await;
        let answer = create(&cluster, LIMIT).await;
        match code {
            429 => assert_eq!(answer, CreateAnswer::TooManyRequests { retry_after_ms: Some(1_000) }),
            _ => assert!(matches!(answer, CreateAnswer::Unknown { .. }), "{code}: {answer:?}"),
        }
        assert_eq!(server.asked().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn an_answer_cut_in_the_middle_leaves_the_create_unknown_and_unrepeated() {
    let server = Server::start(|_, _| {
        let whole = Reply::json(201, "", &pod("a", "u", "1").to_string());
        Reply { bytes: whole.bytes[..whole.bytes.len() / 2].to_vec(), then: Then::Close }
    })
    .await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let CreateAnswer::Unknown { error } = create(&cluster, LIMIT).await else { panic!("not unknown") };
    assert!(error.contains("broke during `create pod etl/a`"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_create_and_doubles_none() {
    let server =
        Server::start(|_, _| Reply::json(201, "", &pod("a", "u", "1").to_string()).then(Then::Close)).await;
    let (_folder, cluster) = client(&server, |c| c).await;
    for _ in 0..20 {
        assert!(matches!(create(&cluster, LIMIT).await, CreateAnswer::Created(_)));
    }
    assert_eq!(server.asked().len(), 20);
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_the_server_was_told_of_it() {
    let server = Server::start(|_, _| Reply { bytes: Vec::new(), then: Then::Hang }).await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let started = Instant::now();
    let answer = create(&cluster, Duration::from_millis(300)).await;
    assert!(started.elapsed() < Duration::from_secs(3));
    let CreateAnswer::Unknown { error } = answer else { panic!("{answer:?}") };
    assert!(error.contains("did not answer `create pod etl/a` within 300 ms"), "{error}");
    let remedy = "; where admission webhooks take longer, raise create.timeout-ms and term.lease-ms";
    assert!(error.ends_with(remedy), "{error}");
    let path = server.asked()[0].path.clone();
    let told =
        path.split("timeout=").nth(1).and_then(|t| t.strip_suffix("ms")).unwrap().parse::<u64>().unwrap();
    assert!((1..=300).contains(&told), "{path}");
}

#[tokio::test]
async fn with_all_connections_taken_a_call_ends_unsent() {
    let server = Server::start(|_, _| Reply { bytes: Vec::new(), then: Then::Hang }).await;
    let (_folder, cluster) = client(&server, |mut c| {
        c.max_connections = 1;
        c
    })
    .await;
    let slow = tokio::spawn({
        let cluster = cluster.clone();
        async move { create(&cluster, Duration::from_secs(2)).await }
    });
    while server.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    let CreateAnswer::Unknown { error } = create(&cluster, Duration::from_millis(100)).await else {
        panic!("not unknown")
    };
    assert!(error.contains("nothing was sent"), "{error}");
    assert_eq!(server.asked().len(), 1);
    slow.abort();
}

#[tokio::test]
async fn after_a_401_the_next_call_carries_the_new_token() {
    let server = Server::start(|asked, _| {
        if asked.head.contains("Bearer second") {
            Reply::json(404, "", &status(404, "NotFound", "pods \"a\" not found", "pods"))
        } else {
            Reply::json(401, "", &status(401, "Unauthorized", "Unauthorized", ""))
        }
    })
    .await;
    let (folder, cluster) = client(&server, |c| c).await;
    std::fs::write(folder.path().join("token"), "second").unwrap();
    let GetAnswer::Failed { error } = cluster.get(&at(), &launch(), Attempt::FIRST).await else {
        panic!("the first token is not accepted")
    };
    assert!(error.contains("401: Unauthorized (hint: the token has expired"), "{error}");
    assert!(!error.contains("first"), "no token in an error: {error}");
    assert_eq!(cluster.get(&at(), &launch(), Attempt::FIRST).await, GetAnswer::Gone);
}

#[tokio::test]
async fn only_an_api_servers_404_says_that_a_pod_is_gone() {
    for (body, gone) in [
        (status(404, "NotFound", "pods \"a\" not found", "pods"), true),
        ("404 page not found".to_owned(), false),
        (status(404, "NotFound", "the server could not find the requested resource", ""), false),
    ] {
        let server = Server::start(move |_, _| Reply::json(404, "", &body)).await;
        let (_folder, cluster) = client(&server, |c| c).await;
        let got = cluster.get(&at(), &launch(), Attempt::FIRST).await;
        assert_eq!(got == GetAnswer::Gone, gone, "{got:?}");
        let deleted = cluster.delete(&at(), &PodUid("u".into()), None, None).await;
        assert_eq!(deleted == DeleteAnswer::Gone, gone, "{deleted:?}");
        let sent = server.asked().pop().unwrap();
        assert_eq!(sent.method, "DELETE");
        assert!(sent.body.contains(r#""preconditions":{"uid":"u"}"#), "{}", sent.body);
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_looked_up() {
    let other = "zyxwvutsrqponmlkjihgfedcba";
    let cases = [
        (200, pod("a", "u", "7").to_string(), "Adopted"),
        (200, pod("a", "u", "7").to_string().replace(crate::LAUNCH, other), "NameTaken"),
        (
            200,
            pod("a", "u", "7").to_string().replace(
                "\"resourceVersion\"",
                "\"deletionTimestamp\":\"2026-11-24T03:30:00Z\",\"resourceVersion\"",
            ),
            "NameTaken",
        ),
        (404, status(404, "NotFound", "pods \"a\" not found", "pods"), "Unknown"),
        (500, "boom".to_owned(), "Unknown"),
    ];
    for (code, body, expected) in cases {
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "POST" => {
                Reply::json(409, "", &status(409, "AlreadyExists", "pods \"a\" already exists", "pods"))
            }
            _ => Reply::json(code, "", &body),
        })
        .await;
        let (_folder, cluster) = client(&server, |c| c).await;
        let answer = format!("{:?}", create(&cluster, LIMIT).await);
        assert!(answer.starts_with(expected), "{expected}: {answer}");
        let get = server.asked()[1].clone();
        assert_eq!((get.method.as_str(), get.path.as_str()), ("GET", "/api/v1/namespaces/etl/pods/a"));
    }
}

#[tokio::test]
async fn an_unreachable_api_server_is_named_with_cause_and_remedy() {
    let server = Server::start(|_, _| Reply::json(200, "", "{}")).await;
    let (_folder, cluster) = client(&server, |mut c| {
        // Port 1 of loopback: nobody listens.
        if let windlass_cluster::Source::ServiceAccount { url, .. } = &mut c.source {
            *url = "http://127.0.0.1:1".into();
        }
        c
    })
    .await;
    let GetAnswer::Failed { error } = cluster.get(&at(), &launch(), Attempt::FIRST).await else { panic!() };
    assert!(
        error.starts_with("the API server http://127.0.0.1:1 cannot be reached for `get pod etl/a`: ")
            && error.contains("refused")
            && error.contains("(hint: check address"),
        "{error}"
    );
    let findings =
        cluster.preflight(&windlass_cluster::Namespaces::All, windlass_cluster::Looks::default()).await;
    assert_eq!((findings.len(), findings[0].level), (1, windlass_cluster::Level::Error));
}

#[tokio::test]
async fn a_log_keeps_its_end_within_the_bound() {
    let server = Server::start(|_, _| {
        let text = "early\n".repeat(100) + "Traceback: é last";
        Reply::json(200, "", &text)
    })
    .await;
    let (_folder, cluster) = client(&server, |c| c).await;
    let log = cluster.logs(&at(), "base", 50, 7, LIMIT).await.unwrap();
    assert_eq!(log, "é last");
    assert!(server.asked()[0].path.contains("/pods/a/log?container=base&tailLines=50&limitBytes="));
    let error = cluster.logs(&at(), "base?follow=true", 50, 7, LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), "setting");
}
