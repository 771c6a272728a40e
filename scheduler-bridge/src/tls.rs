//! Why a TLS connection to the server does not come about, told by the setting that mends it.

use std::path::{Path, PathBuf};

use rustls::{CertificateError, Error as TlsError};

/// What is wrong between the server's TLS and the connection string's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The server answered that it takes none.
    #[error("the server takes no TLS, and sslmode demands it")]
    NotOffered,
    /// The certificate's chain ends at nobody whom we trust.
    #[error("its certificate was issued by none of the authorities in {}", file(.root.as_deref()))]
    Authority {
        /// `sslrootcert`.
        root: Option<PathBuf>,
    },
    /// The certificate is for another name.
    #[error("its certificate is for another host name than the connection string's")]
    Name,
    /// `sslrootcert` cannot be read.
    #[error("sslrootcert `{}` cannot be read", .root.display())]
    File {
        /// `sslrootcert`.
        root: PathBuf,
    },
    /// Expired, of an algorithm nobody takes, cut off in the middle, ...
    #[error("the TLS handshake failed")]
    Handshake,
}

fn file(root: Option<&Path>) -> String {
    match root {
        Some(root) => format!("sslrootcert `{}`", root.display()),
        None => "the system's own store (no sslrootcert is set)".to_owned(),
    }
}

impl TlsFault {
    /// The fault behind an error of connecting; None: it has nothing to do with TLS.
    pub(crate) fn of(source: &sqlx::Error, root: Option<&Path>) -> Option<Self> {
        let unreadable = || root.filter(|root| std::fs::File::open(root).is_err());
        match source {
            // The driver has no other form for it.
            sqlx::Error::Tls(error) if error.to_string() == "server does not support TLS" => {
                Some(Self::NotOffered)
            }
            sqlx::Error::Tls(error) => Some(Self::of_tls(error.downcast_ref(), root)),
            sqlx::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(error) => Some(Self::of_tls(Some(error), root)),
                None => unreadable().map(|root| Self::File { root: root.to_owned() }),
            },
            _ => None,
        }
    }

    fn of_tls(error: Option<&TlsError>, root: Option<&Path>) -> Self {
        match error {
            // A bad signature: an authority of that name is known, with another key.
            Some(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Self::Authority { root: root.map(Path::to_owned) },
            Some(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Self::Name,
            _ => Self::Handshake,
        }
    }

    /// What the operator can do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotOffered => {
                "turn TLS on in the server (ssl = on), or see that host and port lead to it; sslmode=prefer in [database] \
                 sql_alchemy_conn goes on without TLS"
            }
            Self::Authority { .. } => {
                "set sslrootcert in [database] sql_alchemy_conn to a file with the certificate of the server's authority \
                 (on RDS: AWS's bundle, global-bundle.pem), mounted into the daemon's container"
            }
            Self::Name => {
                "name the server in [database] sql_alchemy_conn as its certificate does (on RDS: by the endpoint itself, \
                 not by an alias of it); sslmode=verify-ca takes any name"
            }
            Self::File { .. } => {
                "mount the file into the daemon's container, or correct sslrootcert in [database] sql_alchemy_conn"
            }
            Self::Handshake => {
                "see the server's log; check the server's certificate, and sslcert and sslkey in [database] sql_alchemy_conn"
            }
        }
    }
}
