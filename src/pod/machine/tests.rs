//! One Pod's life by hand: crash loop, grace, stops at awkward moments, images that come, adoption, reboot.

use super::*;
use crate::manifest::pod::{Container as Spec, PodId, Uid};
use crate::pod::status::ContainerState;
use crate::pod::{Exit, ImageProblem};

fn at(seconds: u64) -> BootTime {
    BootTime::from(Duration::from_secs(seconds))
}

fn spec(index: usize) -> Spec {
    Spec::plain(&format!("c{index}"), "busybox")
}

fn machine(containers: usize, grace: u64) -> Machine {
    let pod = Pod {
        termination_grace: Duration::from_secs(grace),
        node_name: "edge7".into(),
        ..Pod::plain(
            PodId { namespace: "default".into(), name: "web-edge7".into() },
            Uid::parse(&"a".repeat(32)).expect("32 hex digits"),
            (0..containers).map(spec).collect(),
        )
    };
    Machine::new(Arc::new(pod), Settings::default(), at(0))
}

fn ready(container: Index) -> Event {
    Event::ImageReady { container, image_id: "sha256:0".into() }
}

fn missing(container: Index) -> Event {
    Event::ImageMissing { container, problem: ImageProblem::Missing, message: "not there".into() }
}

/// A Pod of one container that runs as PID 7.
fn running(grace: u64) -> Machine {
    let mut machine = machine(1, grace);
    machine.step(Event::Prepared, at(0));
    machine.step(ready(0), at(0));
    machine.step(Event::Started { container: 0, pid: 7 }, at(0));
    machine
}

#[test]
fn a_crash_loop_waits_0_10_20_to_300_seconds_and_starts_afresh_after_ten_minutes() {
    let mut machine = running(30);
    let (mut now, mut waited) = (at(0), Vec::new());
    for run in 0..10 {
        if run == 9 {
            now = now + Duration::from_secs(601);
        }
        machine.step(Event::Exited { container: 0, exit: Exit::Code(1) }, now);
        let mut commands = machine.step(Event::Cleared { container: 0, oom_killed: false }, now);
        let due = machine.deadline().unwrap_or(now);
        waited.push((due - now).as_secs());
        if due > now {
            commands = machine.step(Event::Tick, due);
        }
        assert_eq!(commands, [Command::FindImage { container: 0 }]);
        now = due;
        let attempt = run + 1;
        assert_eq!(machine.step(ready(0), now), [Command::Start { container: 0, attempt }]);
        machine.step(Event::Started { container: 0, pid: 8 }, now);
    }
    assert_eq!(waited, [0, 10, 20, 40, 80, 160, 300, 300, 300, 0]);
}

#[test]
fn the_stop_signal_comes_a_whole_grace_before_the_kill() {
    let mut machine = running(30);
    assert_eq!(machine.step(Event::Stop, at(5)), [Command::Signal { container: 0 }]);
    assert_eq!(machine.step(Event::Tick, at(34)), []);
    assert_eq!(machine.deadline(), Some(at(35)));
    assert_eq!(machine.step(Event::Tick, at(35)), [Command::Kill { container: 0 }]);
}

#[test]
fn no_grace_means_no_stop_signal() {
    assert_eq!(running(0).step(Event::Stop, at(5)), [Command::Kill { container: 0 }]);
}

#[test]
fn a_stop_while_preparing_waits_for_what_was_made_and_releases_it() {
    let mut machine = machine(2, 30);
    assert_eq!(machine.step(Event::Stop, at(1)), []);
    assert_eq!(machine.step(Event::Prepared, at(2)), [Command::Release]);
    machine.step(Event::Released, at(3));
    assert!(machine.is_gone());
}

#[test]
fn a_stop_while_an_image_is_looked_for_starts_nothing() {
    let mut machine = machine(1, 30);
    machine.step(Event::Prepared, at(0));
    assert_eq!(machine.step(Event::Stop, at(1)), [Command::Release]);
    assert_eq!(machine.step(ready(0), at(2)), []);
}

