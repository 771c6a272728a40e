//! The connection string in parts, as SQLAlchemy splits it.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{DatabaseConfig, UrlError};

/// `connect_timeout` where the string names none. libpq would wait for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The parts of a connection string, decoded. Options of the query have been applied: they win over the rest.
#[derive(Default)]
pub(super) struct Parts {
    user: Option<String>,
    password: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    ssl_mode: Option<PgSslMode>,
    ssl_root_cert: Option<String>,
    ssl_cert: Option<String>,
    ssl_key: Option<String>,
    application_name: Option<String>,
    options: Option<String>,
    connect_timeout: Option<Duration>,
}

impl Parts {
    /// `[user[:password]@][host[:port]][/database][?options]`, where the password ends at the first `@`, as in
    /// SQLAlchemy: a user has no `/`, a password no `@`.
    pub(super) fn split(rest: &str) -> Result<Self, UrlError> {
        let mut parts = Self::default();
        let mut rest = rest;
        if let Some((login, after)) = rest.split_once('@') {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            if !user.contains('/') {
                parts.user = non_empty(decode(user, "user")?);
                parts.password = password.map(|p| decode(p, "password")).transpose()?;
                rest = after;
            }
        }
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let (authority, database) = match place.split_once('/') {
            Some((authority, database)) => (authority, Some(database)),
            None => (place, None),
        };
        parts.database = database.map(|d| decode(d, "database")).transpose()?.and_then(non_empty);
        let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((ipv6, after)) => (ipv6, after.strip_prefix(':')),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.contains('@') {
            return Err(UrlError::TwoAts);
        }
        parts.host = non_empty(decode(host, "host")?);
        parts.port = port.filter(|p| !p.is_empty()).map(port_number).transpose()?;
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(&value.replace('+', " "), "query")?;
            parts.option(&decode(name, "query")?, value)?;
        }
        Ok(parts)
    }

    /// One `name=value` of the query, by the names of libpq (and `ssl`, which asyncpg takes for `sslmode`).
    fn option(&mut self, name: &str, value: String) -> Result<(), UrlError> {
        match name {
            "sslmode" | "ssl" => self.ssl_mode = Some(ssl_mode(value)?),
            "sslrootcert" => self.ssl_root_cert = Some(value),
            "sslcert" => self.ssl_cert = Some(value),
            "sslkey" => self.ssl_key = Some(value),
            "host" | "hostaddr" => self.host = non_empty(value),
            "port" => self.port = Some(port_number(&value)?),
            "dbname" => self.database = non_empty(value),
            "user" => self.user = non_empty(value),
            "password" => self.password = Some(value),
            "application_name" => self.application_name = Some(value),
            "options" => self.options = Some(value),
            "connect_timeout" => self.connect_timeout = Some(seconds(value)?),
            // Of the client's own side of libpq: each call here has a deadline, which notices a dead connection sooner
            // than keepalives would.
            "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count"
            | "tcp_user_timeout"
            | "gssencmode"
            | "channel_binding"
            | "sslcompression"
            | "sslsni"
            | "fallback_application_name"
            | "client_encoding"
            | "target_session_attrs"
            | "prepared_statement_cache_size"
            | "async_fallback" => {}
            other => return Err(UrlError::UnknownOption(other.to_owned())),
        }
        Ok(())
    }

    pub(super) fn into_config(self) -> Result<DatabaseConfig, UrlError> {
        if let Some(hosts) = self.host.as_ref().filter(|h| h.contains(',')) {
            return Err(UrlError::SeveralHosts(hosts.clone()));
        }
        let mut options = self.login();
        options = options.statement_cache_capacity(0);
        // The daemon measures its calls by name; the driver would repeat the whole SQL text of each slow one.
        options = sqlx::ConnectOptions::disable_statement_logging(options);
        // PgBouncer refuses start-up parameters that it does not know, and this one only matters for floats in text.
        options = options.extra_float_digits(None);
        options = options.application_name(self.application_name.as_deref().unwrap_or("windlass"));
        if let Some(mode) = self.ssl_mode {
            // As libpq: with a root certificate at hand, `require` verifies the server's chain.
            let verify = matches!(mode, PgSslMode::Require) && self.ssl_root_cert.is_some();
            options = options.ssl_mode(if verify { PgSslMode::VerifyCa } else { mode });
        }
        if let Some(file) = &self.ssl_root_cert {
            options = options.ssl_root_cert(file);
        }
        if let Some(file) = &self.ssl_cert {
            options = options.ssl_client_cert(file);
        }
        if let Some(file) = &self.ssl_key {
            options = options.ssl_client_key(file);
        }
        if let Some(text) = &self.options {
            options = options.options(session_options(text));
        }
        let place = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or(options.get_username());
        Ok(DatabaseConfig {
            address: format!("{place}/{database}"),
            user: options.get_username().to_owned(),
            airflow_schema: None,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            root_certificate: self.ssl_root_cert.map(PathBuf::from),
            passwords: None,
            options,
        })
    }

    /// sqlx looks into `~/.pgpass` only while it reads a URL: so it is given one without a password, and the password
    /// after it.
    fn login(&self) -> PgConnectOptions {
        let mut query = String::from("postgres:///?");
        let port = self.port.map(|p| p.to_string());
        let pairs = [("host", &self.host), ("port", &port), ("user", &self.user), ("dbname", &self.database)];
        for (name, value) in pairs {
            if let Some(value) = value {
                query.push_str(&format!("{name}={}&", encode(value)));
            }
        }
        let options = query.parse().unwrap_or_else(|_| PgConnectOptions::new_without_pgpass());
        match &self.password {
            Some(password) => options.password(password),
            None => options,
        }
    }
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

pub(super) fn decode(text: &str, part: &'static str) -> Result<String, UrlError> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(|t| t.into_owned()).map_err(|_| UrlError::NotUtf8(part))
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn port_number(text: &str) -> Result<u16, UrlError> {
    if text.contains('@') {
        return Err(UrlError::TwoAts);
    }
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| UrlError::Port(text.to_owned()))
}

fn ssl_mode(value: String) -> Result<PgSslMode, UrlError> {
    let possible = "disable, allow, prefer, require, verify-ca, verify-full";
    value.parse().map_err(|_| UrlError::Option { option: "sslmode", value, possible })
}

fn seconds(value: String) -> Result<Duration, UrlError> {
    match value.parse::<u64>() {
        // libpq: zero means for ever. Nothing here waits for ever.
        Ok(0) => Ok(CONNECT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(UrlError::Option { option: "connect_timeout", value, possible: "a number of seconds" }),
    }
}

/// `-c name=value -cname=value`: libpq's `options`, as pairs. Airflow installations choose their schema with it.
fn session_options(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting,
            None => continue,
        };
        if let Some((name, value)) = setting.split_once('=') {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
    pairs
}
