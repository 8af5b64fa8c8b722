//! What a Pod's status says of it, moment by moment.

use super::*;

/// Two containers that never run again, unless the first ends with 42: then all start over.
fn gang() -> Machine {
    let rule = RestartRule { codes: vec![42], one_of: true, action: RestartAction::RestartAll };
    let never = |rules| Spec { restart: Restart { policy: RestartPolicy::Never, rules }, ..role(Role::Main) };
    let (mut machine, _) = pod_of(vec![never(vec![rule]), never(Vec::new())], 30);
    machine.step(started(0), at(0));
    machine.step(started(1), at(0));
    machine
}

fn cleared(container: Index) -> Event {
    Event::Cleared { container }
}

/// Reason and code of a container's state, or 0 where it waits.
fn shown(machine: &Machine, container: Index) -> (&'static str, i32) {
    match &machine.status().containers[container].state {
        ContainerState::Waiting { reason, .. } => (reason, 0),
        ContainerState::Terminated(end) => (end.reason(), end.exit.code()),
        ContainerState::Running { .. } => ("Running", 0),
    }
}

fn last(machine: &Machine, container: Index) -> Option<(&'static str, i32)> {
    let last = machine.status().containers.swap_remove(container).last;
    last.map(|end| (end.reason(), end.exit.code()))
}

#[test]
fn who_is_killed_or_waits_because_all_start_over_says_so() {
    let mut machine = gang();
    let todo = machine.step(Event::Exited { container: 0, exit: Exit::Code(42) }, at(1));
    assert_eq!(todo, [Command::Clear { container: 0 }, Command::Kill { container: 1 }]);
    machine.step(Event::Exited { container: 1, exit: Exit::Signal(9) }, at(1));
    assert_eq!(shown(&machine, 1), ("RestartingAllContainers", 137));
    let ContainerState::Terminated(end) = &machine.status().containers[1].state else {
        panic!("it has ended")
    };
    assert_eq!(end.message().as_deref(), Some("all containers of the Pod start again"));
    machine.step(cleared(1), at(1));
    assert_eq!(shown(&machine, 1), ("RestartingAllContainers", 0));
    assert_eq!(last(&machine, 1), Some(("RestartingAllContainers", 137)));
    // The one that asked for it has ended by itself, and says how.
    assert_eq!(shown(&machine, 0), ("Error", 42));
    let both = [0, 1].map(|container| Command::FindImage { container });
    assert_eq!(machine.step(cleared(0), at(1)), both);
    assert_eq!([0, 1].map(|container| shown(&machine, container)), [("ContainerCreating", 0); 2]);
    assert_eq!(last(&machine, 0), Some(("Error", 42)));
}

#[test]
fn who_has_ended_by_itself_when_all_are_killed_says_how() {
    let mut machine = gang();
    machine.step(Event::Exited { container: 0, exit: Exit::Code(42) }, at(1));
    machine.step(Event::Exited { container: 1, exit: Exit::Code(3) }, at(1));
    assert_eq!(shown(&machine, 1), ("Error", 3));
}

#[test]
fn what_could_not_be_created_is_tried_again_after_10_to_300_seconds_whatever_its_policy() {
    let never = Spec { restart: Restart::by(RestartPolicy::Never), ..role(Role::Main) };
    let (mut machine, _) = pod_of(vec![never], 30);
    let (mut now, mut waited) = (at(0), Vec::new());
    for _ in 0..7 {
        let failure = StartFailure::Create;
        machine.step(Event::StartFailed { container: 0, failure, message: "no memory".into() }, now);
        assert_eq!(shown(&machine, 0), ("CreateContainerError", 0));
        assert_eq!(machine.status().phase, Phase::Pending);
        let due = machine.deadline().unwrap();
        waited.push((due - now).as_secs());
        assert_eq!(machine.step(Event::Tick, due), [Command::FindImage { container: 0 }]);
        assert_eq!(machine.step(ready(0), due), [start(0)], "it is no other run");
        now = due;
    }
    assert_eq!(waited, [10, 20, 40, 80, 160, 300, 300]);
    // Once it could be created, that is forgotten.
    machine.step(started(0), now);
    assert_eq!(shown(&machine, 0), ("Running", 0));
}

#[test]
fn who_cannot_be_started_again_waits_with_its_last_end_beside_it() {
    let mut machine = running(30);
    end(&mut machine, 0, 3, at(1));
    machine.step(ready(0), at(1));
    let failure = StartFailure::Config;
    machine.step(Event::StartFailed { container: 0, failure, message: "no such user".into() }, at(1));
    assert_eq!(shown(&machine, 0), ("CreateContainerConfigError", 0));
    assert_eq!(last(&machine, 0), Some(("Error", 3)));
    assert_eq!(machine.status().phase, Phase::Running, "it will run again");
}

