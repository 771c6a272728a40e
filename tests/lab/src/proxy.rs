//! A TCP proxy that breaks connections as networks do: cut where they are, cut with the answer lost, or silent. It can also
//! lead elsewhere from now on, as a name in DNS does after a failover.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 500;
/// A silent connection is held open for so long: longer than any client of the fault runs should believe in it.
const SILENT_FOR: Duration = Duration::from_secs(60);
const BUFFER: usize = 16 * 1024;

/// What is done to the connections that are open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Cut,
    Silence,
}

/// A listener in front of one server.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    server: Arc<AtomicU16>,
    orders: broadcast::Sender<Order>,
    answers_to_lose: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of the loopback address that the system chooses.
    pub async fn start(server_port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("open a port for a fault proxy")?;
        let port = listener.local_addr()?.port();
        let (orders, _) = broadcast::channel(16);
        let answers_to_lose = Arc::new(AtomicUsize::new(0));
        let server = Arc::new(AtomicU16::new(server_port));
        let task =
            tokio::spawn(accept(listener, Arc::clone(&server), orders.clone(), Arc::clone(&answers_to_lose)));
        Ok(Self { port, server, orders, answers_to_lose, task })
    }

    /// On 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go to this port of 127.0.0.1. Open ones stay where they are.
    pub fn lead_to(&self, server_port: u16) {
        self.server.store(server_port, Ordering::Relaxed);
    }

    /// Ends all connections where they are. Returns how many there were.
    pub fn cut(&self) -> usize {
        // Without a receiver there is no connection.
        self.orders.send(Order::Cut).unwrap_or(0)
    }

    /// The connections that are open now stay open, and nothing goes through them any more. New ones work.
    pub fn silence(&self) -> usize {
        self.orders.send(Order::Silence).unwrap_or(0)
    }

    /// The next `count` answers of the server are swallowed, and their connections cut: what was asked for was done, and
    /// nobody is told.
    pub fn lose_answers(&self, count: usize) {
        self.answers_to_lose.store(count, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    server: Arc<AtomicU16>,
    orders: broadcast::Sender<Order>,
    answers_to_lose: Arc<AtomicUsize>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else { continue };
        let (orders, answers_to_lose) = (orders.subscribe(), Arc::clone(&answers_to_lose));
        let server = SocketAddr::from(([127, 0, 0, 1], server.load(Ordering::Relaxed)));
        tokio::spawn(async move {
            // A server that is away shows as a connection that ends at once.
            if let Ok(server) = TcpStream::connect(server).await {
                carry(client, server, orders, &answers_to_lose).await;
            }
            drop(permit);
        });
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    mut orders: broadcast::Receiver<Order>,
    answers_to_lose: &AtomicUsize,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let order = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = pump(from_client, to_server, None) => Order::Cut,
            () = pump(from_server, to_client, Some(answers_to_lose)) => Order::Cut,
            order = orders.recv() => order.unwrap_or(Order::Cut),
        }
    };
    if order == Order::Silence {
        // What the client sends is taken and goes nowhere; the server's words stay in its buffers.
        let swallow = async {
            let mut buffer = [0; BUFFER];
            while client.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        };
        let _ = timeout(SILENT_FOR, swallow).await;
    }
}

/// Copies until one side ends, or an answer is to be lost.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    answers_to_lose: Option<&AtomicUsize>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(length) = from.read(&mut buffer).await else { return };
        let lose = |left: usize| left.checked_sub(1);
        let lost = answers_to_lose
            .is_some_and(|left| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose).is_ok());
        if length == 0 || lost || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn new_connections_go_where_it_leads_now() -> Result<()> {
        let ((one, heard_by_one), (two, heard_by_two)) = (echo().await?, echo().await?);
        let proxy = Proxy::start(one).await?;
        let mut before = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        say(&mut before).await?;
        proxy.lead_to(two);
        let mut after = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        say(&mut after).await?;
        say(&mut before).await?;
        assert_eq!((heard_by_one.load(Ordering::Relaxed), heard_by_two.load(Ordering::Relaxed)), (2, 1));
        Ok(())
    }

    /// A server that says back what it hears, and counts what it heard.
    async fn echo() -> Result<(u16, Arc<AtomicUsize>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, heard) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut byte = [0; 1];
                    while client.read_exact(&mut byte).await.is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                        let _ = client.write_all(&byte).await;
                    }
                });
            }
        });
        Ok((port, heard))
    }

    async fn say(client: &mut TcpStream) -> std::io::Result<()> {
        client.write_all(b"x").await?;
        client.read_exact(&mut [0; 1]).await.map(|_| ())
    }

    #[tokio::test]
    async fn connections_are_carried_cut_silenced_and_robbed_of_an_answer() -> Result<()> {
        let (port, heard) = echo().await?;
        let proxy = Proxy::start(port).await?;
        let open = || TcpStream::connect(("127.0.0.1", proxy.port()));
        let mut client = open().await?;
        say(&mut client).await?;
        assert_eq!(proxy.cut(), 1);
        assert!(say(&mut client).await.is_err(), "it was cut");

        let mut client = open().await?;
        say(&mut client).await?;
        proxy.silence();
        let silent = timeout(Duration::from_millis(300), say(&mut client)).await;
        assert!(silent.is_err(), "no answer and no end: {silent:?}");
        let mut other = open().await?;
        say(&mut other).await?;

        let before = heard.load(Ordering::Relaxed);
        proxy.lose_answers(1);
        assert!(say(&mut other).await.is_err(), "its answer was lost");
        assert_eq!(heard.load(Ordering::Relaxed), before + 1, "and the server had heard it");
        say(&mut open().await?).await?;
        Ok(())
    }
}
