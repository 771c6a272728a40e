//! A request without TLS to a port of this machine: probes of the daemon, etcd.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(3);

/// The whole answer, status line and all.
pub(crate) async fn ask(port: u16, method: &str, path: &str, body: &str) -> Result<String> {
    let exchange = async {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        server.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        server.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(WITHIN, exchange).await;
    answer
        .with_context(|| format!("{method} {path}: no answer"))?
        .with_context(|| format!("{method} {path} on port {port}"))
}
