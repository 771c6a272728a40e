//! `windlass run`: waits for what it needs (`start`), then drives the engine until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use scheduler_bridge::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_engine::Engine;

use crate::config::Config;
use crate::config::environment::Environment;
use crate::driver::{Driver, Edges, FailedLogs, Owners, WakeSource};
use crate::health::{self, Health};
use crate::holder::Holder;
use crate::login::Login;
use crate::metrics::Metrics;
use crate::pods::Renderer;
use crate::start::{Ready, beating, wait_for_all};
use crate::surroundings::Watcher;

/// Connections that a call still holds are not waited for longer than this.
const CLOSE: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT; a second one ends it at once, without handing the term over. Errors are only those that
/// waiting cannot mend: configuration, the port, the lock.
pub async fn run(config: Config, login: Login, env: &Environment) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let mut work = std::pin::pin!(work(config, login, env, stop.clone()));
    tokio::select! {
        ended = &mut work => return ended,
        name = signals.next() => info!("{name}: finishing what is under way, then handing over the term"),
    }
    stop.cancel();
    tokio::select! {
        ended = work => ended,
        name = signals.next() => bail!("{name} once more: ended at once; a standby takes over when the term expires"),
    }
}

async fn work(
    config: Config,
    login: Login,
    env: &Environment,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new().context("metrics cannot be registered")?);
    let health = Arc::new(Health::new(config.own.server.live_timeout_seconds * 1_000));
    let holder = Holder::take(&config.own.server.state_directory, env)?;
    // Served to the end, also while it drains.
    let ended = CancellationToken::new();
    let _at_the_end = ended.clone().drop_guard();
    let listening = health::serve(config.own.server.listen, health.clone(), metrics.clone(), ended).await?;
    info!("windlass {} as `{}`, probes and metrics on {listening}", env!("CARGO_PKG_VERSION"), holder.id());
    for note in &config.notes {
        warn!("{note}");
    }
    let ready = wait_for_all(&config, &login, &metrics, &health, &stop).await;
    let Some(Ready { store, cluster, installation }) = ready else { return Ok(()) };
    let mut renderer = Renderer::new(config.pod_settings(installation.clone()), &config, metrics.clone());
    let namespaces = config.kubernetes.namespaces.clone();
    // Without a sender there is never any news.
    let mut news = mpsc::channel(1).1;
    let watcher = Watcher::start(&cluster, &namespaces, config.rules.as_deref(), metrics.clone());
    if let Some((surroundings, of_cluster)) = beating(&health, watcher).await {
        renderer = renderer.in_surroundings(surroundings);
        news = of_cluster;
    }
    let edges = Edges {
        store: store.clone(),
        cluster,
        renderer: Arc::new(renderer),
        installation,
        holder: holder.id().to_owned(),
        namespaces,
        logs: FailedLogs::new(config.own.launch.failed_log_lines),
        owners: Owners::default(),
        hides_pods: config.hides_from_neighbours(),
        metrics,
        grace_seconds: config.kubernetes.delete_grace_seconds,
        retention: Duration::from_secs(u64::from(config.own.retention.days) * 86_400),
    };
    let engine = Engine::new(config.engine_settings(), config.launch_policy());
    let wakes = wake_sources(&config, &store).await;
    tokio::select! {
        () = Driver::new(engine, edges, health).run(wakes, news, stop) => {}
        () = login.keep(&store) => {}
    }
    if tokio::time::timeout(CLOSE, store.close()).await.is_err() {
        info!("a call to the database has no answer yet and is given up");
    }
    Ok(())
}

async fn wake_sources(config: &Config, store: &Store) -> Vec<WakeSource> {
    let mut sources = Vec::new();
    let socket = &config.own.wake.socket;
    if !socket.as_os_str().is_empty() {
        sources.push(WakeSource::Socket(socket.clone()));
    }
    if config.own.database.listen {
        match store.wake_listener().await {
            Ok(Some(listener)) => sources.push(WakeSource::Listen(listener)),
            Ok(None) => {
                info!("NOTIFY does not reach through this connection: new tasks are found by polling")
            }
            Err(error) => {
                warn!("no wake-ups from the database: {}; new tasks are found by polling", error.chain())
            }
        }
    }
    sources
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