#[test]
fn each_container_and_each_version_of_a_pod_has_a_back_off_of_its_own() {
    let mut machine = machine(2, 30);
    machine.step(Event::Prepared, at(0));
    for container in 0..2 {
        machine.step(ready(container), at(0));
        machine.step(started(container), at(0));
    }
    end(&mut machine, 0, 1, at(0));
    machine.step(ready(0), at(0));
    machine.step(started(0), at(0));
    end(&mut machine, 0, 1, at(0));
    assert_eq!([0, 1].map(|container| shown(&machine, container).0), ["CrashLoopBackOff", "Running"]);
    assert_eq!(end(&mut machine, 1, 1, at(0)), [Command::FindImage { container: 1 }], "it is its first end");
    // Another version has another uid, and is another machine.
    let mut next = running(30);
    assert_eq!(end(&mut next, 0, 1, at(0)), [Command::FindImage { container: 0 }]);
}

#[test]
fn once_a_main_container_has_run_the_pod_stays_initialized() {
    let mut machine = initialized(30, |spec| spec);
    assert!(condition(&machine, "Initialized").0);
    end(&mut machine, 1, 1, at(2));
    assert!(!machine.status().containers[1].started);
    assert!(condition(&machine, "Initialized").0, "its sidecar will be back");
}

#[test]
fn the_state_is_the_newest_run_and_last_state_the_one_before() {
    let on_failure = Spec { restart: Restart::by(RestartPolicy::OnFailure), ..role(Role::Main) };
    let (mut machine, _) = pod_of(vec![on_failure], 30);
    machine.step(started(0), at(1));
    assert_eq!((shown(&machine, 0), last(&machine, 0)), (("Running", 0), None));
    end(&mut machine, 0, 3, at(2));
    machine.step(ready(0), at(2));
    machine.step(started(0), at(3));
    assert_eq!(last(&machine, 0), Some(("Error", 3)));
    end(&mut machine, 0, 0, at(4));
    assert_eq!((shown(&machine, 0), last(&machine, 0)), (("Completed", 0), Some(("Error", 3))));
    let status = machine.status().containers.swap_remove(0);
    assert_eq!(status.image_id.as_deref(), Some("sha256:0"));
    let ContainerState::Terminated(newest) = status.state else { panic!("it has ended") };
    assert_eq!((newest.started_at, newest.finished_at), (Some(at(3)), at(4)));
}

#[test]
fn why_it_ended_is_the_first_reason_that_holds_and_its_words_come_last() {
    let mut machine = running(30);
    let ends = |machine: &mut Machine, exit: Event, oom_killed, words: Option<&str>| {
        machine.step(exit, at(1));
        machine.note_last_words(0, oom_killed, words.map(str::to_owned));
        machine.step(cleared(0), at(1));
        let last = machine.status().containers.swap_remove(0).last.unwrap();
        machine.step(Event::Tick, at(1000));
        machine.step(ready(0), at(1000));
        (last.reason(), last.exit.code(), last.message().unwrap_or_default())
    };
    let killed = Event::Exited { container: 0, exit: Exit::Signal(9) };
    let told = ends(&mut machine, killed, true, Some("no memory"));
    assert_eq!(told, ("OOMKilled", 137, "no memory".to_owned()));
    let message = "no such file".to_owned();
    let failed = Event::StartFailed { container: 0, failure: StartFailure::Exec, message };
    let told = ends(&mut machine, failed, false, Some("words"));
    assert_eq!(told, ("StartError", 128, "no such file: words".to_owned()));
}

#[test]
fn an_image_that_is_lost_again_later_is_a_new_failure() {
    let mut machine = machine(1, 30);
    machine.step(Event::Prepared, at(0));
    for now in [0, 10] {
        machine.step(missing(0), at(now));
        machine.step(Event::Tick, at(now + 20));
    }
    assert_eq!(shown(&machine, 0), ("ImagePullBackOff", 0));
    machine.step(ready(0), at(40));
    machine.step(started(0), at(40));
    assert_eq!(end(&mut machine, 0, 1, at(50)), [Command::FindImage { container: 0 }]);
    machine.step(missing(0), at(50));
    assert_eq!((shown(&machine, 0).0, machine.deadline()), ("ErrImagePull", Some(at(60))));
}

#[test]
fn what_kept_a_pod_from_being_prepared_is_said_until_it_is() {
    let mut machine = machine(1, 30);
    machine.step(Event::PrepareFailed { problem: PrepareProblem::Other, message: "no space".into() }, at(0));
    assert_eq!(machine.status().message.as_deref(), Some("no space"));
    let due = machine.deadline().unwrap();
    assert_eq!(machine.step(Event::Tick, due), [Command::Prepare]);
    machine.step(Event::Prepared, due);
    assert_eq!(machine.status().message, None);
}

