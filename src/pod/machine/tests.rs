//! One Pod's life by hand: crash loop, grace, stops at awkward moments, images that come, adoption, reboot.

mod resumed;
mod shown;

use super::*;
use crate::manifest::pod::{
    Container as Spec, HookAction, Lifecycle, PodId, Probe, ProbeAction, Probes, Restart, RestartAction,
    RestartPolicy, RestartRule, Role, Uid,
};
use crate::pod::status::{ContainerState, Phase};
use crate::pod::{Exit, ImageProblem, PrepareProblem};

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
        let mut commands = machine.step(Event::Cleared { container: 0 }, now);
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
    assert_eq!(machine.step(Event::Stop { within: None }, at(5)), [Command::Signal { container: 0 }]);
    assert_eq!(machine.step(Event::Tick, at(34)), []);
    assert_eq!(machine.deadline(), Some(at(35)));
    assert_eq!(machine.step(Event::Tick, at(35)), [Command::Kill { container: 0 }]);
}

#[test]
fn no_grace_means_no_stop_signal() {
    assert_eq!(running(0).step(Event::Stop { within: None }, at(5)), [Command::Kill { container: 0 }]);
}

#[test]
fn a_stop_while_preparing_waits_for_what_was_made_and_releases_it() {
    let mut machine = machine(2, 30);
    assert_eq!(machine.step(Event::Stop { within: None }, at(1)), []);
    assert_eq!(machine.step(Event::Prepared, at(2)), [Command::Release]);
    machine.step(Event::Released, at(3));
    assert!(machine.is_gone());
}

#[test]
fn a_stop_while_an_image_is_looked_for_starts_nothing() {
    let mut machine = machine(1, 30);
    machine.step(Event::Prepared, at(0));
    assert_eq!(machine.step(Event::Stop { within: None }, at(1)), [Command::Release]);
    assert_eq!(machine.step(ready(0), at(2)), []);
}

#[test]
fn what_lacks_a_config_map_starts_when_that_has_come_and_holds_up_no_other() {
    let mut machine = machine(2, 30);
    machine.step(Event::Prepared, at(0));
    machine.step(ready(0), at(0));
    machine.step(ready(1), at(0));
    let failed =
        |failure| Event::StartFailed { container: 0, failure, message: "configmap \"a\" not found".into() };
    let others = machine.step(failed(StartFailure::Config), at(1));
    assert_eq!(others, [Command::Start { container: 1, attempt: 0 }]);
    let ContainerState::Waiting { reason, message } = machine.status().containers.swap_remove(0).state else {
        panic!("it waits")
    };
    assert_eq!(
        (reason, message.as_deref()),
        ("CreateContainerConfigError", Some("configmap \"a\" not found"))
    );
    assert_eq!(machine.deadline(), Some(at(11)));
    assert_eq!(
        machine.step(Event::ObjectsChanged { fingerprint: None }, at(2)),
        [Command::FindImage { container: 0 }]
    );
    assert_eq!(machine.step(ready(0), at(2)), [Command::Start { container: 0, attempt: 0 }]);
    machine.step(failed(StartFailure::Create), at(3));
    assert_eq!(machine.step(Event::ObjectsChanged { fingerprint: None }, at(4)), []);
}

fn changed_to(fingerprint: &str) -> Event {
    Event::ObjectsChanged { fingerprint: Some(fingerprint.to_owned()) }
}

/// A Pod that starts again when what it uses has changed: a sidecar and a main container, which run.
fn running_on_what_may_change() -> Machine {
    let plain = machine(2, 30);
    let mut pod = Pod { restart_on_change: true, ..Pod::clone(plain.pod()) };
    pod.containers[0].role = Role::Sidecar;
    let mut machine = Machine::new(Arc::new(pod), Settings::default(), at(0));
    machine.step(changed_to("one"), at(0));
    machine.step(Event::Prepared, at(0));
    for container in 0..2 {
        machine.step(ready(container), at(0));
        machine.step(Event::Started { container, pid: 7 + container as u32 }, at(0));
    }
    machine
}

fn ends(machine: &mut Machine, container: Index, now: BootTime) -> Vec<Command> {
    machine.step(Event::Exited { container, exit: Exit::Signal(15) }, now);
    machine.step(Event::Cleared { container }, now)
}

