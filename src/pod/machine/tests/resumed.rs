//! What a new worker makes of a saved state, and a Pod of its rehearsal.

use super::*;

/// As a new worker has it when it has been told of everything that runs.
fn resumed(before: &Machine, now: BootTime) -> Machine {
    let text = serde_json::to_string(before.state()).unwrap();
    let state = serde_json::from_str(&text).unwrap();
    Machine::resume(Arc::clone(before.pod()), state, Settings::default(), now).unwrap()
}

#[test]
fn a_hook_goes_on_with_a_new_worker_unless_it_is_of_no_use_any_more() {
    let (mut machine, _) = pod_of(vec![with_hooks(role(Role::Main))], 30);
    let hook = |hook| vec![Command::RunHook { container: 0, attempt: 0, hook }];
    assert_eq!(machine.step(started(0), at(0)), hook(Hook::PostStart));
    assert_eq!(resumed(&machine, at(1)).begin(), hook(Hook::PostStart));
    assert_eq!(machine.step(Event::Stop { within: None }, at(1)), hook(Hook::PreStop));
    assert_eq!(resumed(&machine, at(2)).begin(), hook(Hook::PreStop), "nobody waits for postStart now");
    machine.step(hook_ended(0, Hook::PreStop, None), at(2));
    assert_eq!(resumed(&machine, at(3)).begin(), [], "it was signalled, once");
}

#[test]
fn the_state_of_another_pod_is_not_taken() {
    let (one, two) = (machine(1, 30), machine(2, 30));
    assert!(
        Machine::resume(Arc::clone(two.pod()), one.state().clone(), Settings::default(), at(0)).is_none()
    );
}

#[test]
fn a_grace_goes_on_with_a_new_worker() {
    let mut machine = running(30);
    machine.step(Event::Stop { within: None }, at(5));
    let mut next = resumed(&machine, at(20));
    assert_eq!(next.step(Event::Tick, at(20)), []);
    assert_eq!(next.deadline(), Some(at(35)));
    let mut late = resumed(&machine, at(50));
    assert_eq!(late.step(Event::Tick, at(50)), [Command::Kill { container: 0 }]);
}

#[test]
fn a_back_off_goes_on_with_a_new_worker() {
    let mut machine = running(30);
    end(&mut machine, 0, 1, at(0));
    machine.step(ready(0), at(0));
    machine.step(started(0), at(0));
    let mut machine = resumed(&machine, at(1));
    machine.step(Event::Tick, at(1));
    end(&mut machine, 0, 1, at(1));
    let mut machine = resumed(&machine, at(2));
    assert_eq!(machine.step(Event::Tick, at(2)), []);
    assert_eq!(machine.deadline(), Some(at(11)));
}

#[test]
fn a_pod_begins_when_its_turn_comes_and_not_with_its_rehearsal() {
    let plain = machine(1, 30);
    let mut machine = Machine::rehearsing(Arc::clone(plain.pod()), Settings::default(), at(0));
    for now in 0..3 {
        machine.step(Event::RehearsalFailed { message: "no such directory".into() }, at(10 * now));
        assert_eq!(machine.rehearsal(), Some(Rehearsal::Failed("no such directory".into())));
        let due = machine.deadline().unwrap();
        assert!(due > at(10 * now));
        assert_eq!(machine.step(Event::Tick, due), [Command::Rehearse]);
    }
    assert_eq!(machine.step(Event::Rehearsed, at(30)), [Command::FindImage { container: 0 }]);
    assert_eq!((machine.rehearsal(), machine.status().message), (Some(Rehearsal::Open), None));
    machine.step(missing(0), at(30));
    assert_eq!(machine.rehearsal(), Some(Rehearsal::Failed("container c0: not there".into())));
    let arrived = Event::ImageArrived { container: 0 };
    assert_eq!(machine.step(arrived, at(31)), [Command::FindImage { container: 0 }]);
    assert_eq!(machine.step(ready(0), at(31)), [], "nothing starts");
    assert_eq!(machine.rehearsal(), Some(Rehearsal::Passed));
    assert_eq!(machine.step(Event::Proceed, at(100)), [Command::Prepare]);
    assert_eq!(machine.step(Event::Proceed, at(101)), [], "once");
    let status = machine.status();
    assert_eq!((status.started_at, machine.rehearsal()), (at(100), None));
    assert!(status.conditions.iter().all(|condition| condition.since == at(100)), "{status:#?}");
    // Its back-off begins afresh, too.
    machine
        .step(Event::PrepareFailed { problem: PrepareProblem::Other, message: "no space".into() }, at(101));
    assert_eq!(machine.deadline(), Some(at(101) + Duration::from_millis(500)));
}

#[test]
fn a_rehearsal_that_nobody_wants_any_more_leaves_nothing_to_release() {
    let plain = machine(1, 30);
    let mut machine = Machine::rehearsing(Arc::clone(plain.pod()), Settings::default(), at(0));
    machine.step(Event::Rehearsed, at(0));
    assert_eq!(machine.step(Event::Stop { within: None }, at(1)), []);
    assert!(machine.is_gone());
}

#[test]
fn the_end_of_a_run_that_was_being_cleared_is_known_when_the_next_one_is_adopted() {
    let mut machine = running(30);
    machine.step(Event::Exited { container: 0, exit: Exit::Code(3) }, at(1));
    let mut next = resumed(&machine, at(5));
    next.step(Event::Adopted { container: 0, attempt: 1, pid: 9 }, at(5));
    let status = next.status().containers.swap_remove(0);
    assert_eq!((status.pid, status.restart_count), (Some(9), 1));
    assert_eq!(status.last.map(|end| (end.exit, end.finished_at)), Some((Exit::Code(3), at(1))));
}

#[test]
fn a_change_while_nobody_was_there_is_noticed() {
    let before = running_on_what_may_change();
    let resumed = |fingerprint| {
        let state = before.state().clone();
        let mut machine = Machine::resume(Arc::clone(before.pod()), state, Settings::default(), at(50));
        let machine = machine.as_mut().expect("its own state");
        machine.step(Event::Tick, at(50));
        machine.step(changed_to(fingerprint), at(50))
    };
    assert_eq!(resumed("one"), []);
    assert_eq!(resumed("two"), [Command::Signal { container: 1 }]);
}
