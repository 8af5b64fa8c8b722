//! Pods of every shape: init containers, sidecars, one to five main containers, any restart policy and rules, hooks, probes,
//! grace periods of 0 to 60 seconds, deadlines.

use std::time::Duration;

use podkeep::manifest::pod::{
    Container, HookAction, Lifecycle, Pod, PodId, Probe, ProbeAction, Probes, Restart, RestartAction,
    RestartPolicy, RestartRule, Role, Uid,
};

use super::random::Random;

const POLICIES: [RestartPolicy; 3] = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];

pub fn pod(random: &mut Random) -> Pod {
    let policy = random.pick(&POLICIES);
    let (init, mains) = (random.below(4), 1 + random.below(4));
    let (with_hooks, with_probes) = (random.one_in(2), random.one_in(2));
    let mut containers = Vec::new();
    for index in 0..init + mains {
        let role = match (index < init, random.one_in(2)) {
            (true, true) => Role::Sidecar,
            (true, false) => Role::Init,
            (false, _) => Role::Main,
        };
        let mut container = Container {
            role,
            restart: restart(random, role, policy),
            ..Container::plain(&format!("c{index}"), "busybox")
        };
        if role != Role::Init {
            container.lifecycle = if with_hooks { lifecycle(random) } else { Lifecycle::default() };
            container.probes = if with_probes { probes(random) } else { Probes::default() };
        }
        containers.push(container);
    }
    let sometimes = |random: &mut Random, rarely, longest| {
        random.one_in(rarely).then(|| Duration::from_secs(1 + random.below(longest)))
    };
    Pod {
        termination_grace: Duration::from_secs(random.below(61)),
        active_deadline: sometimes(random, 6, 5000),
        max_restart_period: sometimes(random, 6, 300),
        node_name: "edge7".into(),
        ..Pod::plain(
            PodId { namespace: "default".into(), name: "web-edge7".into() },
            Uid::parse(&"a".repeat(32)).expect("32 hex digits"),
            containers,
        )
    }
}

fn restart(random: &mut Random, role: Role, of_pod: RestartPolicy) -> Restart {
    let policy = match role {
        Role::Sidecar => RestartPolicy::Always,
        _ if random.one_in(4) => random.pick(&POLICIES),
        _ => of_pod,
    };
    let actions = [RestartAction::Restart, RestartAction::RestartAll];
    let rule = RestartRule {
        codes: vec![random.pick(&[0, 1, 255])],
        one_of: !random.one_in(4),
        action: random.pick(&actions),
    };
    Restart { policy, rules: random.one_in(8).then_some(rule).into_iter().collect() }
}

fn lifecycle(random: &mut Random) -> Lifecycle {
    let mut hook = || random.one_in(2).then(|| HookAction::Exec(vec!["hook".into()]));
    Lifecycle { post_start: hook(), pre_stop: hook(), stop_signal: None }
}

fn probes(random: &mut Random) -> Probes {
    let mut probe = |is_readiness: bool| {
        let seconds = |seconds| Duration::from_secs(seconds);
        let own_grace = random.one_in(3).then(|| seconds(1 + random.below(90)));
        random.one_in(2).then(|| Probe {
            action: ProbeAction::Exec(vec!["probe".into()]),
            initial_delay: seconds(random.below(3) * 7),
            period: seconds(1 + random.below(60)),
            timeout: seconds(1 + random.below(20)),
            success_threshold: if is_readiness { 1 + random.below(3) as u32 } else { 1 },
            failure_threshold: 1 + random.below(3) as u32,
            termination_grace: own_grace.filter(|_| !is_readiness),
        })
    };
    Probes { startup: probe(false), liveness: probe(false), readiness: probe(true) }
}
