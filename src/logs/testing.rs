//! For this module's tests: one container's log with a pump, in a temporary folder.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::layout::{LogFile, log_files};
use super::{ContainerLog, Fifo, Holding, Policy, Pump, Pumped, Stream};

pub(super) struct Bench {
    temporary: TempDir,
    dir: PathBuf,
    policy: Policy,
    restart: u32,
    pub pump: Pump,
    pub fifo: Fifo,
    /// The container's end.
    pub end: File,
    pub log: ContainerLog,
}

impl Bench {
    pub fn new(policy: Policy) -> Bench {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let dir = temporary.path().join("pod/container");
        let (pump, recovered) =
            Pump::open(&temporary.path().join("journal"), Holding::new().expect("holding")).expect("pump");
        assert_eq!(recovered, None);
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let fifo = Fifo::create(&temporary.path().join("out"), uid, gid).expect("FIFO");
        let end = File::from(fifo.container_end().expect("end"));
        let log = pump.open_log(&dir, 0, policy).expect("log");
        Bench { temporary, dir, policy, restart: 0, pump, fifo, end, log }
    }

    /// The container's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn journal(&self) -> PathBuf {
        self.temporary.path().join("journal")
    }

    /// The container writes, the worker pumps.
    pub fn say(&mut self, text: &str) -> Pumped {
        self.end.write_all(text.as_bytes()).expect("write");
        self.pump()
    }

    pub fn pump(&mut self) -> Pumped {
        self.pump.pump(&self.fifo, Stream::Stdout, &mut self.log, usize::MAX).expect("pump")
    }

    pub fn finish(&mut self) -> Pumped {
        self.pump.finish(&self.fifo, Stream::Stdout, &mut self.log).expect("finish")
    }

    /// The container's next run.
    pub fn restart(&mut self) {
        self.finish();
        self.restart += 1;
        self.log = self.pump.open_log(&self.dir, self.restart, self.policy).expect("log");
    }

    pub fn files(&self) -> Vec<LogFile> {
        log_files(&self.dir).expect("list")
    }

    /// The records of the current file without their times.
    pub fn records(&self) -> Vec<String> {
        let text = fs::read(self.log.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.is_empty() || text.ends_with('\n'), "a torn record: {text:?}");
        text.lines().map(|line| line.split_once(' ').map_or("", |(_, rest)| rest).to_owned()).collect()
    }
}
