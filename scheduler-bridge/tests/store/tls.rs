use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use windlass_lab::folder::Folder;
use windlass_lab::pgbouncer::PgBouncer;

use crate::support::{Lab, store_at, unless_missing};

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
        Command::new("openssl")
            .arg("version")
            .output()
            .context("there is no openssl: `apt-get install openssl`")?;
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
        (format!("{by_address}?sslmode=verify-full&{ca}"), "not valid for name"),
        (format!("{by_name}?sslmode=verify-full"), "UnknownIssuer"),
        (format!("{by_name}?sslmode=verify-full&sslrootcert=/no/such/file"), "No such file"),
    ] {
        let told = answer(&url).await;
        assert!(told.contains(expected), "{url}: {told}");
    }
    Ok(())
}