#[test]
fn a_missing_image_waits_ten_seconds_or_until_it_has_come() {
    let mut machine = machine(1, 30);
    machine.step(Event::Prepared, at(0));
    machine.step(missing(0), at(1));
    assert_eq!(machine.deadline(), Some(at(11)));
    let arrived = Event::ImageArrived { container: 0 };
    assert_eq!(machine.step(arrived, at(2)), [Command::FindImage { container: 0 }]);
    machine.step(missing(0), at(2));
    assert_eq!(machine.deadline(), Some(at(22)));
}

#[test]
fn the_image_of_one_container_does_not_end_the_back_off_of_another() {
    let mut machine = machine(2, 30);
    machine.step(Event::Prepared, at(0));
    machine.step(missing(0), at(0));
    machine.step(missing(1), at(0));
    assert_eq!(machine.without_image().collect::<Vec<_>>(), [0, 1]);
    let arrived = Event::ImageArrived { container: 1 };
    assert_eq!(machine.step(arrived, at(1)), [Command::FindImage { container: 1 }]);
    assert_eq!(machine.without_image().collect::<Vec<_>>(), [0]);
    assert_eq!(machine.deadline(), Some(at(10)));
}

fn waiting_reason(machine: &Machine) -> &'static str {
    match machine.status().containers[0].state {
        ContainerState::Waiting { reason, .. } => reason,
        _ => panic!("it does not wait"),
    }
}

#[test]
fn a_pull_that_fails_is_repeated_after_10_to_300_seconds_and_says_so() {
    let mut machine = machine(1, 30);
    machine.step(Event::Prepared, at(0));
    let (mut now, mut waited) = (at(0), Vec::new());
    for pull in 0..7 {
        assert_eq!(waiting_reason(&machine), "ContainerCreating");
        machine.step(missing(0), now);
        let expected = if pull == 0 { "ErrImagePull" } else { "ImagePullBackOff" };
        assert_eq!(waiting_reason(&machine), expected);
        let due = machine.deadline().unwrap();
        waited.push((due - now).as_secs());
        assert_eq!(machine.step(Event::Tick, due), [Command::FindImage { container: 0 }]);
        now = due;
    }
    assert_eq!(waited, [10, 20, 40, 80, 160, 300, 300]);
    machine.step(ready(0), now);
    machine.step(Event::Started { container: 0, pid: 7 }, now);
    assert_eq!(machine.status().containers[0].restart_count, 0, "no run is counted that never was");
}

#[test]
fn an_image_that_may_not_be_pulled_says_so_each_time() {
    let mut machine = machine(1, 30);
    machine.step(Event::Prepared, at(0));
    for _ in 0..2 {
        let problem = ImageProblem::NeverPull;
        machine.step(Event::ImageMissing { container: 0, problem, message: "not there".into() }, at(0));
        assert_eq!(waiting_reason(&machine), "ErrImageNeverPull");
        machine.step(Event::ImageArrived { container: 0 }, at(0));
    }
}

#[test]
fn each_container_waits_until_the_one_before_it_was_tried() {
    let mut machine = machine(2, 30);
    assert_eq!(machine.step(Event::Prepared, at(0)), [Command::FindImage { container: 0 }]);
    assert_eq!(machine.step(ready(0), at(0)), [Command::Start { container: 0, attempt: 0 }]);
    let next = machine.step(Event::Started { container: 0, pid: 7 }, at(0));
    assert_eq!(next, [Command::FindImage { container: 1 }]);
}

#[test]
fn a_process_that_the_saved_state_did_not_know_is_adopted_with_its_number() {
    let mut machine = running(30);
    machine.step(Event::Adopted { container: 0, attempt: 1, pid: 9 }, at(3));
    let status = &machine.status().containers[0];
    assert_eq!((status.pid, status.restart_count), (Some(9), 1));
    assert_eq!(status.last.as_ref().map(|end| end.exit), Some(Exit::Unknown));
}

