//! What podkeep promises over the ends of its own processes: no container, no exit code, no log line is lost.
//!
//! Run with `scripts/vm test guest_takeover`; anywhere else these tests fail.

mod harness;
#[path = "guest_takeover/told.rs"]
mod told;
#[path = "guest_takeover/writer.rs"]
mod writer;

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use harness::census::cgroups_below;
use harness::manifest::shell_pod;
use harness::{Node, Options, kill, process, wait_until};
use told::Told;

const CGROUPS: &str = "/sys/fs/cgroup/podkeep";

/// Numbers of chance that are the same in every run (Numerical Recipes' generator).
struct Chance(u32);

impl Chance {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % limit
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// PID and restarts of the container `main` of a Pod.
fn run_of(node: &Node, pod: &str) -> (u32, u64) {
    node.wait_for(&format!("{pod} runs"), |list| {
        let container = list.pod(pod)?.container("main")?;
        Some((container.running_pid()?, container.restarts()))
    })
}

/// How often the worker is killed among fifty Pods.
fn kills() -> usize {
    if std::env::var_os("PODKEEP_LONG").is_some() { 1000 } else { 50 }
}

#[test]
fn kills_of_the_worker_among_fifty_pods_lose_no_container_no_exit_code_and_no_log_line() {
    // A long run writes more than a log file may hold by default, and every line is looked for.
    let node = Node::start(Options { config: "containerLogMaxSize: 1Gi\n", ..Options::default() });
    let told = Told::new(&node);
    let writers = names("writer", 10);
    let jobs = names("job", 10);
    let sleepers = names("sleeper", 30);
    let all: Vec<String> = sleepers.iter().map(|name| shell_pod(name, "exec sleep 100000")).collect();
    node.manifest("sleepers.yaml", &all.join("---\n"));
    writers.iter().for_each(|name| node.manifest(&format!("{name}.yaml"), &writer::pod(&told, name)));
    jobs.iter().for_each(|name| node.manifest(&format!("{name}.yaml"), &told.obedient_pod(name, "Never")));
    let stay = || writers.iter().chain(&sleepers);
    let before: Vec<_> = stay().map(|name| run_of(&node, name)).collect();
    let job_pids: Vec<u32> = jobs.iter().map(|name| node.wait_running(name, "main")).collect();

    let mut chance = Chance(1);
    for round in 0..kills() {
        let job = round / 5;
        let worker = match (round % 5, job % 3) {
            _ if job >= jobs.len() && round % 5 != 2 => node.kill_worker(),
            // Told before the worker's end, after it, or killed together with it.
            (0, 0) => {
                told.tell(&jobs[job], &format!("exit {}", job + 1));
                node.kill_worker()
            }
            (0, 1) => {
                let worker = node.kill_worker();
                told.tell(&jobs[job], &format!("exit {}", job + 1));
                worker
            }
            (0, _) => {
                let worker = node.kill_worker();
                kill(job_pids[job], Signal::KILL);
                worker
            }
            // One that has only just begun.
            (2, _) => {
                let first = node.kill_worker();
                let second =
                    wait_until("there is a new worker", || node.worker().filter(|pid| *pid != first));
                (0..chance.below(20_000_000)).for_each(|_| std::hint::spin_loop());
                kill(second, Signal::KILL);
                second
            }
            _ => node.kill_worker(),
        };
        wait_until("there is a new worker", || node.worker().filter(|pid| *pid != worker));
        writer::wait_for_more(&node, &writers[chance.below(10) as usize]);
    }

    for (job, name) in jobs.iter().enumerate() {
        let code = if job % 3 == 2 { 137 } else { job as i64 + 1 };
        assert_eq!(node.wait_terminated(name, "main"), ("Error".to_owned(), code), "{name}");
    }
    let after: Vec<_> = stay().map(|name| run_of(&node, name)).collect();
    assert_eq!(after, before);
    writer::end(&told);
    writers.iter().for_each(|name| writer::assert_every_line_once(&node, name));
}

#[test]
fn after_sigusr1_containers_run_on_and_the_next_podkeep_takes_them_over() {
    let node = Node::start(Options::default());
    let told = Told::new(&node);
    node.manifest("speaker.yaml", &told.obedient_pod("speaker", "Always"));
    node.manifest("removed.yaml", &shell_pod("removed", "exec sleep 1000"));
    node.manifest("edited.yaml", &shell_pod("edited", "exec sleep 1000"));
    let speaker = run_of(&node, "speaker");
    let [removed, edited] = ["removed", "edited"].map(|name| node.wait_running(name, "main"));
    told.tell_and_wait("speaker", "echo before");

    let (site, status) = node.end(Signal::USR1);
    assert!(status.success(), "{status}\n{}", site.node_log_text());
    told.tell_and_wait("speaker", "echo away; echo away >&2");
    site.remove("removed.yaml");
    site.manifest("edited.yaml", &shell_pod("edited", "exec sleep 2000"));
    for pid in [speaker.0, removed, edited] {
        assert_eq!(process::status(pid, "State").as_deref(), Some("S (sleeping)"));
    }

    let node = Node::start_in(site);
    assert_eq!(run_of(&node, "speaker"), speaker);
    told.tell_and_wait("speaker", "echo after");
    let texts = || told::lines(&told::log_folder(&node, "speaker")).into_iter().map(|(_, text)| text);
    let mut said = wait_until("all lines are in the log", || {
        let texts: Vec<_> = texts().collect();
        (texts.len() >= 4).then_some(texts)
    });
    said.dedup();
    assert_eq!(said, ["before", "away", "after"]);
    node.wait_gone("removed");
    node.wait_for("the edited Pod is another one", |list| {
        list.pod("edited")?.container("main")?.running_pid().filter(|pid| *pid != edited)
    });
    assert_eq!(told::log_folders(&node, "edited").len(), 2);
    for pid in [removed, edited] {
        assert_eq!(process::status(pid, "State"), None, "the old process is gone");
    }
}

#[test]
fn the_ends_of_processes_that_an_earlier_podkeep_started_are_noticed_by_every_later_worker() {
    let node = Node::start(Options::default());
    node.manifest("first.yaml", &shell_pod("first", "exec sleep 1000"));
    node.manifest("second.yaml", &shell_pod("second", "exec sleep 1000"));
    let [first, second] = ["first", "second"].map(|name| node.wait_running(name, "main"));
    let (site, _) = node.end(Signal::USR1);
    let node = Node::start_in(site);

    kill(first, Signal::KILL);
    node.wait_for("the first is restarted", |list| {
        let container = list.pod("first")?.container("main")?;
        (container.restarts() == 1 && container.running_pid()? != first).then_some(())
    });
    // The next worker has the keeper of the last one, and still not every process is that keeper's child.
    let worker = node.kill_worker();
    node.wait_for_new_worker(worker);
    assert_eq!(node.wait_running("second", "main"), second);
    kill(second, Signal::KILL);
    node.wait_for("the second is restarted", |list| {
        let container = list.pod("second")?.container("main")?;
        (container.restarts() == 1 && container.running_pid()? != second).then_some(())
    });
}

#[test]
fn a_pod_that_had_no_process_when_podkeep_left_is_not_started_in_the_hosts_namespaces() {
    let node = Node::start(Options::default());
    let told = Told::new(&node);
    let script = "readlink /proc/self/ns/net >> /told/net; readlink /proc/self/ns/ipc >> /told/ipc; exit 1";
    node.manifest("crash.yaml", &told.pod("crash", "Always", script));
    let waits = |node: &Node| {
        node.wait_for("it waits for its next start", |list| {
            let container = list.pod("crash")?.container("main")?;
            (container.waiting() == Some("CrashLoopBackOff")).then_some(container.restarts())
        })
    };
    waits(&node);
    let (site, _) = node.end(Signal::USR1);
    let runs = || fs::read_to_string(told.path("net")).unwrap().lines().count();
    let before = runs();
    let node = Node::start_in(site);
    wait_until("it runs again", || (runs() > before).then_some(()));
    waits(&node);
    for kind in ["net", "ipc"] {
        let host = process::namespace(std::process::id(), kind);
        let seen = fs::read_to_string(told.path(kind)).unwrap();
        assert!(!seen.contains(&host), "{kind}: the host's is {host}, it saw\n{seen}");
    }
}

#[test]
fn after_sigkill_of_the_keeper_the_next_podkeep_takes_everything_over() {
    let node = Node::start(Options::default());
    let told = Told::new(&node);
    let writers = names("writer", 3);
    writers.iter().for_each(|name| node.manifest(&format!("{name}.yaml"), &writer::pod(&told, name)));
    let before: Vec<_> = writers.iter().map(|name| run_of(&node, name)).collect();
    let mut node = node;
    for _ in 0..3 {
        writer::wait_for_more(&node, &writers[0]);
        let (site, status) = node.end(Signal::KILL);
        assert!(!status.success());
        node = Node::start_in(site);
    }
    let after: Vec<_> = writers.iter().map(|name| run_of(&node, name)).collect();
    assert_eq!(after, before);
    writer::end(&told);
    writers.iter().for_each(|name| writer::assert_every_line_once(&node, name));
}

#[test]
fn sigusr2_changes_the_program_under_running_containers() {
    let node = Node::start(Options::default());
    let told = Told::new(&node);
    let jobs = names("job", 5);
    node.manifest("writer.yaml", &writer::pod(&told, "writer"));
    jobs.iter().for_each(|name| node.manifest(&format!("{name}.yaml"), &told.obedient_pod(name, "Never")));
    let before = run_of(&node, "writer");
    jobs.iter().for_each(|name| _ = node.wait_running(name, "main"));

    for (place, job) in jobs.iter().enumerate() {
        let worker = node.worker().expect("it has answered");
        if place % 2 == 0 {
            node.signal(Signal::USR2);
            told.tell(job, &format!("exit {}", place + 1));
        } else {
            told.tell(job, &format!("exit {}", place + 1));
            node.signal(Signal::USR2);
        }
        node.wait_for_new_worker(worker);
        assert_eq!(node.wait_terminated(job, "main"), ("Error".to_owned(), place as i64 + 1));
        assert_refused(&node);
    }
    assert_eq!(process::parent(before.0), node.keeper());
    assert_eq!(run_of(&node, "writer"), before);
    writer::end(&told);
    writer::assert_every_line_once(&node, "writer");
    node.stop();
}

/// A second podkeep on the same folders ends at once, with a sentence.
fn assert_refused(node: &Node) {
    let second = node.podkeep().arg("run").args(node.run_args()).output().unwrap();
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("another podkeep works on"), "{stderr}");
}

