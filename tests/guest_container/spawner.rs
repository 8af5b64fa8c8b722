//! Children that a spawner's threads make: they share the memory of this program until they execute, and nothing shows it.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use podkeep::container::{News, Plan, Progress, Report, Spawned, StartError, spawn_by};
use podkeep::sys::spawner::{Places, Spawner};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::field;
use super::harness::{Bench, Running};

/// As long as the program lives, like the worker's journal.
fn places() -> Places {
    let place = || -> &'static AtomicU32 { Box::leak(Box::default()) };
    Places { child: place(), midwife: place() }
}

/// The next news.
fn hear(report: &Report, plan: &Plan) -> Result<News, StartError> {
    loop {
        poll(&mut [PollFd::new(report, PollFlags::IN)], None).unwrap();
        if let Some(news) = report.news(plan)? {
            return Ok(news);
        }
    }
}

/// A child that is there.
fn spawn(spawner: &Spawner, plan: &Arc<Plan>, cgroup: &File) -> Spawned {
    let places = places();
    let report = spawn_by(spawner, plan, cgroup.as_fd(), places).unwrap();
    match hear(&report, plan) {
        Ok(News::Born(pidfd)) => Spawned { pid: places.child.load(Ordering::Acquire), pidfd, report },
        other => panic!("{other:?}"),
    }
}

impl Bench {
    /// Starts the container up to where it says that it has come.
    fn start_by(&self, spawner: &Spawner, start: Option<OwnedFd>) -> (Running, Progress) {
        let (plan, output) = self.plan(start);
        let (plan, cgroup) = (Arc::new(plan), File::open(&self.cgroup).unwrap());
        let spawned = spawn(spawner, &plan, &cgroup);
        let progress = spawned.report.next(&plan).unwrap_or_else(|error| panic!("{error}"));
        let_go(spawner, plan);
        (Running { spawned, output }, progress)
    }

    fn command(&mut self, words: &[&str]) {
        self.container().command = words.iter().map(|word| (*word).to_owned()).collect();
    }
}

/// Waits until the plan of a child that has executed is nobody's but ours, and drops it: with it go its descriptors, such
/// as the child's end of the output.
fn let_go(spawner: &Spawner, plan: Arc<Plan>) {
    while Arc::strong_count(&plan) > 1 {
        spawner.collect();
        std::thread::yield_now();
    }
}

/// Its output, and then its end: it is no child of ours, so its pidfd tells.
fn finish(running: &Running) -> String {
    let mut output = String::new();
    File::from(running.output.try_clone().unwrap()).read_to_string(&mut output).unwrap();
    poll(&mut [PollFd::new(&running.spawned.pidfd, PollFlags::IN)], None).unwrap();
    output
}

#[test]
fn it_is_the_subreapers_child_in_its_cgroup_with_three_descriptors() {
    // As the keeper is above the worker.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    // What the caller has open is none of the child's business, and none is left for it to close.
    let _open: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
    let mut bench = Bench::new();
    bench.command(&["sleep", "1000"]);
    let (running, progress) = bench.start_by(&Spawner::default(), None);
    assert_eq!(progress, Progress::Executed);
    let proc = format!("/proc/{}", running.spawned.pid);
    let status = || fs::read_to_string(format!("{proc}/status")).unwrap();
    // Once its midwife has ended.
    while field(&status(), "PPid") != std::process::id().to_string() {
        std::thread::yield_now();
    }
    let status = status();
    assert_eq!(field(&status, "SigBlk"), "0000000000000000");
    assert_eq!(field(&status, "SigIgn"), "0000000000000000");
    let group = fs::read_to_string(format!("{proc}/cgroup")).unwrap();
    assert_eq!(group, format!("0::/{}\n", bench.cgroup.file_name().unwrap().to_str().unwrap()));
    let mut open: Vec<_> =
        fs::read_dir(format!("{proc}/fd")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
}

#[test]
fn one_spawner_makes_one_after_the_other() {
    let spawner = Spawner::default();
    let mut bench = Bench::new();
    for number in 0..20 {
        bench.command(&["echo", &number.to_string()]);
        let (running, progress) = bench.start_by(&spawner, None);
        assert_eq!((progress, finish(&running)), (Progress::Executed, format!("{number}\n")));
    }
}

#[test]
fn the_descriptors_of_a_plan_are_closed_when_its_child_is_done() {
    let spawner = Spawner::default();
    let mut bench = Bench::new();
    bench.command(&["true"]);
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (plan, _output) = bench.plan(Some(from));
    let (plan, cgroup) = (Arc::new(plan), File::open(&bench.cgroup).unwrap());
    let spawned = spawn(&spawner, &plan, &cgroup);
    rustix::io::write(&to, &[0]).unwrap();
    assert_eq!(spawned.report.next(&plan).unwrap(), Progress::Ready);
    assert_eq!(spawned.report.next(&plan).unwrap(), Progress::Executed);
    let_go(&spawner, plan);
    // Nobody reads from a pipe whose other end is closed everywhere.
    let mut end = [PollFd::new(&to, PollFlags::OUT)];
    poll(&mut end, None).unwrap();
    assert!(end[0].revents().contains(PollFlags::ERR));
}

#[test]
fn one_that_waits_before_exec_holds_up_no_other() {
    let spawner = Spawner::default();
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (mut waits, mut goes) = (Bench::new(), Bench::new());
    waits.command(&["echo", "late"]);
    goes.command(&["echo", "early"]);
    let (plan, output) = waits.plan(Some(from));
    let (plan, cgroup) = (Arc::new(plan), File::open(&waits.cgroup).unwrap());
    let spawned = spawn(&spawner, &plan, &cgroup);
    assert_eq!(spawned.report.next(&plan).unwrap(), Progress::Ready);

    let (running, progress) = goes.start_by(&spawner, None);
    assert_eq!((progress, finish(&running).as_str()), (Progress::Executed, "early\n"));

    rustix::io::write(&to, &[0]).unwrap();
    assert_eq!(spawned.report.next(&plan).unwrap(), Progress::Executed);
    let_go(&spawner, plan);
    assert_eq!(finish(&Running { spawned, output }), "late\n");
}

#[test]
fn what_cannot_be_cloned_and_what_cannot_start_is_told() {
    let spawner = Spawner::default();
    let mut bench = Bench::new();
    bench.command(&["true"]);
    let (plan, _output) = bench.plan(None);
    let no_cgroup = File::open("/").unwrap();
    let (plan, places) = (Arc::new(plan), places());
    let report = spawn_by(&spawner, &plan, no_cgroup.as_fd(), places).unwrap();
    let error = hear(&report, &plan).unwrap_err();
    assert!(matches!(error, StartError::NotBorn { .. }), "{error}");
    assert_eq!(places.child.load(Ordering::Acquire), 0);

    bench.command(&["/not/there"]);
    let (plan, _output) = bench.plan(None);
    let (plan, cgroup) = (Arc::new(plan), File::open(&bench.cgroup).unwrap());
    let spawned = spawn(&spawner, &plan, &cgroup);
    let error = spawned.report.next(&plan).unwrap_err().to_string();
    assert!(error.contains("/not/there"), "{error}");

    // And the spawner goes on.
    bench.command(&["echo", "still here"]);
    let (running, _) = bench.start_by(&spawner, None);
    assert_eq!(finish(&running), "still here\n");
}
