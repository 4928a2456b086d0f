//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version that Postrider supports.
pub const OLDEST: u32 = 14;

/// A directory with `initdb`, `postgres` and `pg_ctl` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    version: u32,
}

const NEEDED: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

impl Binaries {
    /// What `PATH` leads to, else the newest that Debian's packages have installed; never older than [`OLDEST`].
    pub fn find() -> Option<Binaries> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = first(std::env::split_paths(&path), version_of);
        on_path.or_else(|| newest(debian_directories(Path::new("/usr/lib/postgresql")), version_of))
    }

    /// The major version.
    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn debian_directories(place: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join("bin")).collect()
}

fn first(
    directories: impl IntoIterator<Item = PathBuf>,
    version_of: impl Fn(&Path) -> Option<u32>,
) -> Option<Binaries> {
    suitable(directories, version_of).next()
}

fn newest(
    directories: impl IntoIterator<Item = PathBuf>,
    version_of: impl Fn(&Path) -> Option<u32>,
) -> Option<Binaries> {
    suitable(directories, version_of).max_by_key(|binaries| binaries.version)
}

fn suitable(
    directories: impl IntoIterator<Item = PathBuf>,
    version_of: impl Fn(&Path) -> Option<u32>,
) -> impl Iterator<Item = Binaries> {
    directories.into_iter().filter_map(move |directory| {
        let complete = NEEDED.iter().all(|name| directory.join(name).is_file());
        let version = complete.then(|| version_of(&directory)).flatten()?;
        // A link to the server alone does not lead to what is installed beside it.
        let directory = directory.join("postgres").canonicalize().ok()?.parent()?.to_owned();
        (version >= OLDEST).then_some(Binaries { directory, version })
    })
}

/// What `postgres --version` says: "postgres (PostgreSQL) 15.18 (Debian …)".
fn version_of(directory: &Path) -> Option<u32> {
    let mut command = Command::new(directory.join("postgres"));
    let output = command.arg("--version").stdin(Stdio::null()).output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

fn major(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("(PostgreSQL)")?;
    let digits: String = version.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn install(root: &Path, version: &str, programs: &[&str]) {
        let directory = root.join(version).join("bin");
        std::fs::create_dir_all(&directory).unwrap();
        for name in programs {
            std::fs::write(directory.join(name), "").unwrap();
        }
    }

    /// Takes the version from the directory's name, as nothing can be run here.
    fn by_name(directory: &Path) -> Option<u32> {
        directory.parent()?.file_name()?.to_str()?.parse().ok()
    }

    #[test]
    fn the_newest_complete_version_is_taken_and_never_one_too_old() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), "9", &NEEDED);
        install(root.path(), "13", &NEEDED);
        assert_eq!(newest(debian_directories(root.path()), by_name), None);
        install(root.path(), "15", &NEEDED);
        install(root.path(), "14", &NEEDED);
        // Clients alone, as libpq's packages leave them.
        install(root.path(), "17", &["pg_ctl"]);
        let found = newest(debian_directories(root.path()), by_name).unwrap();
        assert_eq!(found.version(), 15);
        assert_eq!(found.program("initdb"), root.path().join("15/bin/initdb"));
    }

    #[test]
    fn on_the_path_the_first_counts() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), "14", &NEEDED);
        install(root.path(), "15", &NEEDED);
        let path = ["12", "14", "15"].map(|version| root.path().join(version).join("bin"));
        assert_eq!(first(path, by_name).unwrap().version(), 14);
        assert_eq!(first([], by_name), None);
    }

    #[test]
    fn the_major_version_is_read_from_what_the_server_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("something else 15"), None);
    }
}