#[test]
fn a_stop_right_after_an_update_or_a_reload_is_not_lost() {
    for (round, first) in [Signal::USR2, Signal::HUP].into_iter().cycle().take(6).enumerate() {
        let node = Node::start(Options::default());
        node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
        let pid = node.wait_running("web", "main");
        node.signal(first);
        let mut chance = Chance(round as u32);
        (0..chance.below(3_000_000)).for_each(|_| std::hint::spin_loop());
        let site = node.stop();
        assert_eq!(process::status(pid, "State"), None, "the container is gone\n{}", site.node_log_text());
    }
}

#[test]
fn sighup_takes_a_good_configuration_and_leaves_a_broken_one() {
    let node = Node::start(Options { config: "maxPods: 1", ..Options::default() });
    node.manifest("a.yaml", &shell_pod("a", "exec sleep 1000"));
    let first = run_of(&node, "a");
    node.manifest("b.yaml", &shell_pod("b", "exec sleep 1000"));
    node.wait_for("the second is one too many", |list| {
        list.problems().iter().any(|problem| problem.contains("OutOfpods")).then_some(())
    });
    node.configure("maxPods: 5");
    node.signal(Signal::HUP);
    let second = run_of(&node, "b");

    let worker = node.worker().expect("it has answered");
    node.configure("maxPods: many");
    node.signal(Signal::HUP);
    wait_until("the broken file is reported", || {
        node.node_log_text().contains("not reading the configuration again").then_some(())
    });
    assert_eq!(node.worker(), Some(worker));
    assert_eq!([run_of(&node, "a"), run_of(&node, "b")], [first, second]);
}

