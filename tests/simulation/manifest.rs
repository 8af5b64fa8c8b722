//! A Pod of one to five containers, with any restart policy and a grace period of 0 to 60 seconds.

use std::time::Duration;

use podkeep::manifest::pod::{Container, Pod, PodId, Restart, RestartPolicy, Uid};

use super::random::Random;

pub fn pod(random: &mut Random) -> Pod {
    let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    let policy = random.pick(&policies);
    let containers = (0..=random.below(5)).map(|index| container(index, policy)).collect();
    Pod {
        termination_grace: Duration::from_secs(random.below(61)),
        node_name: "edge7".into(),
        ..Pod::plain(
            PodId { namespace: "default".into(), name: "web-edge7".into() },
            Uid::parse(&"a".repeat(32)).expect("32 hex digits"),
            containers,
        )
    }
}

fn container(index: u64, policy: RestartPolicy) -> Container {
    Container { restart: Restart::by(policy), ..Container::plain(&format!("c{index}"), "busybox") }
}