#[test]
fn a_change_of_what_a_pod_uses_starts_it_again_in_order_and_within_the_grace() {
    let mut machine = running_on_what_may_change();
    assert_eq!(machine.step(changed_to("one"), at(5)), []);
    assert_eq!(machine.step(Event::ObjectsChanged { fingerprint: None }, at(5)), []);
    assert_eq!(machine.step(changed_to("two"), at(5)), [Command::Signal { container: 1 }]);
    assert_eq!(ends(&mut machine, 1, at(6)), [Command::Signal { container: 0 }]);
    // Once more before they start, which is no reason to end them again.
    assert_eq!(machine.step(changed_to("three"), at(6)), []);
    assert_eq!(ends(&mut machine, 0, at(7)), [0, 1].map(|container| Command::FindImage { container }));
    let status = machine.status();
    assert_eq!(status.containers.iter().map(|c| c.restart_count).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(
        status.containers[1].last.as_ref().and_then(|end| end.cause.as_deref()),
        Some("a ConfigMap or Secret that the Pod uses has changed")
    );
    assert_eq!(machine.step(ready(0), at(7)), [Command::Start { container: 0, attempt: 1 }]);
}

#[test]
fn who_does_not_end_for_a_change_is_killed_when_the_grace_is_over() {
    let mut machine = running_on_what_may_change();
    machine.step(changed_to("two"), at(5));
    assert_eq!(machine.step(Event::Tick, at(33)), [Command::Signal { container: 0 }]);
    let killed = machine.step(Event::Tick, at(35));
    assert_eq!(killed, [1, 0].map(|container| Command::Kill { container }));
}

#[test]
fn a_pod_that_does_not_ask_for_it_is_not_started_again_for_a_change() {
    let mut machine = running(30);
    machine.step(changed_to("one"), at(1));
    assert_eq!(machine.step(changed_to("two"), at(2)), []);
}

#[test]
fn a_new_version_that_lacks_a_config_map_is_rehearsed_again_when_that_has_come() {
    let pod = Arc::clone(machine(1, 30).pod());
    let mut machine = Machine::rehearsing(pod, Settings::default(), at(0));
    machine.step(Event::RehearsalFailed { message: "configmap \"a\" not found".into() }, at(0));
    assert_eq!(machine.step(Event::ObjectsChanged { fingerprint: None }, at(0)), [Command::Rehearse]);
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
        // While it is tried again, what was wrong last is said.
        let before = ["ContainerCreating", "ErrImagePull", "ImagePullBackOff"][pull.min(2)];
        assert_eq!(waiting_reason(&machine), before);
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
fn images_are_looked_for_side_by_side_and_containers_start_one_after_the_other() {
    let mut machine = machine(3, 30);
    let all = machine.step(Event::Prepared, at(0));
    assert_eq!(all, [0, 1, 2].map(|container| Command::FindImage { container }));
    assert_eq!(machine.step(ready(1), at(0)), [], "the first has not been tried");
    assert_eq!(machine.step(ready(0), at(0)), [Command::Start { container: 0, attempt: 0 }]);
    let next = machine.step(Event::Started { container: 0, pid: 7 }, at(0));
    assert_eq!(next, [Command::Start { container: 1, attempt: 0 }]);
    machine.step(missing(2), at(0));
    let failed = Event::StartFailed { container: 1, failure: StartFailure::Create, message: "no".into() };
    assert_eq!(machine.step(failed, at(0)), [], "one that fails keeps nobody, but here nobody is left");
}

#[test]
fn nothing_is_concluded_before_a_new_worker_knows_all_that_runs() {
    // Its deadline passes while there is no worker; one of its processes was written down nowhere but in the journal.
    let mut before = machine(2, 30);
    Arc::make_mut(&mut before.pod).active_deadline = Some(Duration::from_secs(60));
    before.step(Event::Prepared, at(0));
    before.step(ready(0), at(0));
    before.step(Event::Started { container: 0, pid: 7 }, at(0));
    let (pod, state) = (Arc::clone(before.pod()), before.state().clone());
    let mut machine = Machine::resume(pod, state, Settings::default(), at(100)).unwrap();
    machine.step(Event::Adopted { container: 0, attempt: 0, pid: 7 }, at(100));
    machine.step(Event::Adopted { container: 1, attempt: 0, pid: 8 }, at(100));
    let ends = machine.step(Event::Tick, at(100));
    assert_eq!(ends, [Command::Signal { container: 1 }, Command::Signal { container: 0 }]);
}

/// A Pod of these containers, all of whose images are there.
fn pod_of(specs: Vec<Spec>, grace: u64) -> (Machine, Vec<Command>) {
    let mut machine = machine(0, grace);
    let count = specs.len();
    Arc::make_mut(&mut machine.pod).containers = specs;
    let mut machine = Machine::new(Arc::clone(machine.pod()), Settings::default(), at(0));
    machine.step(Event::Prepared, at(0));
    let commands = (0..count).flat_map(|container| machine.step(ready(container), at(0))).collect();
    (machine, commands)
}

fn role(role: Role) -> Spec {
    Spec { name: format!("{role:?}"), role, ..spec(0) }
}

fn with_hooks(spec: Spec) -> Spec {
    let hook = || Some(HookAction::Sleep(Duration::ZERO));
    Spec { lifecycle: Lifecycle { post_start: hook(), pre_stop: hook(), stop_signal: None }, ..spec }
}

fn start(container: Index) -> Command {
    Command::Start { container, attempt: 0 }
}

fn started(container: Index) -> Event {
    Event::Started { container, pid: 7 }
}

fn hook_ended(container: Index, hook: Hook, error: Option<&str>) -> Event {
    Event::HookEnded { container, attempt: 0, hook, error: error.map(str::to_owned) }
}

/// An init container, two sidecars and a main container, all but the first of which run.
fn initialized(grace: u64, change: fn(Spec) -> Spec) -> Machine {
    let roles = [Role::Init, Role::Sidecar, Role::Sidecar, Role::Main];
    let (mut machine, commands) = pod_of(roles.map(|one| change(role(one))).into(), grace);
    assert_eq!(commands, [start(0)]);
    machine.step(started(0), at(0));
    machine.step(Event::Exited { container: 0, exit: Exit::Code(0) }, at(1));
    let next = machine.step(Event::Cleared { container: 0 }, at(1));
    assert_eq!(next, [start(1)]);
    for container in 1..4 {
        machine.step(started(container), at(1));
        machine.step(hook_ended(container, Hook::PostStart, None), at(1));
    }
    machine
}

fn end(machine: &mut Machine, container: Index, code: u8, now: BootTime) -> Vec<Command> {
    machine.step(Event::Exited { container, exit: Exit::Code(code) }, now);
    machine.step(Event::Cleared { container }, now)
}

#[test]
fn sidecars_end_last_and_in_reverse_when_the_pod_is_stopped() {
    let mut machine = initialized(30, |spec| spec);
    let signal = |container| [Command::Signal { container }];
    assert_eq!(machine.step(Event::Stop { within: None }, at(10)), signal(3));
    assert_eq!(end(&mut machine, 3, 0, at(11)), signal(2));
    assert_eq!(end(&mut machine, 2, 0, at(12)), signal(1));
    assert_eq!(end(&mut machine, 1, 0, at(13)), [Command::Release]);
}

#[test]
fn who_has_not_had_a_signal_gets_it_two_seconds_before_the_grace_is_over_which_is_never_exceeded() {
    let mut machine = initialized(30, |spec| spec);
    machine.step(Event::Stop { within: None }, at(10));
    assert_eq!(machine.deadline(), Some(at(38)));
    let signals = machine.step(Event::Tick, at(38));
    assert_eq!(signals, [Command::Signal { container: 2 }, Command::Signal { container: 1 }]);
    let kills = machine.step(Event::Tick, at(40));
    assert_eq!(kills, [3, 2, 1].map(|container| Command::Kill { container }));
}

#[test]
fn in_a_short_grace_the_last_word_is_its_second_half() {
    let mut machine = initialized(2, |spec| spec);
    assert_eq!(machine.step(Event::Stop { within: None }, at(10)), [Command::Signal { container: 3 }]);
    assert_eq!(machine.deadline(), Some(at(11)));
    let signals = machine.step(Event::Tick, at(11));
    assert_eq!(signals, [Command::Signal { container: 2 }, Command::Signal { container: 1 }]);
}

#[test]
fn every_pre_stop_begins_at_once_and_the_signal_waits_for_it() {
    let mut machine = initialized(30, with_hooks);
    let hook = |container| Command::RunHook { container, attempt: 0, hook: Hook::PreStop };
    assert_eq!(machine.step(Event::Stop { within: None }, at(10)), [hook(1), hook(2), hook(3)]);
    assert_eq!(machine.step(hook_ended(1, Hook::PreStop, None), at(11)), []);
    assert_eq!(
        machine.step(hook_ended(3, Hook::PreStop, Some("no")), at(12)),
        [Command::Signal { container: 3 }]
    );
    // The one of container 2 hangs.
    assert_eq!(end(&mut machine, 3, 0, at(13)), []);
    assert_eq!(
        machine.step(Event::Tick, at(38)),
        [Command::Signal { container: 2 }, Command::Signal { container: 1 }]
    );
}

#[test]
fn a_grace_period_can_be_shortened_and_not_extended() {
    let within = |seconds| Event::Stop { within: Some(Duration::from_secs(seconds)) };
    let mut machine = initialized(30, |spec| spec);
    machine.step(within(20), at(10));
    machine.step(within(60), at(11));
    assert_eq!(machine.deadline(), Some(at(28)));
    machine.step(within(5), at(12));
    assert_eq!(machine.deadline(), Some(at(15)));
    assert_eq!(machine.step(within(0), at(13)), [1, 2, 3].map(|container| Command::Kill { container }));
}

#[test]
fn a_post_start_hook_holds_back_the_next_and_ends_its_container_if_it_fails() {
    let (mut machine, _) = pod_of(vec![with_hooks(role(Role::Main)), role(Role::Main)], 30);
    let hook = |hook| Command::RunHook { container: 0, attempt: 0, hook };
    assert_eq!(machine.step(started(0), at(0)), [hook(Hook::PostStart)]);
    let next = machine.step(hook_ended(0, Hook::PostStart, Some("no shell")), at(5));
    assert_eq!(next, [hook(Hook::PreStop), start(1)]);
    machine.step(hook_ended(0, Hook::PreStop, None), at(5));
    machine.step(Event::Exited { container: 0, exit: Exit::Code(0) }, at(6));
    let ContainerState::Terminated(end) = &machine.status().containers[0].state else {
        panic!("it has ended")
    };
    assert_eq!(end.cause.as_deref(), Some("PostStartHookError: no shell"));
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod_and_nothing_else_starts() {
    let mut init = role(Role::Init);
    init.restart = Restart::by(RestartPolicy::Never);
    let (mut machine, _) = pod_of(vec![init, role(Role::Main)], 30);
    machine.step(started(0), at(0));
    assert_eq!(end(&mut machine, 0, 1, at(1)), [Command::Release]);
    machine.step(Event::Released, at(1));
    assert_eq!((machine.is_finished(), machine.status().phase), (true, Phase::Failed));
}

#[test]
fn when_the_work_is_done_sidecars_are_ended_within_the_grace() {
    let mut machine = initialized(30, |mut spec| {
        spec.restart =
            Restart::by(if spec.role == Role::Main { RestartPolicy::Never } else { RestartPolicy::Always });
        spec
    });
    assert_eq!(end(&mut machine, 3, 0, at(100)), [Command::Signal { container: 2 }]);
    assert_eq!(machine.status().phase, Phase::Running);
    end(&mut machine, 2, 1, at(101));
    assert_eq!(end(&mut machine, 1, 1, at(102)), [Command::Release]);
    assert_eq!(machine.status().phase, Phase::Succeeded);
}

#[test]
fn no_grace_means_no_pre_stop_hook() {
    let (mut machine, _) = pod_of(vec![with_hooks(role(Role::Main))], 0);
    machine.step(started(0), at(0));
    machine.step(hook_ended(0, Hook::PostStart, None), at(0));
    assert_eq!(machine.step(Event::Stop { within: None }, at(5)), [Command::Kill { container: 0 }]);
}

fn condition(machine: &Machine, kind: &str) -> (bool, Option<&'static str>, Option<String>) {
    let found = machine.status().conditions.into_iter().find(|condition| condition.kind == kind);
    found.map_or((false, None, None), |condition| (condition.holds, condition.reason, condition.message))
}

#[test]
fn conditions_name_those_that_they_wait_for() {
    let lacks = |reason, message: &str| (false, Some(reason), Some(message.to_owned()));
    let roles = [Role::Init, Role::Sidecar, Role::Main];
    let (machine, _) = pod_of(roles.map(role).into(), 30);
    let message = "containers with incomplete status: [Init Sidecar]";
    assert_eq!(condition(&machine, "Initialized"), lacks("ContainersNotInitialized", message));
    let message = "containers with unready status: [Sidecar Main]";
    for kind in ["Ready", "ContainersReady"] {
        assert_eq!(condition(&machine, kind), lacks("ContainersNotReady", message));
    }
    assert!(condition(&machine, "PodReadyToStartContainers").0 && condition(&machine, "PodScheduled").0);
    assert!(!condition(&self::machine(1, 30), "PodReadyToStartContainers").0);

    let mut machine = initialized(30, |mut spec| {
        spec.restart = Restart::by(RestartPolicy::Never);
        spec
    });
    for kind in ["Initialized", "Ready", "ContainersReady"] {
        assert_eq!(condition(&machine, kind), (true, None, None), "{kind}");
    }
    for container in [3, 2, 1] {
        end(&mut machine, container, 0, at(5));
    }
    assert_eq!(condition(&machine, "Initialized"), (true, Some("PodCompleted"), None));
    assert_eq!(condition(&machine, "Ready"), (false, Some("PodCompleted"), None));
}

/// Found by the simulation: it was shown as failed, and then as running again.
#[test]
fn a_pod_that_waits_for_the_restart_of_all_has_not_ended() {
    let rule = RestartRule { codes: vec![42], one_of: true, action: RestartAction::RestartAll };
    let mut main = role(Role::Main);
    main.restart = Restart { policy: RestartPolicy::Never, rules: vec![rule] };
    let (mut machine, _) = pod_of(vec![main], 30);
    machine.step(started(0), at(0));
    assert_eq!(end(&mut machine, 0, 42, at(1)), [Command::FindImage { container: 0 }]);
    machine.step(ready(0), at(1));
    machine.step(started(0), at(1));
    assert_eq!(end(&mut machine, 0, 42, at(2)), []);
    assert_eq!(machine.deadline(), Some(at(12)));
    assert_eq!(machine.status().phase, Phase::Running);
    assert!(condition(&machine, "AllContainersRestarting").0);
    assert_eq!(machine.step(Event::Tick, at(12)), [Command::FindImage { container: 0 }]);
    assert!(!condition(&machine, "AllContainersRestarting").0);
}

/// Found by the simulation: the process was not taken for the container's, which was started a second time.
#[test]
fn a_first_run_after_a_restart_of_all_that_was_not_written_down_is_adopted() {
    let rule = RestartRule { codes: vec![42], one_of: true, action: RestartAction::RestartAll };
    let mut first = role(Role::Main);
    first.restart = Restart { policy: RestartPolicy::Never, rules: vec![rule] };
    let (mut machine, _) = pod_of(vec![first, role(Role::Main)], 30);
    machine.step(started(0), at(0));
    let failure = StartFailure::Create;
    machine.step(Event::StartFailed { container: 1, failure, message: "refused".to_owned() }, at(0));
    // The other one has never run. All start over at once, the second time after 10 s.
    end(&mut machine, 0, 42, at(1));
    machine.step(missing(1), at(1));
    machine.step(ready(0), at(1));
    machine.step(started(0), at(1));
    end(&mut machine, 0, 42, at(2));
    assert!(condition(&machine, "AllContainersRestarting").0);
    let (pod, saved) = (Arc::clone(machine.pod()), machine.state().clone());
    let mut next = Machine::resume(pod, saved, Settings::default(), at(13)).expect("it fits");
    next.step(Event::Adopted { container: 1, attempt: 0, pid: 9 }, at(13));
    assert_eq!(next.step(Event::Tick, at(13)), [Command::FindImage { container: 0 }]);
    assert_eq!(next.status().containers[1].pid, Some(9));
}

/// Found with it: a sidecar whose process was on its way did not count.
#[test]
fn a_pod_whose_sidecar_is_just_being_started_has_not_ended() {
    let mut machine = initialized(30, |spec| spec);
    end(&mut machine, 2, 1, at(2));
    machine.step(ready(2), at(2));
    machine.step(Event::Stop { within: None }, at(3));
    end(&mut machine, 3, 0, at(4));
    end(&mut machine, 1, 0, at(4));
    assert_eq!(machine.status().phase, Phase::Running);
}

#[test]
fn each_end_has_its_reason_and_its_code() {
    let ends = [
        (Exit::Code(0), "Completed", 0),
        (Exit::Code(3), "Error", 3),
        (Exit::Signal(15), "Error", 143),
        (Exit::Signal(31), "Error", 159),
        (Exit::Unknown, "ContainerStatusUnknown", 137),
    ];
    for (exit, reason, code) in ends {
        let mut machine = running(30);
        machine.step(Event::Exited { container: 0, exit }, at(1));
        let ContainerState::Terminated(end) = &machine.status().containers[0].state else {
            panic!("it has ended")
        };
        assert_eq!((end.reason(), end.exit.code()), (reason, code));
    }
}

#[test]
fn an_init_container_whose_end_nobody_saw_has_completed_if_the_pod_went_on() {
    let (mut before, _) = pod_of(vec![role(Role::Init), role(Role::Main)], 30);
    before.step(started(0), at(0));
    let (pod, state) = (Arc::clone(before.pod()), before.state().clone());
    let mut machine = Machine::resume(pod, state, Settings::default(), at(5)).unwrap();
    machine.step(Event::Adopted { container: 1, attempt: 0, pid: 8 }, at(5));
    machine.step(Event::Exited { container: 0, exit: Exit::Unknown }, at(5));
    let ContainerState::Terminated(end) = &machine.status().containers[0].state else {
        panic!("it has ended")
    };
    assert_eq!(end.reason(), "Completed");
}

#[test]
fn who_waits_in_a_crash_loop_says_for_how_long_and_who_it_is() {
    let mut machine = running(30);
    let mut now = at(0);
    let mut said = Vec::new();
    for _ in 0..5 {
        end(&mut machine, 0, 1, now);
        if let ContainerState::Waiting { message: Some(message), .. } = &machine.status().containers[0].state
        {
            said.push(message.clone());
        }
        now = machine.deadline().unwrap_or(now);
        machine.step(Event::Tick, now);
        machine.step(ready(0), now);
        machine.step(started(0), now);
    }
    let uid = "a".repeat(32);
    let message =
        |delay: &str| format!("back-off {delay} restarting failed container=c0 pod=web-edge7_default({uid})");
    assert_eq!(said, ["10s", "20s", "40s", "1m20s"].map(message));
}

#[test]
fn a_failed_liveness_probe_restarts_even_what_then_ends_well_with_its_own_grace_period() {
    let mut live = role(Role::Main);
    live.restart = Restart::by(RestartPolicy::OnFailure);
    live.probes.liveness = Some(Probe {
        action: ProbeAction::Exec(vec!["true".into()]),
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 1,
        termination_grace: Some(Duration::from_secs(100)),
    });
    let (mut machine, _) = pod_of(vec![live], 5);
    let probe = ProbeKind::Liveness;
    assert_eq!(machine.step(started(0), at(0)), [Command::Probe { container: 0, attempt: 0, probe }]);
    let failed =
        Event::ProbeResult { container: 0, attempt: 0, probe, outcome: Outcome::Failure("no".into()) };
    assert_eq!(machine.step(failed, at(1)), [Command::Signal { container: 0 }]);
    assert_eq!(machine.deadline(), Some(at(101)));
    assert_eq!(end(&mut machine, 0, 0, at(2)), [Command::FindImage { container: 0 }]);
    assert_eq!(
        machine.status().containers[0].last.as_ref().and_then(|end| end.cause.as_deref()),
        Some("its liveness probe failed: no")
    );
}

#[test]
fn a_sidecar_that_is_not_alive_waits_for_nobody_behind_it() {
    let alive = |spec: Spec| {
        let liveness = Probe {
            action: ProbeAction::Exec(vec!["true".into()]),
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 1,
            termination_grace: None,
        };
        let liveness = (spec.role == Role::Sidecar).then_some(liveness);
        Spec { probes: Probes { liveness, ..Probes::default() }, ..spec }
    };
    let mut machine = initialized(30, alive);
    let (probe, outcome) = (ProbeKind::Liveness, Outcome::Failure("no".into()));
    let failed = Event::ProbeResult { container: 1, attempt: 0, probe, outcome };
    assert_eq!(machine.step(failed, at(2)), [Command::Signal { container: 1 }]);
    assert!(condition(&machine, "PodReadyToStartContainers").0);
    machine.step(Event::Stop { within: None }, at(3));
    assert!(
        condition(&machine, "PodReadyToStartContainers").0,
        "what it runs in is there until it is released"
    );
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
    before.step(Event::Cleared { container: 0 }, at(1));
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
    machine.step(Event::Cleared { container: 0 }, at(4));
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
    assert_eq!(machine.step(Event::Cleared { container: 0 }, at(1)), [Command::FindImage { container: 0 }]);
    machine.step(ready(0), at(1));
    machine.step(Event::Started { container: 0, pid: 8 }, at(1));
    machine.step(killed(0), at(2));
    assert_eq!(causes(&machine), [None, None]);
}

#[test]
fn last_words_stay_with_their_run_and_have_an_equal_share_of_12_kib() {
    let mut machine = machine(2, 30);
    machine.step(Event::Prepared, at(0));
    machine.step(ready(0), at(0));
    let mut run = |words: Option<String>| {
        machine.step(Event::Started { container: 0, pid: 7 }, at(0));
        machine.step(Event::Exited { container: 0, exit: Exit::Code(1) }, at(0));
        machine.note_last_words(0, false, words);
        machine.step(Event::Cleared { container: 0 }, at(0));
        let status = machine.status().containers.swap_remove(0);
        machine.step(Event::Tick, at(10));
        machine.step(ready(0), at(10));
        status.last.and_then(|end| end.message())
    };
    assert_eq!(run(Some("no disk".to_owned())).as_deref(), Some("no disk"));
    assert_eq!(run(None), None);
    // Of two containers, each has 6,144 bytes; no letter is cut in two.
    let long = format!("x{}", "é".repeat(5000));
    assert_eq!(run(Some(long.clone())), Some(long[..6143].to_owned()));
}

#[test]
fn last_words_outlive_a_worker_that_dies_while_it_clears_away() {
    let mut machine = running(30);
    machine.step(Event::Exited { container: 0, exit: Exit::Code(1) }, at(1));
    machine.note_last_words(0, true, Some("no disk".to_owned()));
    let saved = serde_json::to_string(machine.state()).unwrap();
    let state = serde_json::from_str(&saved).unwrap();
    let mut next =
        Machine::resume(Arc::clone(machine.pod()), state, Settings::default(), at(2)).expect("it fits");
    assert_eq!(next.begin(), [Command::Clear { container: 0 }]);
    next.step(Event::Tick, at(2));
    // The cgroup and the file are gone.
    next.note_last_words(0, false, None);
    next.step(Event::Cleared { container: 0 }, at(2));
    let last = next.status().containers.swap_remove(0).last.unwrap();
    assert_eq!((last.reason(), last.message().as_deref()), ("OOMKilled", Some("no disk")));
}

#[test]
fn what_a_volume_lacked_ends_the_wait_when_it_comes() {
    let failed = || Event::PrepareFailed { problem: PrepareProblem::Volume, message: "no secret".into() };
    let mut machine = machine(1, 30);
    assert_eq!(machine.step(failed(), at(0)), []);
    assert!(machine.waits_to_be_prepared() && machine.deadline() > Some(at(0)));
    assert_eq!(machine.step(Event::PrepareAgain, at(0)), [Command::Prepare]);
    assert_eq!(machine.step(Event::PrepareAgain, at(0)), [], "it is under way");
    machine.step(Event::Prepared, at(0));
    assert!(!machine.waits_to_be_prepared());
    assert_eq!(machine.step(Event::PrepareAgain, at(0)), []);

    let pod = Arc::clone(machine.pod());
    let mut next = Machine::rehearsing(pod, Settings::default(), at(0));
    while !next.waits_to_be_prepared() {
        next.step(Event::RehearsalFailed { message: "no secret".into() }, at(0));
    }
    assert_eq!(next.step(Event::PrepareAgain, at(0)), [Command::Rehearse]);
}
