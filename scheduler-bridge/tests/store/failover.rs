//! A replica takes the primary's place, and the name of the database leads to it a while later: to a real primary and its
//! real replica through a proxy that stands for that name.

use std::time::{Duration, Instant};

use anyhow::Context;
use scheduler_bridge::{BridgeError, ClaimBatch, Store};
use windlass_core::ids::Epoch;
use windlass_core::store::{ClaimAnswer, IntakePass, TermAnswer};
use windlass_lab::postgres::Postgres;
use windlass_lab::proxy::Proxy;

use crate::support::{Lab, Server, queueing, store_at};

/// No call may take longer than this to say that it cannot.
const SOON: Duration = Duration::from_secs(8);

struct Pair {
    lab: Lab,
    replica: Postgres,
    proxy: Proxy,
    /// Through the proxy.
    store: Store,
}

impl Pair {
    async fn start(version: u32) -> anyhow::Result<Self> {
        let lab = Lab::alone(version).await?;
        let server = lab.server.clone();
        let replica = tokio::task::spawn_blocking(move || server.postgres.replica()).await??;
        let proxy = Proxy::start(lab.server.postgres.port()).await?;
        let url = format!("postgresql://windlass@127.0.0.1:{}/{}", proxy.port(), lab.database);
        let store = store_at(&url).await?;
        store.check().await?;
        Ok(Self { lab, replica, proxy, store })
    }

    async fn lead(&self) -> anyhow::Result<Epoch> {
        match self.store.acquire_term("a", 60_000).await {
            TermAnswer::Held { epoch } => Ok(epoch),
            other => anyhow::bail!("{other:?}"),
        }
    }

    async fn claim(&self, epoch: Epoch, task: &str) -> Result<ClaimBatch, BridgeError> {
        self.store.claim(epoch, std::slice::from_ref(&self.lab.claim_of(&queueing(task)))).await
    }

