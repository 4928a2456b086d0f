//! The machine under a server, as far as a story wants to spoil it: its disk, its clock, its name servers.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::Deployment;

/// What the library and the story tell each other: a page of integers, in the order of `struct page` in spoiled.c.
#[derive(Clone, Copy, Debug)]
enum Word {
    SyncDelayMs,
    SyncErrno,
    Syncs,
    ClockStepS,
    NameServerPort,
}

const PAGE_BYTES: u64 = 4096;
/// `EIO`, which is what a disk says that has failed.
const INPUT_OUTPUT_ERROR: i64 = 5;

/// A machine that is well until it is told otherwise.
#[derive(Debug)]
pub(crate) struct Machine {
    home: TempDir,
    page: File,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let home = TempDir::with_prefix("postrider-machine-").unwrap();
        let source = home.path().join("spoiled.c");
        std::fs::write(&source, include_str!("machine/spoiled.c")).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(home.path().join("spoiled.so"));
        assert!(compiler.arg(source).arg("-ldl").status().unwrap().success(), "it does not compile");
        let page = File::create_new(home.path().join("page")).unwrap();
        page.set_len(PAGE_BYTES).unwrap();
        Machine { home, page }
    }

    /// A deployment that runs on it.
    pub(crate) fn under(&self, deployment: Deployment) -> Deployment {
        let path = |name: &str| self.home.path().join(name).to_str().unwrap().to_owned();
        deployment.with("LD_PRELOAD", &path("spoiled.so")).with("STORY_MACHINE", &path("page"))
    }

    /// As [`Machine::under`], with the name server at `address` for all names.
    pub(crate) fn under_with_names(&self, deployment: Deployment, address: SocketAddr) -> Deployment {
        let file = self.home.path().join("resolv.conf");
        std::fs::write(&file, format!("nameserver {}\n", address.ip())).unwrap();
        self.set(Word::NameServerPort, address.port().into());
        self.under(deployment).with("STORY_NAME_SERVERS", file.to_str().unwrap())
    }

    /// How long the disk takes for what it is asked to keep, from now on, also for those that wait.
    pub(crate) fn disk_takes(&self, delay: Duration) {
        self.set(Word::SyncDelayMs, delay.as_millis().try_into().unwrap());
    }

    /// Whether the disk fails whenever it is asked to keep something.
    pub(crate) fn disk_fails(&self, fails: bool) {
        self.set(Word::SyncErrno, if fails { INPUT_OUTPUT_ERROR } else { 0 });
    }

    /// How often the disk was asked to keep something.
    pub(crate) fn syncs(&self) -> u64 {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, Word::Syncs as u64 * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    /// Sets the time of day this far from the true one.
    pub(crate) fn clock_is_off_by(&self, seconds: i64) {
        self.set(Word::ClockStepS, seconds);
    }

    fn set(&self, word: Word, value: i64) {
        self.page.write_all_at(&value.to_ne_bytes(), word as u64 * 8).unwrap();
    }
}
