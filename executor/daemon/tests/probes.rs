//! Probes and metrics over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass::health::{self, Health};
use windlass::metrics::Metrics;
use windlass_core::time::Millis;

/// Status and body of one GET.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let path = path.to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_say_what_the_driver_told_them() {
    let (health, metrics) = (Arc::new(Health::new(30_000)), Arc::new(Metrics::new().unwrap()));
    let stop = CancellationToken::new();
    let any = "127.0.0.1:0".parse().unwrap();
    let address = health::serve(any, health.clone(), metrics.clone(), stop.clone()).await.unwrap();

    assert_eq!(get(address, "/livez").await, (200, "ok\n".into()));
    assert_eq!(get(address, "/readyz").await, (503, "starting\n".into()));
    health.waiting("waiting for the database: no answer");
    assert_eq!(get(address, "/readyz").await, (503, "waiting for the database: no answer\n".into()));
    health.ready("standby");
    assert_eq!(get(address, "/readyz").await, (200, "standby\n".into()));
    health.beat(Millis(0));
    let (status, body) = get(address, "/livez").await;
    assert!(status == 503 && body.starts_with("the loop has not turned for "), "{status} {body}");
    assert_eq!(get(address, "/nothing").await.0, 404);

    metrics.wakes.with_label_values(&["socket"]).inc();
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "windlass_wakes_total{way=\"socket\"} 1",
        "windlass_failures_total{reason=\"OomKilled\"} 0",
        "windlass_launches{stage=\"running\"} 0",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }

    let taken = health::serve(address, health, metrics, stop.clone()).await.unwrap_err().to_string();
    assert!(taken.starts_with(&format!("cannot listen on {address} for probes and metrics")), "{taken}");
    stop.cancel();
}
