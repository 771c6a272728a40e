//! What can go wrong between us and the API server: what failed, on which object, and what to do.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What a [`ClusterError::File`] is called whose remedy is not the token volume.
pub(crate) const KUBECONFIG: &str = "kubeconfig";

/// A call that has no answer in the words of `windlass_core::cluster`, or a connection that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// In-cluster configuration asked for outside of a cluster.
    #[error("in-cluster configuration: environment variable {variable} is not set")]
    NotInCluster {
        /// Which.
        variable: &'static str,
    },
    /// A file that the connection needs.
    #[error("cannot read the {what} `{}`", path.display())]
    File {
        /// What it holds.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The kubeconfig cannot be used.
    #[error("kubeconfig `{}` cannot be used: {why}", path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why, without what the file holds.
        why: String,
    },
    /// A setting of the connection that cannot be followed.
    #[error("{what}: {why}")]
    Setting {
        /// Which.
        what: String,
        /// Why not.
        why: String,
    },
    /// The credentials cannot be produced (exec plugin).
    #[error("no credentials for the API server {url}: {cause}")]
    Credentials {
        /// Of the API server.
        url: String,
        /// Without output of the plugin.
        cause: String,
    },
    /// No connection.
    #[error("the API server {url} cannot be reached for `{call}`: {cause}")]
    Unreachable {
        /// Of the API server.
        url: String,
        /// What was asked.
        call: String,
        /// Chain of causes.
        cause: String,
    },
    /// TLS refused the server, or the server refused TLS.
    #[error("the TLS certificate of the API server {url} is not accepted: {cause}")]
    Certificate {
        /// Of the API server.
        url: String,
        /// The TLS library's words.
        cause: String,
    },
    /// The deadline passed without an answer.
    #[error("the API server {url} did not answer `{call}` within {after_ms} ms")]
    TimedOut {
        /// Of the API server.
        url: String,
        /// What was asked.
        call: String,
        /// The call's deadline.
        after_ms: u128,
    },
    /// The deadline passed before a connection was free: nothing was sent.
    #[error("`{call}` found no free connection within {after_ms} ms; nothing was sent")]
    Busy {
        /// What was to be asked.
        call: String,
        /// The call's deadline.
        after_ms: u128,
    },
    /// The connection broke before the answer was whole.
    #[error("the connection to the API server {url} broke during `{call}`: {cause}")]
    Cut {
        /// Of the API server.
        url: String,
        /// What was asked.
        call: String,
        /// Chain of causes.
        cause: String,
    },
    /// An answer that is no success.
    #[error("the API server {url} answered `{call}` with {status}: {message}")]
    Answered {
        /// Of the API server.
        url: String,
        /// What was asked.
        call: String,
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
        /// From `Retry-After`.
        retry_after_ms: Option<u64>,
    },
    /// A success that cannot be read.
    #[error("the answer of the API server {url} to `{call}` cannot be read: {why}")]
    Undecodable {
        /// Of the API server.
        url: String,
        /// What was asked.
        call: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ClusterError {
    /// Stable code: metric label and anchor in docs/ERRORS.md.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotInCluster { .. } => "not_in_cluster",
            Self::File { .. } => "file",
            Self::Kubeconfig { .. } => "kubeconfig",
            Self::Setting { .. } => "setting",
            Self::Credentials { .. } => "credentials",
            Self::Unreachable { .. } => "unreachable",
            Self::Certificate { .. } => "certificate",
            Self::TimedOut { .. } => "timed_out",
            Self::Busy { .. } => "busy",
            Self::Cut { .. } => "cut",
            Self::Answered { status: 401, .. } => "unauthorized",
            Self::Answered { status: 403, .. } => "forbidden",
            Self::Answered { status: 410, .. } => "expired",
            Self::Answered { status: 429, .. } => "too_many_requests",
            Self::Answered { .. } => "answered",
            Self::Undecodable { .. } => "undecodable",
        }
    }

    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotInCluster { .. } => {
                "outside of a cluster set `[kubernetes_executor] in_cluster = False` and `config_file`"
            }
            Self::File { what: KUBECONFIG, .. } => {
                "name a readable file in `[kubernetes_executor] config_file` or KUBECONFIG; inside of a cluster set \
                 `in_cluster = True`"
            }
            Self::File { .. } => {
                "mount the service account's token volume into this container (deploy/helm/values.yaml shows it) \
                 or name a readable file"
            }
            Self::Kubeconfig { .. } => {
                "compare with `kubectl --kubeconfig FILE config view`; `config_file` and `cluster_context` of \
                 `[kubernetes_executor]` choose file and context"
            }
            Self::Setting { .. } => "correct the setting",
            Self::Credentials { .. } => "run the kubeconfig's exec command by hand as this user",
            Self::Unreachable { .. } => {
                "check address, DNS, network policies and security groups between this pod and the API server; \
                 it is tried again by itself"
            }
            Self::Certificate { .. } => {
                "the CA must be the one that signed the API server's certificate: `ca.crt` of the token volume, \
                 `certificate-authority` of the kubeconfig, or `ssl_ca_cert`"
            }
            Self::TimedOut { .. } | Self::Cut { .. } => {
                "see the API server's load and the network between; it is asked again by itself"
            }
            Self::Busy { .. } => "the API server is slow or the connection limit is low for this load",
            Self::Answered { status: 401, .. } => {
                "the token has expired or belongs to another cluster: look at the token volume and its \
                 `expirationSeconds`"
            }
            Self::Answered { status: 403, .. } => {
                "compare with deploy/rbac; `kubectl auth can-i VERB pods -n NAMESPACE --as \
                 system:serviceaccount:NAMESPACE:NAME` shows what is allowed"
            }
            Self::Answered { status: 429, .. } => "the API server sheds load; calls slow down by themselves",
            Self::Answered { .. } => "see the API server's log; it is asked again by itself",
            Self::Undecodable { .. } => "what answers is perhaps no Kubernetes API server: check the address",
        }
    }

    /// One line for log, status and answers: the error, its cause and the remedy.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        if let Some(source) = self.source() {
            let _ = write!(line, ": {}", causes(source));
        }
        let _ = write!(line, " (hint: {})", self.hint());
        line
    }

    /// HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// `error` and its sources, each said once (libraries repeat the source in their own text).
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
        next = cause.source();
    }
    text
}

/// The first error of type `E` in the chain. An `io::Error` hides the error that it wraps from `source`.
pub(crate) fn find<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(this) = next {
        if this.is::<E>() {
            return true;
        }
        let inside = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inside.is_some_and(|inner| find::<E>(inner)) {
            return true;
        }
        next = this.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_object_cause_and_remedy() {
        let error = ClusterError::Unreachable {
            url: "https://10.0.0.1:443".into(),
            call: "get pod etl/a".into(),
            cause: "connection refused".into(),
        };
        let line = error.line();
        assert_eq!(error.kind(), "unreachable");
        assert!(
            line.starts_with(
                "the API server https://10.0.0.1:443 cannot be reached for `get pod etl/a`: connection refused \
                 (hint: check address"
            ),
            "{line}"
        );
    }

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let inner = std::io::Error::other(rustls::Error::DecryptError);
        assert!(find::<rustls::Error>(&inner));
        assert!(!find::<rustls::Error>(&std::io::Error::other("plain")));
    }
}
