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
    Event::Cleared { container, oom_killed: false, message: None }
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
