use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use scheduler_bridge::{BridgeError, DatabaseConfig, Store};
use windlass_lab::folder::Folder;
use windlass_lab::pgbouncer::PgBouncer;
use windlass_lab::postgres::Postgres;

use crate::support::{Lab, settings, store_at, unless_missing, until_refused};

/// A certificate authority, and a server certificate of it for `localhost`.
struct Certificates {
    folder: Folder,
}

impl Certificates {
    fn make() -> anyhow::Result<Self> {
        let certificates = Self { folder: Folder::new("certificates")? };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let ca = [
            "req",
            "-x509",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-subj",
            "/CN=test authority",
            "-days",
            "2",
        ];
        certificates.openssl(&[&ca[..], &key].concat())?;
        let request = ["req", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"];
        certificates.openssl(&[&request[..], &key].concat())?;
        std::fs::write(
            certificates.path("extensions"),
            "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )?;
        let sign =
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
        certificates.openssl(&sign.split(' ').chain(["-out", "server.crt"]).collect::<Vec<_>>())?;
        Ok(certificates)
    }

    fn openssl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output()?;
        if !output.status.success() {
            bail!("openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn openssl_available() -> anyhow::Result<()> {
    let asked = Command::new("openssl").arg("version").output();
    asked.context("there is no openssl: `apt-get install openssl`").map(drop)
}

async fn answer(url: &str) -> String {
    match store_at(url).await {
        Ok(store) => match store.check().await {
            Ok(_) => "connected".to_owned(),
            Err(error) => error.chain(),
        },
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn the_options_for_tls_mean_what_they_mean_to_libpq() -> anyhow::Result<()> {
    let lab = Lab::new(16).await?;
    let server = lab.server.clone();
    let started = unless_missing(move || {
        PgBouncer::available()?;
        openssl_available()?;
        Ok(move || {
            let certificates = Certificates::make()?;
            let of = |name: &str| certificates.path(name);
            let pooler = PgBouncer::start_tls(&server.postgres, &of("server.crt"), &of("server.key"))?;
            Ok((pooler, certificates))
        })
    });
    let Some((pooler, certificates)) = started.await? else { return Ok(()) };
    let by_address = pooler.url_as("windlass", &lab.database);
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let root = |path: &Path| format!("sslrootcert={}", path.display());
    let ca = root(&certificates.path("ca.crt"));

    for (url, expected) in [
        (format!("{by_name}?sslmode=disable"), "SSL required"),
        (by_name.clone(), "connected"),
        (format!("{by_name}?sslmode=require"), "connected"),
        (format!("{by_name}?sslmode=verify-full&{ca}"), "connected"),
        (format!("{by_address}?sslmode=verify-ca&{ca}"), "connected"),
        (format!("{by_address}?sslmode=verify-full&{ca}"), "for another host name than"),
        (format!("{by_name}?sslmode=verify-full"), "none of the authorities in the system's own store"),
        (
            format!("{by_name}?sslmode=verify-full&sslrootcert=/no/such/file"),
            "sslrootcert `/no/such/file` cannot be read",
        ),
    ] {
        let told = answer(&url).await;
        assert!(told.contains(expected), "{url}: {told}");
    }
    Ok(())
}

/// PostgreSQL itself with an authority of our own, as RDS has one.
struct World {
    server: Postgres,
    certificates: Certificates,
    /// Of nobody here.
    others: Certificates,
}

impl World {
    async fn start() -> anyhow::Result<Option<Self>> {
        unless_missing(|| {
            Postgres::tls_available()?;
            openssl_available()?;
            Ok(|| {
                let (certificates, others) = (Certificates::make()?, Certificates::make()?);
                let of = |name: &str| certificates.path(name);
                let server = Postgres::start_tls(&of("server.crt"), &of("server.key"))?;
                Ok(Self { server, certificates, others })
            })
        })
        .await
    }
}

async fn refused(url: &str) -> anyhow::Result<BridgeError> {
    match Store::connect(DatabaseConfig::parse(url)?, settings()).await {
        Ok(_) => bail!("{url}: it was let in"),
        Err(error) => Ok(error),
    }
}

#[tokio::test]
async fn postgresql_is_trusted_for_its_authority_and_its_name_and_else_the_setting_is_named()
-> anyhow::Result<()> {
    let Some(world) = World::start().await? else { return Ok(()) };
    let plain = tokio::task::spawn_blocking(|| Postgres::start(16)).await??;
    let by_address = world.server.url("postgres");
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let full = |url: &str, root: &Path| format!("{url}?sslmode=verify-full&sslrootcert={}", root.display());
    let (ours, theirs) = (world.certificates.path("ca.crt"), world.others.path("ca.crt"));

    let store = Store::connect(DatabaseConfig::parse(&full(&by_name, &ours))?, settings()).await?;
    // Some connection is open.
    assert_eq!(store.check().await.unwrap_err().kind(), "no_airflow");
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'windlass'";
    assert_eq!(world.server.psql("postgres", encrypted, &[])?, "t");
    store.close().await;

    let bundle = "set sslrootcert in [database] sql_alchemy_conn to a file with the certificate of the server's authority";
    for (url, words, hint) in [
        (
            full(&by_name, &theirs),
            format!(
                "its certificate was issued by none of the authorities in sslrootcert `{}`",
                theirs.display()
            ),
            bundle,
        ),
        (
            format!("{by_name}?sslmode=verify-full"),
            "issued by none of the authorities in the system's own store (no sslrootcert is set)".to_owned(),
            bundle,
        ),
        (
            full(&by_address, &ours),
            "its certificate is for another host name than the connection string's".to_owned(),
            "name the server in [database] sql_alchemy_conn as its certificate does",
        ),
        (
            full(&plain.url("postgres"), &ours),
            "the server takes no TLS, and sslmode demands it".to_owned(),
            "turn TLS on in the server (ssl = on)",
        ),
        (
            full(&by_name, Path::new("/no/such/file")),
            "sslrootcert `/no/such/file` cannot be read".to_owned(),
            "mount the file into the daemon's container",
        ),
    ] {
        let error = refused(&url).await?;
        assert_eq!((error.kind(), error.is_transient()), ("tls_failed", true), "{url}: {error}");
        let told = error.chain();
        assert!(
            told.starts_with("cannot connect to PostgreSQL at ") && told.contains(&words),
            "{url}: {told}"
        );
        assert!(error.hint().is_some_and(|told| told.starts_with(hint)), "{url}: {:?}", error.hint());
    }
    Ok(())
}

/// As with `rds.force_ssl`.
#[tokio::test]
async fn a_server_that_lets_nobody_in_without_tls_is_told_by_sslmode() -> anyhow::Result<()> {
    let Some(world) = World::start().await? else { return Ok(()) };
    let hba = world.server.socket_folder().join("data/pg_hba.conf");
    std::fs::write(&hba, "hostssl all all 127.0.0.1/32 trust\n")?;
    let count = "SELECT count(*) FROM pg_hba_file_rules";
    assert_eq!(world.server.psql("postgres", count, &[])?, "1");
    world.server.psql("postgres", "SELECT pg_reload_conf()", &[])?;
    let url = format!("{}?sslmode=disable", world.server.url("postgres"));
    let error = until_refused(DatabaseConfig::parse(&url)?).await?;
    assert_eq!(error.kind(), "authentication_failed", "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("set sslmode=verify-full")), "{:?}", error.hint());
    Ok(())
}

/// As on RDS: the certificate checked in full, a password in clear text inside of it, and rotated while at work.
#[tokio::test]
async fn a_password_that_is_rotated_under_verify_full_serves_the_next_login() -> anyhow::Result<()> {
    let Some(world) = World::start().await? else { return Ok(()) };
    let set = |password: &str| {
        let role = format!("ALTER ROLE windlass_tls PASSWORD '{password}'");
        world.server.psql("postgres", &role, &[]).map(drop)
    };
    world.server.psql("postgres", "CREATE ROLE windlass_tls LOGIN PASSWORD 'of-january'", &[])?;
    let hba = world.server.socket_folder().join("data/pg_hba.conf");
    let rest = std::fs::read_to_string(&hba)?;
    std::fs::write(
        &hba,
        format!("hostssl all windlass_tls all password\nhost all windlass_tls all reject\n{rest}"),
    )?;
    world.server.psql("postgres", "SELECT pg_reload_conf()", &[])?;
    let ca = world.certificates.path("ca.crt");
    let with = |password: &str| {
        let url = format!(
            "postgresql://windlass_tls:{password}@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}",
            world.server.port(),
            ca.display()
        );
        DatabaseConfig::parse(&url)
    };
    assert_eq!(until_refused(with("wrong")?).await?.kind(), "authentication_failed");
    let store = Store::connect(with("of-january")?, settings()).await?;
    set("of-february")?;
    let ended =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'windlass_tls'";
    world.server.psql("postgres", ended, &[])?;
    let mut told = store.check().await.unwrap_err();
    if told.kind() != "authentication_failed" {
        // The first answer may be that of the connection that was ended.
        told = store.check().await.unwrap_err();
    }
    assert_eq!(told.kind(), "authentication_failed", "{told}");
    assert!(!told.chain().contains("of-january"), "{told}");
    assert!(store.log_in_with(with("of-february")?));
    // Let in: the database is an empty one.
    assert_eq!(store.check().await.unwrap_err().kind(), "no_airflow");
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'windlass_tls'";
    assert_eq!(world.server.psql("postgres", encrypted, &[])?, "t");
    store.close().await;
    Ok(())
}