#[test]
fn kills_of_the_worker_while_pods_start_leave_each_container_running_once() {
    let node = Node::start(Options::default());
    let told = Told::new(&node);
    let mut chance = Chance(5);
    for round in 0..3 {
        let pods = names(&format!("r{round}p"), 10);
        for name in &pods {
            node.manifest(&format!("{name}.yaml"), &counting_pod(&told, name));
        }
        let mut worker = 0;
        for _ in 0..4 {
            worker = wait_until("there is a new worker", || node.worker().filter(|pid| *pid != worker));
            (0..chance.below(20_000_000)).for_each(|_| std::hint::spin_loop());
            kill(worker, Signal::KILL);
        }
        node.wait_for_new_worker(worker);
        pods.iter().for_each(|name| assert_started_once(&node, &told, name));
        pods.iter().for_each(|name| node.remove(&format!("{name}.yaml")));
        pods.iter().for_each(|name| node.wait_gone(name));
    }
}

#[test]
fn a_kill_between_the_starts_of_one_turn_leaves_each_container_running_once() {
    let node = Node::start(Options { images: Vec::new(), ..Options::default() });
    let told = Told::new(&node);
    let pods = names("pod", 10);
    pods.iter().for_each(|name| node.manifest(&format!("{name}.yaml"), &counting_pod(&told, name)));
    for name in &pods {
        node.wait_for("it waits for its image", |list| {
            list.pod(name)?
                .container("main")?
                .waiting()
                .filter(|reason| reason.contains("ImagePull"))
                .map(drop)
        });
    }
    // With its image, all of them start in one go.
    node.add_image("busybox");
    let worker = node.worker().expect("it has answered");
    let begun = || cgroups_below(Path::new(CGROUPS)).iter().filter(|group| group.ends_with("main")).count();
    // The third is being made ready; the first two are there.
    while begun() < 3 {
        std::hint::spin_loop();
    }
    kill(worker, Signal::KILL);
    node.wait_for_new_worker(worker);
    pods.iter().for_each(|name| assert_started_once(&node, &told, name));
}

