//! Requests without TLS to a port of this machine: the daemon's probes and metrics, etcd.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(5);

/// Status and body of a GET.
pub async fn get(port: u16, path: &str) -> Result<(u16, String)> {
    ask(port, "GET", path, "").await
}

/// Status and body of the answer to a request with a body in JSON, or none.
pub async fn ask(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        let length = body.len();
        // 1.0: the answer comes in one piece and ends with the connection.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        server.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        server.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let what = || format!("{method} {path} on port {port}");
    let answer = timeout(WITHIN, exchange).await;
    let answer = answer.with_context(|| format!("{}: no answer", what()))?.with_context(what)?;
    split(&answer).with_context(|| format!("{}: no HTTP answer", what()))
}

fn split(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_read() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nnot ready\n\r\n\r\nreally";
        assert_eq!(split(answer), Some((503, "not ready\n\r\n\r\nreally".to_owned())));
        assert_eq!(split("SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(split(""), None);
    }
}
