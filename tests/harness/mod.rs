//! A node under test: `podkeep run` in the guest, on folders of its own, seen and steered as a user does it.
#![allow(dead_code, unused_imports, reason = "every guest test uses its own part of this")]

pub mod census;
pub mod list;
pub mod manifest;
pub mod process;
pub mod site;

use std::fs::{self, File};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub use census::Census;
pub use list::List;
pub use site::{Options, Site};

/// What every name of a Pod ends with here.
pub const NODE_NAME: &str = "node1";

/// The emulated machine is slow, and more so when the real one is busy. What takes longer will not come any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the list.
const PAUSE: Duration = Duration::from_millis(50);
/// podkeep gives up on the node before. Where a look took longer, the whole machine was stopped, and its clock ran on.
const LONGEST_LOOK: Duration = Duration::from_secs(20);

/// How much of the [`PATIENCE`] is used up.
struct Wait {
    waited: Duration,
    last_look: Instant,
}

impl Wait {
    fn begin() -> Wait {
        Wait { waited: Duration::ZERO, last_look: Instant::now() }
    }

    /// Pauses; whether there is time for another look.
    fn goes_on(&mut self) -> bool {
        thread::sleep(PAUSE);
        let look = self.last_look.elapsed();
        self.last_look += look;
        self.waited += look.min(LONGEST_LOOK);
        self.waited < PATIENCE
    }
}

/// `podkeep run`. Killed, with all that it runs, when it goes.
pub struct Node {
    child: Child,
    /// `None` once the node has been stopped.
    site: Option<Site>,
}

impl Node {
    /// Starts a node in new folders, and waits until it answers.
    pub fn start(options: Options) -> Node {
        Node::start_in(Site::new(options))
    }

    /// Starts a node in folders that were used before.
    pub fn start_in(site: Site) -> Node {
        let stderr = File::options().append(true).create(true).open(site.node_log()).unwrap();
        let mut command = site.podkeep();
        command.arg("run").args(site.run_args());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let mut node = Node { child, site: Some(site) };
        node.wait_until_it_answers();
        node
    }

