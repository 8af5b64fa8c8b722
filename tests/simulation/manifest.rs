//! A Pod of one to five containers, with any restart policy and a grace period of 0 to 60 seconds.

use std::time::Duration;

use podkeep::manifest::pod::{Container, Pod, PodId, PullPolicy, Resources, RestartPolicy, Security, Uid};

use super::random::Random;

pub fn pod(random: &mut Random) -> Pod {
    let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    Pod {
        id: PodId { namespace: "default".into(), name: "web-edge7".into() },
        uid: Uid::parse(&"a".repeat(32)).expect("32 hex digits"),
        labels: Default::default(),
        annotations: Default::default(),
        containers: (0..=random.below(5)).map(container).collect(),
        volumes: Vec::new(),
        restart_policy: random.pick(&policies),
        termination_grace: Duration::from_secs(random.below(61)),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        host_users: true,
        fs_group: None,
        fs_group_change_policy: Default::default(),
        supplemental_groups: Vec::new(),
        supplemental_groups_policy: Default::default(),
        sysctls: Vec::new(),
        resources: None,
        priority_class_name: None,
        hostname: None,
        node_name: "edge7".into(),
        object: serde_json::Value::Null,
        source: serde_json::Value::Null,
    }
}

fn container(index: u64) -> Container {
    Container {
        name: format!("c{index}"),
        image: "busybox".into(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        ports: Vec::new(),
        resources: Resources::default(),
        security: Security::default(),
        mounts: Vec::new(),
    }
}
