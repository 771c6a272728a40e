//! The login to an RDS PostgreSQL with IAM database authentication: TLS alone, a token in the place of the password, and
//! RDS's words for one that it does not take. Behind it is a PostgreSQL that trusts whoever comes from here.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::server::{StartError, tls};

/// Code of an SSLRequest (PostgreSQL's documentation of its message formats).
const SSL_REQUEST: u32 = 80_877_103;
/// AuthenticationCleartextPassword.
const SAY_PASSWORD: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];
/// Longer than any startup message and any token.
const MESSAGE_MAX_BYTES: u32 = 16 * 1024;

/// Whether this token is taken, of this user.
pub type Judge = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// A running one. Dropping it ends it, with all connections that came through.
pub struct Rds {
    address: SocketAddr,
    authority: String,
    accepting: JoinHandle<()>,
}

impl Rds {
    /// In front of the PostgreSQL at `behind`.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(behind: SocketAddr, judge: Judge) -> Result<Self, StartError> {
        let (acceptor, authority) = tls(&[])?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, judge) = (acceptor.clone(), judge.clone());
                connections.spawn(async move {
                    if let Err(error) = serve(stream, acceptor, behind, &judge).await {
                        tracing::debug!(%error, "a connection to the database ended");
                    }
                });
            }
        });
        Ok(Self { address, authority, accepting })
    }

    /// On 127.0.0.1, which its certificate names.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The authority that clients are to trust, as PEM.
    pub fn bundle(&self) -> &str {
        &self.authority
    }
}

impl Drop for Rds {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
    behind: SocketAddr,
    judge: &Judge,
) -> std::io::Result<()> {
    let (length, code) = (stream.read_u32().await?, stream.read_u32().await?);
    if (length, code) != (8, SSL_REQUEST) {
        return stream.write_all(&fatal("28000", "no pg_hba.conf entry for this host, no encryption")).await;
    }
    stream.write_all(b"S").await?;
    let mut client = acceptor.accept(stream).await?;
    let startup = message(&mut client).await?;
    let user = user_of(&startup);
    client.write_all(&SAY_PASSWORD).await?;
    let kind = client.read_u8().await?;
    let password = message(&mut client).await?;
    let password = String::from_utf8_lossy(&password).trim_end_matches('\0').to_owned();
    if kind != b'p' || !judge(&user, &password) {
        let words = format!("PAM authentication failed for user \"{user}\"");
        client.write_all(&fatal("28000", &words)).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(behind).await?;
    server.write_u32(u32::try_from(startup.len() + 4).unwrap_or(u32::MAX)).await?;
    server.write_all(&startup).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// What follows a length that counts itself.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    if !(4..=MESSAGE_MAX_BYTES).contains(&length) {
        return Err(std::io::Error::other(format!("a message of {length} bytes")));
    }
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// From a startup message: the protocol's version, then names and values.
fn user_of(startup: &[u8]) -> String {
    let texts: Vec<&[u8]> = startup.get(4..).unwrap_or_default().split(|byte| *byte == 0).collect();
    let user = texts.chunks_exact(2).find(|pair| pair[0] == b"user").map(|pair| pair[1]);
    String::from_utf8_lossy(user.unwrap_or_default()).into_owned()
}

/// An ErrorResponse.
fn fatal(code: &str, words: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{words}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}
