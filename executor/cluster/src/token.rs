//! The service account's token, read from its file again and again: the kubelet replaces it while we run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::error::ClusterError;

pub(crate) struct TokenFile {
    path: PathBuf,
    reload: Duration,
    last: Mutex<Last>,
}

struct Last {
    header: HeaderValue,
    /// `None`: read again before the next call.
    read_at: Option<Instant>,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TokenFile {
    /// Reads the file once, so that a missing one is an error of `connect`, not of the first call.
    pub(crate) fn open(path: PathBuf, reload: Duration) -> Result<Self, ClusterError> {
        let last = Last { header: read(&path)?, read_at: Some(Instant::now()) };
        Ok(Self { path, reload, last: Mutex::new(last) })
    }

    /// The `Authorization` header for a call made now. Where the file cannot be read for a moment (the kubelet swaps
    /// a symlink), the last token stays in use: the API server judges it, not we.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.read_at.is_none_or(|at| at.elapsed() >= self.reload) {
            match read(&self.path) {
                Ok(header) => last.header = header,
                Err(error) => {
                    tracing::warn!(error = %error, "token file not read, going on with the last token");
                }
            }
            last.read_at = Some(Instant::now());
        }
        last.header.clone()
    }

    /// After a 401: the next call reads the file.
    pub(crate) fn refused(&self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).read_at = None;
    }
}

fn read(path: &Path) -> Result<HeaderValue, ClusterError> {
    let failed = |source| ClusterError::File { what: "service account token", path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    let broken = || {
        failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty or holds more than a token"))
    };
    if token.is_empty() {
        return Err(broken());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| broken())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_is_used_after_the_reload_time_or_at_once_after_a_401() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let long = TokenFile::open(path.clone(), Duration::from_secs(3600)).unwrap();
        let short = TokenFile::open(path.clone(), Duration::ZERO).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_eq!(long.header(), "Bearer one");
        assert_eq!(short.header(), "Bearer two");
        long.refused();
        assert_eq!(long.header(), "Bearer two");
        std::fs::remove_file(&path).unwrap();
        long.refused();
        assert_eq!(long.header(), "Bearer two", "a file that is away for a moment stops nothing");
    }

    #[test]
    fn a_missing_or_empty_token_is_named_and_no_token_is_shown() {
        let error = TokenFile::open("/nowhere/token".into(), Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), "file");
        assert_eq!(error.to_string(), "cannot read the service account token `/nowhere/token`");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        assert!(TokenFile::open(path.clone(), Duration::ZERO).is_err());
        std::fs::write(&path, "secret").unwrap();
        let token = TokenFile::open(path.clone(), Duration::ZERO).unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
    }
}
