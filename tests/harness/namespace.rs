//! Network namespaces of a test's own, and what is done in them. Each is gone when nobody holds it any more.
#![allow(dead_code, reason = "every test uses its own part of this")]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use podkeep::network::firewall::Firewall;
use serde_json::Value;

const SYSCTLS: &str = "/proc/sys/net";

/// A network namespace.
pub struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    /// A new one, with its loopback up.
    pub fn new() -> Namespace {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes network namespaces");
            Namespace::own()
        };
        let namespace = thread::spawn(make).join().unwrap();
        namespace.ip("link set lo up");
        namespace
    }

    /// The one that this thread is in.
    pub fn own() -> Namespace {
        Namespace { fd: File::open("/proc/thread-self/ns/net").unwrap().into() }
    }

    /// Does this in a thread that is in the namespace.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        };
        thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Where programs that are started by this process find it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }

    /// Its number in this process.
    pub fn descriptor(&self) -> u32 {
        self.fd.as_raw_fd() as u32
    }

    /// Commands of iproute2, one a line.
    #[track_caller]
    pub fn ip(&self, commands: &str) {
        self.run("ip", &["-batch", "-"], commands);
    }

    /// What iproute2 shows, with details.
    #[track_caller]
    pub fn show(&self, what: &[&str]) -> Value {
        let shown = self.run("ip", &[&["-j", "-d"], what].concat(), "");
        serde_json::from_str(&shown).unwrap_or_default()
    }

    /// Returns when all addresses can be used: those of IPv6 are made ready by a thread of the kernel.
    pub fn await_addresses(&self) {
        while !self.run("ip", &["-6", "address", "show", "tentative"], "").is_empty() {
            thread::yield_now();
        }
    }

    /// Sets `net.` this, with slashes.
    pub fn set(&self, name: &str, value: &str) {
        self.inside(|| fs::write(Path::new(SYSCTLS).join(name), value).unwrap());
    }

    pub fn setting(&self, name: &str) -> String {
        let text = self.inside(|| fs::read_to_string(Path::new(SYSCTLS).join(name)).unwrap());
        text.trim_end().to_owned()
    }

    /// What `nft` says of it all, or does.
    #[track_caller]
    pub fn nft(&self, arguments: &[&str], input: &str) -> String {
        self.run("nft", arguments, input)
    }

    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let output = self.inside(|| {
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program is there (scripts/install network)");
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {said}\n{input}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn firewall(&self) -> Firewall {
        self.inside(|| Firewall::open().unwrap())
    }

    /// Everything in it that a Pod could leave behind, in lines that can be [compared](assert_same): links, addresses, routes and rules for them,
    /// neighbours, firewall.
    #[track_caller]
    pub fn traces(&self) -> Vec<String> {
        let show = |words: &str| {
            let (program, rest) = words.split_once(' ').unwrap();
            format!("{words}: {}", self.run(program, &rest.split(' ').collect::<Vec<_>>(), ""))
        };
        [
            "ip -j -d link",
            "ip -j addr",
            "ip -j -4 route show table all",
            "ip -j -6 route show table all",
            "ip -j -4 rule",
            "ip -j -6 rule",
            "ip -j neigh",
            "nft -j list ruleset",
        ]
        .map(show)
        .into()
    }

    /// What `net.` holds, all of it.
    pub fn settings(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.inside(|| settings(Path::new(SYSCTLS), &mut found));
        found
    }
}

/// Line by line, so that what differs is found.
#[track_caller]
pub fn assert_same(now: &[String], before: &[String]) {
    let differs = now.iter().zip(before).find(|(now, before)| now != before);
    assert_eq!(differs, None, "now, and before");
    assert_eq!(now.len(), before.len());
}

/// What stands in the files below a folder, in the order of their names.
fn settings(folder: &Path, found: &mut Vec<String>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        // It counts connections, which live on for a while.
        if path.is_dir() {
            settings(&path, found);
        } else if !path.ends_with("nf_conntrack_count") {
            // Some can only be written.
            let value = fs::read_to_string(&path).unwrap_or_default();
            found.push(format!("{}: {value}", path.display()));
        }
    }
}