    fn wait_until_it_answers(&mut self) {
        let mut wait = Wait::begin();
        while self.try_list().is_none() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the node ended: {}\n{}", ended.unwrap(), self.node_log_text());
            assert!(wait.goes_on(), "the node does not answer\n{}", self.node_log_text());
        }
    }

    /// The PID of `podkeep run`.
    pub fn keeper(&self) -> u32 {
        self.child.id()
    }

    /// The PID of the worker that is there now.
    pub fn worker(&self) -> Option<u32> {
        process::children(self.keeper()).into_iter().find(|pid| is_worker(*pid))
    }

    /// Kills the worker in the middle of whatever it does; its PID.
    pub fn kill_worker(&self) -> u32 {
        let worker = wait_until("there is a worker", || self.worker());
        kill(worker, Signal::KILL);
        worker
    }

    /// Waits until another worker than this one answers.
    pub fn wait_for_new_worker(&self, old: u32) {
        wait_until("there is a new worker", || self.worker().filter(|worker| *worker != old));
        wait_until("the new worker answers", || self.try_list());
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.keeper(), signal);
    }

    /// What `podkeep ps -o json` prints; `None` while the node does not answer.
    pub fn try_list(&self) -> Option<List> {
        let output = self.podkeep().args(["ps", "-o", "json"]).output().unwrap();
        // Without the node, `ps` prints what it finds on disk, and says so.
        let from_disk = String::from_utf8_lossy(&output.stderr).contains("no node answers");
        (output.status.success() && !from_disk).then(|| List::parse(&output.stdout))
    }

    pub fn list(&self) -> List {
        self.try_list().unwrap_or_else(|| panic!("the node does not answer\n{}", self.node_log_text()))
    }

    /// Looks at the list until `found` finds in it what it looks for.
    pub fn wait_for<T>(&self, what: &str, found: impl Fn(&List) -> Option<T>) -> T {
        let mut wait = Wait::begin();
        let mut last = None;
        loop {
            if let Some(list) = self.try_list() {
                if let Some(result) = found(&list) {
                    return result;
                }
                last = Some(list);
            }
            if !wait.goes_on() {
                break;
            }
        }
        let last = last.map_or_else(|| "no answer".to_owned(), |list| list.to_string());
        panic!("waited in vain: {what}\nlast seen: {last}");
    }

    /// Waits until container `container` of Pod `pod` runs; its PID.
    pub fn wait_running(&self, pod: &str, container: &str) -> u32 {
        self.wait_for(&format!("{pod}/{container} runs"), |list| {
            list.pod(pod)?.container(container)?.running_pid()
        })
    }

    /// Waits until the container has ended for good; reason and exit code.
    pub fn wait_terminated(&self, pod: &str, container: &str) -> (String, i64) {
        self.wait_for(&format!("{pod}/{container} has ended"), |list| {
            list.pod(pod)?.container(container)?.terminated()
        })
    }

    /// Runs the Pod `job`, whose container is `main`, to its good end; what it printed.
    pub fn output_of(&self, manifest: &str) -> String {
        self.manifest("job.yaml", manifest);
        let end = self.wait_terminated("job", "main");
        let output = self.ask(&["logs", "job"]);
        assert_eq!(end, ("Completed".to_owned(), 0), "{output}");
        self.remove("job.yaml");
        self.wait_gone("job");
        output
    }

    /// Runs these Pods side by side, each with a container `main`, to their good ends; what each printed. By name and manifest.
    pub fn outputs_of(&self, jobs: &[(String, String)]) -> Vec<String> {
        let all: Vec<&str> = jobs.iter().map(|(_, manifest)| manifest.as_str()).collect();
        self.manifest("jobs.yaml", &all.join("\n---\n"));
        let output = |(name, _): &(String, String)| {
            let end = self.wait_terminated(name, "main");
            let output = self.ask(&["logs", name, "-c", "main"]);
            assert_eq!(end, ("Completed".to_owned(), 0), "{name}: {output}");
            output
        };
        let outputs = jobs.iter().map(output).collect();
        self.remove("jobs.yaml");
        jobs.iter().for_each(|(name, _)| self.wait_gone(name));
        outputs
    }

    /// Waits until the node knows no Pod of this name any more.
    pub fn wait_gone(&self, pod: &str) {
        self.wait_for(&format!("{pod} is gone"), |list| list.pod(pod).is_none().then_some(()));
    }

    /// Ends podkeep as a service manager does, and gives its folders back. Panics unless it exits with 0.
    pub fn stop(self) -> Site {
        let (site, status) = self.end(Signal::TERM);
        assert!(status.success(), "podkeep ended with {status}\n{}", site.node_log_text());
        site
    }

    /// Ends the keeper alone: with SIGUSR1 or SIGKILL the containers run on.
    pub fn end(mut self, signal: Signal) -> (Site, ExitStatus) {
        self.signal(signal);
        let status = self.wait_for_end();
        (self.site.take().expect("taken only here, where the node ends"), status)
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let mut wait = Wait::begin();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(wait.goes_on(), "podkeep does not end\n{}", self.node_log_text());
        }
    }
}

impl Deref for Node {
    type Target = Site;

    fn deref(&self) -> &Site {
        self.site.as_ref().expect("there until the node is stopped")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(site) = self.site.take() else { return };
        if thread::panicking() {
            eprintln!("--- the node's log\n{}---", site.node_log_text());
        }
        let workers: Vec<u32> =
            process::children(self.keeper()).into_iter().filter(|pid| is_worker(*pid)).collect();
        let _ = self.child.kill();
        workers.into_iter().for_each(|pid| kill(pid, Signal::KILL));
        let _ = self.child.wait();
        site.end_what_is_left();
    }
}

/// SIGKILL and its like may come too late: that is as good.
pub fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a PID");
    let _ = kill_process(pid, signal);
}

fn is_worker(pid: u32) -> bool {
    let words = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    words.starts_with(b"podkeep-worker\0")
}

/// Looks again and again until `found` finds something, for what the list does not tell.
pub fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let mut wait = Wait::begin();
    loop {
        if let Some(result) = found() {
            return result;
        }
        assert!(wait.goes_on(), "waited in vain: {what}");
    }
}

/// Whether any file below `dir` holds one of these texts.
pub fn is_written(dir: &Path, texts: &[&str]) -> bool {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => is_written(&path, texts),
        Ok(metadata) if metadata.is_file() => {
            let bytes = fs::read(&path).unwrap_or_default();
            texts.iter().any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        }
        _ => false,
    })
}
