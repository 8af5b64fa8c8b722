//! `shareProcessNamespace`: one PID namespace for a Pod, and the pause process that is its first.
//!
//! Run with `scripts/vm test guest_shared_pid`; anywhere else these tests fail.

#[path = "guest_shared_pid/attacks.rs"]
mod attacks;
mod harness;

use std::process::Output;

use rustix::process::Signal;

use harness::manifest::ShellPod;
use harness::{Census, List, Node, Options, kill, process, wait_until};

const SHARED: &str = "shareProcessNamespace: true\nterminationGracePeriodSeconds: 1";

/// The Pod `web` with the containers `main` and `other`, which sleep for 1000 and 2000 seconds.
fn two_sleepers(spec: &str, container: &str) -> String {
    let main = ShellPod { name: "web", script: "exec sleep 1000", spec, container }.yaml();
    main + "  - name: other\n    image: busybox:1.35\n    command: [sleep, '2000']\n"
}

/// A node with that Pod, running.
fn web(spec: &str, container: &str) -> Node {
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &two_sleepers(spec, container));
    node.wait_running("web", "other");
    node.wait_running("web", "main");
    node
}

fn pids(node: &Node) -> [u32; 2] {
    ["main", "other"].map(|name| node.wait_running("web", name))
}

/// The pause processes that are the keeper's, or whoever's child they have become.
fn pauses() -> Vec<u32> {
    let is_alive = |pid: &u32| process::status(*pid, "State").is_some_and(|state| !state.starts_with('Z'));
    process::all().into_iter().filter(|pid| process::name(*pid) == "podkeep-pause").filter(is_alive).collect()
}