#[test]
fn a_reboot_counts_one_restart_for_what_ran_and_none_for_what_did_not() {
    let mut before = machine(2, 30);
    before.step(Event::Prepared, at(0));
    before.step(ready(0), at(0));
    before.step(Event::Started { container: 0, pid: 7 }, at(0));
    let pod = Arc::clone(before.pod());
    let after = Machine::after_reboot(pod, before.survival(), Settings::default(), at(0));
    let counts: Vec<_> = after.status().containers.iter().map(|c| c.restart_count).collect();
    assert_eq!(counts, [1, 0]);
    assert!(matches!(after.status().containers[0].state, ContainerState::Waiting { .. }));
}

#[test]
fn a_reboot_does_not_count_a_run_that_never_began() {
    let mut before = running(30);
    before.step(Event::Exited { container: 0, exit: Exit::Code(1) }, at(1));
    before.step(Event::Cleared { container: 0, oom_killed: false }, at(1));
    assert_eq!(before.status().containers[0].restart_count, 1, "its next run is decided");
    let boot = |before: &Machine| {
        Machine::after_reboot(Arc::clone(before.pod()), before.survival(), Settings::default(), at(0))
    };
    let after = boot(&before);
    assert_eq!(after.status().containers[0].restart_count, 1, "and has not begun");
    assert_eq!(boot(&after).status().containers[0].restart_count, 1, "nor on the next boot");
}

#[test]
fn a_run_that_began_and_ended_unseen_counts_for_the_back_off() {
    let mut machine = machine(1, 30);
    machine.step(Event::Prepared, at(0));
    machine.step(ready(0), at(0));
    // Saved while its first run was being started; by now the second one runs.
    machine.step(Event::Adopted { container: 0, attempt: 1, pid: 9 }, at(3));
    assert_eq!(machine.status().containers[0].last.as_ref().map(|end| end.exit), Some(Exit::Unknown));
    machine.step(Event::Exited { container: 0, exit: Exit::Code(1) }, at(4));
    machine.step(Event::Cleared { container: 0, oom_killed: false }, at(4));
    assert_eq!(machine.deadline(), Some(at(14)));
}

#[test]
fn the_end_of_the_pause_process_is_the_reason_of_the_ends_that_come_of_it_and_of_no_other() {
    let mut machine = machine(2, 30);
    machine.step(Event::Prepared, at(0));
    for container in 0..2 {
        machine.step(ready(container), at(0));
        machine.step(Event::Started { container, pid: 7 }, at(0));
    }
    machine.step(Event::PauseEnded { message: "gone".into() }, at(1));
    let killed = |container| Event::Exited { container, exit: Exit::Signal(9) };
    assert_eq!(machine.step(killed(0), at(1)), [Command::Clear { container: 0 }]);
    // The second had ended by itself, just before.
    machine.step(Event::Exited { container: 1, exit: Exit::Code(0) }, at(1));
    let causes = |machine: &Machine| {
        let cause = |c: &crate::pod::status::ContainerStatus| match &c.state {
            ContainerState::Terminated(end) => end.cause.clone(),
            _ => None,
        };
        machine.status().containers.iter().map(cause).collect::<Vec<_>>()
    };
    assert_eq!(causes(&machine), [Some("gone".to_owned()), None]);
    // It runs again, and is killed by somebody else.
    assert_eq!(
        machine.step(Event::Cleared { container: 0, oom_killed: false }, at(1)),
        [Command::FindImage { container: 0 }]
    );
    machine.step(ready(0), at(1));
    machine.step(Event::Started { container: 0, pid: 8 }, at(1));
    machine.step(killed(0), at(2));
    assert_eq!(causes(&machine), [None, None]);
}