/// A Pod that says in a file that it was started.
fn counting_pod(told: &Told, name: &str) -> String {
    told.pod(name, "Always", &format!("echo started >> /told/{name}; exec sleep 1000"))
}

fn assert_started_once(node: &Node, told: &Told, name: &str) {
    let (pid, restarts) = run_of(node, name);
    assert_eq!(restarts, 0, "{name}\n{}\n{}", node.list(), node.node_log_text());
    assert_eq!(process::in_cgroup(&process::cgroup(pid)), [pid], "{name}");
    let started = || fs::read_to_string(told.path(name)).ok().filter(|text| !text.is_empty());
    assert_eq!(wait_until("its script runs", started), "started\n", "{name}");
}

#[test]
fn kills_of_the_worker_while_pods_terminate_leave_nothing() {
    let node = Node::start(Options::default());
    let before = node.traces();
    let cgroups = || cgroups_below(Path::new(CGROUPS));
    let cgroups_before = cgroups();
    let pods = names("pod", 10);
    for (place, name) in pods.iter().enumerate() {
        // One half ends when it is told to, the other half has to be killed.
        let script = match place % 2 {
            0 => "trap 'sleep 0.2; exit 0' TERM; while :; do sleep 0.1; done",
            _ => "sleep 1000 & exec sleep 1000",
        };
        node.manifest(&format!("{name}.yaml"), &shell_pod(name, script));
    }
    pods.iter().for_each(|name| _ = node.wait_running(name, "main"));
    pods.iter().for_each(|name| node.remove(&format!("{name}.yaml")));
    let mut chance = Chance(7);
    let mut worker = 0;
    for _ in 0..8 {
        worker = wait_until("there is a new worker", || node.worker().filter(|pid| *pid != worker));
        (0..chance.below(20_000_000)).for_each(|_| std::hint::spin_loop());
        kill(worker, Signal::KILL);
    }
    pods.iter().for_each(|name| node.wait_gone(name));
    wait_until("every trace of them is gone", || (node.traces() == before).then_some(()));
    assert_eq!(cgroups(), cgroups_before);
}
