//! Container logs: where they lie, and how they are read (tail, limit, follow).
//!
//! The kubelet gives each container's stdout and stderr one file, `LOG_DIR/NAMESPACE_POD_UID/CONTAINER/N.log`, as a
//! real one does under `/var/log/pods` (N counts restarts), but without a timestamp per line: the process writes into
//! the file itself. `N.exit` appears when the container has ended; it holds the exit code.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

/// Annotation of a node: where its kubelet writes logs. The embedded API reads them there.
pub(crate) const LOG_DIR_ANNOTATION: &str = "local-cluster.windlass.dev/log-dir";

/// How often a followed log is looked at while its container runs. Only while somebody follows it.
const FOLLOW_PERIOD: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 64 * 1024;

/// What a reader wants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
}

/// Folder of one pod's logs.
pub(crate) fn pod_dir(root: &Path, namespace: &str, pod: &str, uid: &str) -> PathBuf {
    root.join(format!("{namespace}_{pod}_{uid}"))
}

/// Folder of the pod of this name, the newest if an older one's is still there. No name holds an underscore.
pub(crate) fn find_pod_dir(root: &Path, namespace: &str, pod: &str) -> Option<PathBuf> {
    let prefix = format!("{namespace}_{pod}_");
    let entries = std::fs::read_dir(root).ok()?.filter_map(Result::ok);
    let ours = entries.filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(&prefix)));
    ours.max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok()).map(|e| e.path())
}

/// Folder of one container's logs.
pub(crate) fn container_dir(root: &Path, namespace: &str, pod: &str, uid: &str, container: &str) -> PathBuf {
    pod_dir(root, namespace, pod, uid).join(container)
}

/// Log file of the container's start number `start`.
pub(crate) fn log_file(container_dir: &Path, start: u32) -> PathBuf {
    container_dir.join(format!("{start}.log"))
}

/// Exit code file of the container's start number `start`.
pub(crate) fn exit_file(container_dir: &Path, start: u32) -> PathBuf {
    container_dir.join(format!("{start}.exit"))
}

/// The newest start of a container that has a log file.
pub(crate) fn last_start(container_dir: &Path) -> Option<u32> {
    let entries = std::fs::read_dir(container_dir).ok()?;
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".log")?.parse().ok()).max()
}

/// Streams a log. `None` if the container (or its previous start) has none.
pub(crate) fn read(
    container_dir: &Path,
    options: LogOptions,
) -> Option<mpsc::Receiver<std::io::Result<Bytes>>> {
    let last = last_start(container_dir)?;
    let start = if options.previous { last.checked_sub(1)? } else { last };
    let (log, exit) = (log_file(container_dir, start), exit_file(container_dir, start));
    let (out, chunks) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(e) = copy(&log, &exit, options, &out).await {
            let _ = out.send(Err(e)).await;
        }
    });
    Some(chunks)
}

type Out = mpsc::Sender<std::io::Result<Bytes>>;

async fn copy(log: &Path, exit: &Path, options: LogOptions, out: &Out) -> std::io::Result<()> {
    let mut file = File::open(log).await?;
    if let Some(lines) = options.tail_lines {
        let from = tail_position(&mut file, lines).await?;
        file.seek(SeekFrom::Start(from)).await?;
    }
    let mut left = options.limit_bytes.unwrap_or(u64::MAX);
    loop {
        // Asked before reading: what was written before the end is then read below.
        // Logs of a released pod are removed; nothing more is written then.
        let exists = async |path| tokio::fs::try_exists(path).await.unwrap_or(false);
        let ended = !options.follow || exists(exit).await || !exists(log).await;
        loop {
            let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
            let n = file.read(&mut buffer).await?;
            buffer.truncate(n);
            left -= n as u64;
            if n == 0 {
                break;
            }
            if out.send(Ok(Bytes::from(buffer))).await.is_err() {
                return Ok(());
            }
        }
        if ended || left == 0 {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_PERIOD) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

/// Offset at which the last `lines` lines begin.
async fn tail_position(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    let mut newlines = 0;
    let mut at = end;
    while at > 0 {
        let size = at.min(CHUNK_BYTES as u64);
        at -= size;
        file.seek(SeekFrom::Start(at)).await?;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(CHUNK_BYTES)];
        file.read_exact(&mut buffer).await?;
        for (i, byte) in buffer.iter().enumerate().rev() {
            let offset = at + i as u64;
            // The newline that ends the last line starts no new one.
            if *byte == b'\n' && offset + 1 != end {
                newlines += 1;
                if newlines == lines {
                    return Ok(offset + 1);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(dir: &Path, options: LogOptions) -> Option<String> {
        let mut chunks = read(dir, options)?;
        let mut all = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            all.extend_from_slice(&chunk.expect("reads"));
        }
        Some(String::from_utf8(all).expect("is text"))
    }

    #[tokio::test]
    async fn tail_limit_and_previous() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(text(dir.path(), LogOptions::default()).await, None);
        std::fs::write(log_file(dir.path(), 0), "old\n").expect("writes");
        std::fs::write(log_file(dir.path(), 1), "one\ntwo\nthree\n").expect("writes");
        let with = |tail_lines, limit_bytes| LogOptions { tail_lines, limit_bytes, ..LogOptions::default() };
        for (options, expected) in [
            (with(None, None), "one\ntwo\nthree\n"),
            (with(Some(2), None), "two\nthree\n"),
            (with(Some(0), None), ""),
            (with(Some(9), None), "one\ntwo\nthree\n"),
            (with(None, Some(5)), "one\nt"),
        ] {
            assert_eq!(text(dir.path(), options).await.as_deref(), Some(expected), "{options:?}");
        }
        let previous = LogOptions { previous: true, ..LogOptions::default() };
        assert_eq!(text(dir.path(), previous).await.as_deref(), Some("old\n"));
    }

    #[tokio::test]
    async fn follow_ends_with_the_container() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(log_file(dir.path(), 0), "first\n").expect("writes");
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut chunks = read(dir.path(), options).expect("has a log");
        assert_eq!(&chunks.recv().await.expect("a chunk").expect("reads")[..], b"first\n");
        std::fs::write(log_file(dir.path(), 0), "first\nlast\n").expect("writes");
        std::fs::write(exit_file(dir.path(), 0), "0").expect("writes");
        assert_eq!(&chunks.recv().await.expect("a chunk").expect("reads")[..], b"last\n");
        assert!(chunks.recv().await.is_none());
    }
}