    /// The replica has all up to the task `two`, which was written last, and takes over.
    async fn promote(&self) -> anyhow::Result<()> {
        let has_it = "SELECT count(*) FROM task_instance WHERE task_id = 'two'";
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.replica.psql(&self.lab.database, has_it, &[])? != "1" {
            anyhow::ensure!(Instant::now() < deadline, "the replica does not follow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::task::block_in_place(|| self.replica.promote())
    }

    /// What cannot be done on a replica is refused, whatever it is, and nothing hangs.
    async fn everything_is_refused(&self, epoch: Epoch) -> anyhow::Result<()> {
        let began = Instant::now();
        let answer = self.store.renew_term("a", epoch, 60_000).await;
        let TermAnswer::Failed { error } = &answer else { anyhow::bail!("{answer:?}") };
        assert!(error.contains("is a read-only replica"), "{error}");
        let of = [(self.lab.claim_of(&queueing("one")).launch, queueing("one"))];
        let refused = [
            self.claim(epoch, "two").await.err(),
            self.store.intake(IntakePass::Full, 10).await.err(),
            self.store.intake(IntakePass::Handover, 10).await.err(),
            self.store.read_tasks(&of).await.err(),
            self.store.load(epoch).await.err(),
        ];
        for error in refused {
            let error = error.context("it was done on a replica")?;
            assert_eq!((error.kind(), error.is_transient()), ("read_only", true), "{error}");
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        // For people.
        assert!(!self.store.status(5).await?.launches.is_empty());
        Ok(())
    }

    async fn goes_on(&self) -> anyhow::Result<()> {
        let answer = self.store.acquire_term("a", 60_000).await;
        let TermAnswer::HeldAfterLoss { epoch } = answer else { anyhow::bail!("{answer:?}") };
        let (made, rows) = self.store.recover(epoch, &[]).await?;
        assert_eq!((made, rows.len()), (0, 1), "its state is kept");
        let ClaimBatch::Answers(answers) = self.claim(epoch, "two").await? else { anyhow::bail!("fenced") };
        assert!(matches!(answers.as_slice(), [ClaimAnswer::Claimed(_)]), "{answers:?}");
        assert!(
            matches!(self.claim(Epoch(1), "one").await?, ClaimBatch::Fenced),
            "the old term writes nothing"
        );
        let count = "SELECT count(*) FROM windlass.launch";
        assert_eq!(self.replica.psql(&self.lab.database, count, &[])?, "2");
        assert_eq!(
            self.lab.server.postgres.psql(&self.lab.database, count, &[])?,
            "1",
            "the old one has nothing new"
        );
        Ok(())
    }
}

/// As on RDS: the old writer restarts as a replica, and the name leads to it until DNS has changed.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_on_the_old_writer_and_the_new_one_is_found() -> anyhow::Result<()> {
    let mut pair = Pair::start(16).await?;
    let epoch = pair.lead().await?;
    pair.lab.queue(&queueing("one")).await?;
    pair.claim(epoch, "one").await?;
    pair.lab.queue(&queueing("two")).await?;
    pair.promote().await?;
    pair.lab.admin.close().await;
    pair.lab.store.close().await;
    let old: &mut Server = std::sync::Arc::get_mut(&mut pair.lab.server).context("it is shared")?;
    tokio::task::block_in_place(|| old.postgres.come_back_as_replica())?;

    pair.everything_is_refused(epoch).await?;
    pair.proxy.lead_to(pair.replica.port());
    // The connections to the old one were not kept.
    assert_eq!(pair.store.renew_term("a", epoch, 60_000).await, TermAnswer::Released, "another timeline");
    pair.goes_on().await
}

/// Open connections outlive the failover: the old writer is made read-only and cuts none of them.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_writer_that_turns_read_only_are_all_left_at_once() -> anyhow::Result<()> {
    let pair = Pair::start(18).await?;
    let epoch = pair.lead().await?;
    pair.lab.queue(&queueing("one")).await?;
    pair.claim(epoch, "one").await?;
    pair.lab.queue(&queueing("two")).await?;
    let mut wakes = pair.store.wake_listener().await?.context("a direct connection hears")?;
    // Several open connections.
    let read = || pair.store.intake(IntakePass::Full, 10);
    let (a, b, c) = tokio::join!(read(), read(), read());
    for read in [a, b, c] {
        read?;
    }
    pair.promote().await?;
    let old = &pair.lab.server.postgres;
    let settings = "ALTER SYSTEM SET default_transaction_read_only = on";
    old.psql("postgres", settings, &[])?;
    old.reload();
    let is_read_only = async |url: &str| {
        for _ in 0..200 {
            if old.psql_at(url, "SHOW default_transaction_read_only", &[])? == "on" {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("it was not reloaded")
    };
    is_read_only(&old.url("postgres")).await?;
    // The last conclusion about the connections is long enough ago.
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    pair.proxy.lead_to(pair.replica.port());
    // Each of these would have had a connection to the old one, and none of them fails.
    let (a, b, c) = tokio::join!(read(), read(), read());
    assert_eq!((a?.len(), b?.len(), c?.len()), (1, 1, 1));
    assert_eq!(pair.store.renew_term("a", epoch, 60_000).await, TermAnswer::Released, "another timeline");
    // The connection that only listens asks now and then.
    tokio::time::timeout(Duration::from_secs(30), wakes.woken()).await??;
    pair.replica.psql(&pair.lab.database, "NOTIFY windlass_wake", &[])?;
    tokio::time::timeout(Duration::from_secs(10), wakes.woken()).await??;
    pair.goes_on().await
}

/// A server that is gone without a word: its connections are open and silent.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_given_up_and_the_next_ones_are_new() -> anyhow::Result<()> {
    let pair = Pair::start(16).await?;
    let epoch = pair.lead().await?;
    let mut wakes = pair.store.wake_listener().await?.context("a direct connection hears")?;
    let read = || pair.store.load(epoch);
    let (a, b, c) = tokio::join!(read(), read(), read());
    for read in [a, b, c] {
        read?;
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(pair.proxy.silence() >= 4);
    let error = read().await.unwrap_err();
    assert_eq!(error.kind(), "timed_out", "{error}");
    let began = Instant::now();
    let (a, b, c) = tokio::join!(read(), read(), read());
    for read in [a, b, c] {
        read?;
    }
    assert_eq!(pair.store.renew_term("a", epoch, 60_000).await, TermAnswer::Held { epoch });
    assert!(began.elapsed() < Duration::from_secs(2), "they were open still: {:?}", began.elapsed());
    tokio::time::timeout(Duration::from_secs(30), wakes.woken()).await??;
    pair.lab.sql("NOTIFY windlass_wake").await?;
    tokio::time::timeout(Duration::from_secs(10), wakes.woken()).await??;
    Ok(())
}
