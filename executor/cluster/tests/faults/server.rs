//! An HTTP/1.1 server that answers what the test says, byte by byte, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With query.
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What goes back, and what becomes of the connection then.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    KeepAlive,
    Close,
    /// Nothing more is sent until the client closes.
    Hang,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Reply {
    pub(crate) fn json(status: u16, headers: &str, body: &str) -> Self {
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        Self { bytes: (head + body).into_bytes(), then: Then::KeepAlive }
    }

    /// The start of a chunked answer with these lines, each a chunk.
    pub(crate) fn lines(lines: &[String], then: Then) -> Self {
        let mut text = String::from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for line in lines {
            text += &format!("{:x}\r\n{line}\r\n", line.len());
        }
        if then == Then::KeepAlive {
            text += "0\r\n\r\n";
        }
        Self { bytes: text.into_bytes(), then }
    }

    pub(crate) fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

impl Server {
    /// `answer` gets the request and how many came before it.
    pub(crate) async fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, record) = (Arc::new(answer), asked.clone());
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, record) = (answer.clone(), record.clone());
                connections.spawn(async move {
                    let _ = serve(stream, &*answer, &record).await;
                });
            }
        });
        Self { address, asked, accepting }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Asked, usize) -> Reply + Send + Sync),
    record: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    while let Some(asked) = request(&mut stream, &mut read).await? {
        let before = {
            let mut record = record.lock().unwrap();
            record.push(asked.clone());
            record.len() - 1
        };
        let reply = answer(&asked, before);
        stream.write_all(&reply.bytes).await?;
        match reply.then {
            Then::KeepAlive => {}
            Then::Close => return Ok(()),
            Then::Hang => {
                let mut rest = [0; 64];
                while stream.read(&mut rest).await? > 0 {}
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<Asked>> {
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|l| {
                    l.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_owned())
                })
                .map_or(0, |v| v.parse::<usize>().unwrap());
            if read.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&read[end + 4..end + 4 + length]).into_owned();
                read.drain(..end + 4 + length);
                let mut first = head.split(' ');
                let method = first.next().unwrap_or_default().to_owned();
                let path = first.next().unwrap_or_default().to_owned();
                return Ok(Some(Asked { method, path, head, body }));
            }
        }
        let mut chunk = [0; 8192];
        let got = stream.read(&mut chunk).await?;
        if got == 0 {
            return Ok(None);
        }
        read.extend_from_slice(&chunk[..got]);
    }
}