fn pause() -> u32 {
    let all = pauses();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn try_inside(node: &Node, script: &str) -> Output {
    node.try_ask(&["exec", "web", "-c", "main", "--", "sh", "-c", script])
}

fn inside(node: &Node, script: &str) -> String {
    let output = try_inside(node, script);
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn number_inside(pid: u32) -> u32 {
    *process::pids_by_namespace(pid).last().unwrap()
}

fn restarts(list: &List, container: &str) -> Option<u64> {
    Some(list.pod("web")?.container(container)?.restarts())
}

/// Waits until both containers run again, each once more.
fn wait_restarted(node: &Node, before: [u32; 2]) -> [u32; 2] {
    node.wait_for("both run again", |list| {
        let pid = |name| list.pod("web")?.container(name)?.running_pid();
        let now = [pid("main")?, pid("other")?];
        (now[0] != before[0] && now[1] != before[1]).then_some(now)
    })
}

#[test]
fn containers_and_commands_see_all_processes_of_the_pod() {
    let node = web(SHARED, "");
    let [main, other] = pids(&node);
    let pause = pause();
    let namespace = process::namespace(main, "pid");
    assert_eq!([other, pause].map(|pid| process::namespace(pid, "pid")), [namespace.clone(), namespace]);
    assert_ne!(process::namespace(main, "pid"), process::namespace(node.keeper(), "pid"));
    assert_eq!(process::namespace(main, "net"), process::namespace(pause, "net"));
    assert_eq!([main, other, pause].map(process::parent), [node.keeper(); 3]);
    assert_eq!(number_inside(pause), 1);
    assert!(process::cgroup(pause).starts_with("/podkeep/besteffort/default_web-node1_"));
    assert!(process::cgroup(pause).ends_with("/_pause"), "{}", process::cgroup(pause));

    let lines = inside(&node, "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done");
    let seen: Vec<_> = lines.lines().map(str::trim).collect();
    for wanted in ["podkeep-pause default/web-node1", "sleep 1000", "sleep 2000"] {
        assert!(seen.contains(&wanted), "{wanted} is not among\n{lines}");
    }
    // From one container into the other, whose first process is not protected as PID 1 is.
    inside(&node, &format!("kill {}", number_inside(other)));
    node.wait_for("the other was ended by its signal", |list| {
        (list.pod("web")?.container("other")?.last()? == ("Error".to_owned(), 143)).then_some(())
    });
    assert_eq!(node.wait_running("web", "main"), main, "it alone");
}

#[test]
fn each_of_the_other_pods_containers_has_its_own() {
    let node = web("terminationGracePeriodSeconds: 1", "");
    let [main, other] = pids(&node);
    assert_ne!(process::namespace(main, "pid"), process::namespace(other, "pid"));
    assert_eq!(number_inside(main), 1);
    assert_eq!(pauses(), [0u32; 0]);
}

#[test]
fn orphans_are_reaped_and_end_with_their_container() {
    let node = web(SHARED, "");
    let [main, _] = pids(&node);
    let group = process::cgroup(main);
    inside(&node, "sleep 3000 & sleep 4000 &");
    let orphans = || -> Vec<u32> { process::children(pause()) };
    let both = wait_until("the orphans are the pause process's", || {
        let all = orphans();
        (all.len() == 2).then_some(all)
    });
    // A zombie would stay its child.
    inside(&node, &format!("kill {}", number_inside(both[0])));
    wait_until("it has been reaped", || (orphans() == [both[1]]).then_some(()));
    assert_eq!(process::in_cgroup(&group).len(), 2);
    kill(main, Signal::KILL);
    node.wait_for("it runs again", |list| (restarts(list, "main")? == 1).then_some(()));
    wait_until("the orphan is gone", || orphans().is_empty().then_some(()));
}

#[test]
fn a_stop_signal_ends_a_first_process_that_is_not_pid_1() {
    // A grace that no test waits for.
    let node = web("shareProcessNamespace: true\nterminationGracePeriodSeconds: 3600", "");
    node.remove("web.yaml");
    node.wait_gone("web");
}

#[test]
fn when_the_pause_process_ends_all_come_back_and_it_is_said_why() {
    let node = web(SHARED, "");
    for round in 1..=2 {
        let (before, old) = (pids(&node), pause());
        kill(old, Signal::KILL);
        if round == 2 {
            // Twice in short time is a crash loop, which waits; what is said stays the same.
            node.wait_for("they wait", |list| {
                let waits = |name| list.pod("web")?.container(name)?.waiting();
                (waits("main")? == "CrashLoopBackOff" && waits("other")? == "CrashLoopBackOff").then_some(())
            });
        } else {
            wait_restarted(&node, before);
            assert_ne!(pause(), old);
        }
        let list = node.list();
        for name in ["main", "other"] {
            let container = list.pod("web").unwrap().container(name).unwrap();
            assert_eq!(container.last(), Some(("Error".to_owned(), 137)));
            let message = container.status["lastState"]["terminated"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("the pause process"), "{name}: {message:?}\n{list}");
        }
        assert_eq!(node.node_log_text().matches("the pause process").count(), round);
    }
}

#[test]
fn who_shall_not_be_restarted_is_not_when_the_pause_process_ends() {
    let node = web(&format!("{SHARED}\nrestartPolicy: Never"), "");
    kill(pause(), Signal::KILL);
    for name in ["main", "other"] {
        assert_eq!(node.wait_terminated("web", name), ("Error".to_owned(), 137));
    }
    wait_until("nothing is left of it", || pauses().is_empty().then_some(()));
}

#[test]
fn a_new_worker_and_a_new_program_find_it_and_lose_nothing() {
    let node = web(SHARED, "");
    let (before, first) = (pids(&node), pause());
    let unchanged = |node: &Node| {
        assert_eq!(pids(node), before, "{}", node.node_log_text());
        assert_eq!(pause(), first);
        assert!(inside(node, "ls -d /proc/1").contains("/proc/1"));
    };
    let replace_worker = |node: &Node, signal: &dyn Fn(u32)| {
        let old = wait_until("there is a worker", || node.worker());
        signal(old);
        wait_until("there is a new worker", || node.worker().filter(|new| *new != old));
        wait_until("it answers", || node.try_list());
        unchanged(node);
    };
    for _ in 0..3 {
        replace_worker(&node, &|worker| kill(worker, Signal::KILL));
    }
    replace_worker(&node, &|_| node.signal(Signal::USR2));
    assert_eq!(process::parent(first), node.keeper());
    let (site, _) = node.end(Signal::USR1);
    let node = Node::start_in(site);
    unchanged(&node);
    // What an earlier keeper made is noticed, too.
    kill(first, Signal::KILL);
    let now = wait_restarted(&node, before);
    assert!(node.node_log_text().contains("the pause process"));
    // And what ends while nobody is there.
    let (site, _) = node.end(Signal::USR1);
    kill(pause(), Signal::KILL);
    let node = Node::start_in(site);
    node.wait_for("both have ended again", |list| {
        (restarts(list, "main")? + restarts(list, "other")? >= 2).then_some(())
    });
    assert_eq!(now.map(|pid| process::status(pid, "Pid").is_some()), [false; 2]);
    assert_eq!(node.node_log_text().matches("the pause process").count(), 2, "{}", node.node_log_text());
}

#[test]
fn kills_of_the_worker_while_it_starts_leave_one_pause_process_and_then_nothing() {
    let node = Node::start(Options::default());
    let before = node.traces();
    let groups = || harness::census::cgroups_below(std::path::Path::new("/sys/fs/cgroup/podkeep"));
    for (round, users) in ["", "hostUsers: false\n"].into_iter().cycle().take(6).enumerate() {
        node.manifest("web.yaml", &two_sleepers(&format!("{users}{SHARED}"), ""));
        let worker = node.worker().expect("it has answered");
        // From the moment on at which the first one may be cloned; a little later each time.
        while !groups().iter().any(|group| group.ends_with("_pause")) {
            std::hint::spin_loop();
        }
        (0..round * 400_000).for_each(|_| std::hint::spin_loop());
        kill(worker, Signal::KILL);
        wait_until("there is a new worker", || node.worker().filter(|new| *new != worker));
        let both = pids(&node);
        let namespace = process::namespace(pause(), "pid");
        assert_eq!(both.map(|pid| process::namespace(pid, "pid")), [namespace.clone(), namespace]);
        assert_eq!(both.map(|pid| process::in_cgroup(&process::cgroup(pid)).len()), [1, 1]);
        node.remove("web.yaml");
        node.wait_gone("web");
    }
    // The worker is another one than before.
    wait_until("the worker is the only child", || {
        (process::children(node.keeper()).len() == 1).then_some(())
    });
    assert_eq!(pauses(), [0u32; 0]);
    wait_until("every trace of it is gone", || (node.traces() == before).then_some(()));
}

#[test]
fn a_removed_and_a_finished_pod_leave_nothing() {
    let node = Node::start(Options::default());
    let before = Census::take_with(&node);
    for users in ["", "hostUsers: false\n"] {
        node.manifest("web.yaml", &two_sleepers(&format!("{users}{SHARED}"), ""));
        pids(&node);
        node.remove("web.yaml");
        node.wait_gone("web");
        before.assert_again(|| Census::take_with(&node));
        let job = two_sleepers(&format!("{users}{SHARED}\nrestartPolicy: Never"), "");
        node.manifest("web.yaml", &job.replace("2000", "0").replace("1000", "0"));
        node.wait_terminated("web", "main");
        node.wait_terminated("web", "other");
        wait_until("its pause process is gone", || pauses().is_empty().then_some(()));
        node.remove("web.yaml");
        node.wait_gone("web");
        before.assert_again(|| Census::take_with(&node));
    }
    let site = node.stop();
    assert_eq!(pauses(), [0u32; 0], "{}", site.node_log_text());
}

#[test]
fn with_users_of_its_own_the_namespace_belongs_to_the_pod() {
    let node = web(&format!("hostUsers: false\n{SHARED}"), "");
    let [main, other] = pids(&node);
    let pause = pause();
    let user = process::namespace(main, "user");
    assert_eq!([other, pause].map(|pid| process::namespace(pid, "user")), [user.clone(), user.clone()]);
    assert_ne!(process::namespace(node.keeper(), "user"), user);
    // Its owner decides who may mount its proc, so this is more than a process in both.
    let sees = inside(&node, "ls -d /proc/1; cat /proc/self/uid_map");
    assert!(sees.starts_with("/proc/1\n") && !sees.contains(" 0 4294967295"), "{sees}");
    let first = process::status(pause, "Uid").unwrap();
    assert!(first.split_whitespace().all(|uid| uid.parse::<u32>().unwrap() > 65535), "{first}");
    inside(&node, &format!("kill {}", number_inside(other)));
    node.wait_for("the other was ended by its signal", |list| (restarts(list, "other")? == 1).then_some(()));
    let before = pids(&node);
    kill(pause, Signal::KILL);
    node.wait_for("main runs again", |list| {
        list.pod("web")?.container("main")?.running_pid().filter(|pid| *pid != before[0])
    });
    assert_eq!(process::namespace(self::pause(), "user"), user);
}