#[test]
fn a_deadline_that_is_over_says_so_and_fails_what_ends_well() {
    let mut machine = machine(1, 30);
    Arc::make_mut(&mut machine.pod).active_deadline = Some(Duration::from_secs(60));
    machine.step(Event::Prepared, at(0));
    machine.step(ready(0), at(0));
    machine.step(started(0), at(0));
    assert_eq!(machine.deadline(), Some(at(60)));
    assert_eq!(machine.step(Event::Tick, at(60)), [Command::Signal { container: 0 }]);
    assert_eq!(end(&mut machine, 0, 0, at(61)), [Command::Release]);
    machine.step(Event::Released, at(61));
    let status = machine.status();
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some("DeadlineExceeded")));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was active on the node longer than the specified deadline")
    );
    assert!(!machine.is_ready() && !status.terminating);
}

#[test]
fn who_has_written_more_than_it_may_is_evicted_and_stays_so_over_a_reboot() {
    let mut machine = running(30);
    let exceeded = || Event::StorageExceeded { message: "too much".into() };
    assert_eq!(machine.step(exceeded(), at(10)), [Command::Signal { container: 0 }]);
    assert_eq!(machine.deadline(), Some(at(12)), "it is given two seconds");
    assert_eq!(machine.status().phase, Phase::Failed);
    assert_eq!(machine.step(exceeded(), at(11)), [], "once");
    assert_eq!(end(&mut machine, 0, 0, at(11)), [Command::Release]);
    machine.step(Event::Released, at(11));
    assert!(machine.is_finished());

    let on_disk = serde_json::to_string(&machine.survival()).unwrap();
    let survival = serde_json::from_str(&on_disk).unwrap();
    let mut rebooted = Machine::after_reboot(Arc::clone(machine.pod()), survival, Settings::default(), at(1));
    assert_eq!((rebooted.begin(), rebooted.step(exceeded(), at(2))), (vec![], vec![]));
    for status in [machine.status(), rebooted.status()] {
        let why = (status.phase, status.reason, status.message.as_deref());
        assert_eq!(why, (Phase::Failed, Some("Evicted"), Some("too much")));
    }
}

#[test]
fn who_is_only_rehearsed_or_ends_already_is_not_evicted() {
    let exceeded = || Event::StorageExceeded { message: "too much".into() };
    let mut waits = Machine::rehearsing(Arc::clone(machine(1, 30).pod()), Settings::default(), at(0));
    let mut ends = running(30);
    ends.step(Event::Stop { within: None }, at(1));
    for machine in [&mut waits, &mut ends] {
        assert!(!machine.can_fail());
        assert_eq!(machine.step(exceeded(), at(2)), []);
        assert_eq!(machine.status().reason, None);
    }
    assert_eq!(ends.deadline(), Some(at(31)), "it keeps its grace");
}

#[test]
fn those_that_come_after_may_start_when_it_is_ready_or_has_succeeded_and_not_while_it_ends() {
    let never = |spec| Spec { restart: Restart::by(RestartPolicy::Never), ..spec };
    let (mut machine, _) = pod_of(vec![never(role(Role::Main))], 30);
    assert!(!machine.is_ready());
    machine.step(started(0), at(0));
    assert!(machine.is_ready());
    let mut ending = machine.clone();
    ending.step(Event::Stop { within: None }, at(1));
    assert!(!ending.is_ready() && ending.is_terminating());
    for (code, ready) in [(0, true), (1, false)] {
        let mut machine = machine.clone();
        end(&mut machine, 0, code, at(2));
        assert!(!machine.is_ready(), "it is being released");
        machine.step(Event::Released, at(2));
        assert_eq!((machine.is_finished(), machine.is_ready()), (true, ready));
    }
}

#[test]
fn an_init_container_is_ready_when_it_has_succeeded() {
    let (mut machine, _) = pod_of(vec![role(Role::Init), role(Role::Main)], 30);
    let is_ready = |machine: &Machine| machine.status().containers[0].ready;
    machine.step(started(0), at(0));
    assert!(!is_ready(&machine));
    end(&mut machine, 0, 0, at(1));
    assert!(is_ready(&machine));
}

#[test]
fn what_resists_is_said_again_every_ten_seconds() {
    let mut machine = running(0);
    assert_eq!(machine.step(Event::Stop { within: None }, at(0)), [Command::Kill { container: 0 }]);
    for now in [2, 12, 22] {
        assert_eq!(machine.deadline(), Some(at(now)));
        assert_eq!(machine.step(Event::Tick, at(now)), [Command::Diagnose { container: 0 }]);
    }
    machine.step(Event::Stuck { container: 0, processes: "7 (D)".into() }, at(22));
    assert_eq!(machine.status().message.as_deref(), Some("container c0: 7 (D)"));
    machine.step(Event::Exited { container: 0, exit: Exit::Signal(9) }, at(23));
    assert_eq!(machine.status().message, None, "it has ended");
    for now in [25, 35] {
        assert_eq!(machine.deadline(), Some(at(now)));
        assert_eq!(machine.step(Event::Tick, at(now)), [Command::Diagnose { container: 0 }]);
    }
}
