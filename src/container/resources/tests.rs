use super::*;

fn of(json: &str) -> Result<Vec<String>, ResourceError> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    Ok(settings(&resources)?.iter().map(|s| format!("{}={}", s.file, s.value)).collect())
}

fn written(json: &str) -> String {
    of(json).unwrap().join(", ")
}

#[test]
fn memory_and_swap_are_told_apart() {
    let vectors = [
        (
            r#"{"limit": 64, "reservation": 32, "swap": 100}"#,
            "memory.swap.max=36, memory.low=32, memory.max=64",
        ),
        (r#"{"limit": 64, "swap": 64}"#, "memory.swap.max=0, memory.max=64"),
        (r#"{"limit": 64, "swap": -1}"#, "memory.swap.max=max, memory.max=64"),
        (r#"{"limit": -1}"#, "memory.swap.max=max, memory.max=max"),
        (r#"{"limit": 64}"#, "memory.max=64"),
        (r#"{"limit": 0, "reservation": 0, "swap": 0, "kernel": -1, "disableOOMKiller": false}"#, ""),
    ];
    for (memory, expected) in vectors {
        assert_eq!(written(&format!(r#"{{"memory": {memory}}}"#)), expected, "{memory}");
    }
    let less = of(r#"{"memory": {"limit": 64, "swap": 63}}"#);
    assert_eq!(less, Err(ResourceError::Swap { swap: 63, limit: 64 }));
    for memory in [r#"{"swap": 7}"#, r#"{"limit": -1, "swap": 7}"#] {
        let alone = of(&format!(r#"{{"memory": {memory}}}"#));
        assert_eq!(alone, Err(ResourceError::SwapWithoutLimit(7)), "{memory}");
    }
}

#[test]
fn a_hierarchy_of_v1_is_refused_by_name() {
    for answer in [true, false] {
        let refused = of(&format!(r#"{{"memory": {{"useHierarchy": {answer}}}}}"#));
        assert_eq!(refused, Err(ResourceError::OnlyV1("memory.useHierarchy")));
    }
}

#[test]
fn cpu_is_weight_bandwidth_and_set() {
    let vectors = [
        (r#"{"shares": 1024, "quota": 50000, "period": 200000}"#, "cpu.weight=100, cpu.max=50000 200000"),
        (r#"{"shares": 0, "quota": -1}"#, "cpu.max=max 100000"),
        (r#"{"quota": 0, "period": 50000}"#, "cpu.max=max 50000"),
        (r#"{"quota": 50000, "burst": 10000}"#, "cpu.max.burst=0, cpu.max=50000 100000, cpu.max.burst=10000"),
        (r#"{"burst": 5}"#, "cpu.max.burst=5"),
        (r#"{"idle": 1, "shares": 1024}"#, "cpu.idle=1"),
        (r#"{"idle": 0, "shares": 2}"#, "cpu.idle=0, cpu.weight=1"),
        (r#"{"cpus": "0-1", "mems": "0"}"#, "cpuset.cpus=0-1, cpuset.mems=0"),
        (r#"{"cpus": "", "realtimeRuntime": 0}"#, ""),
    ];
    for (cpu, expected) in vectors {
        assert_eq!(written(&format!(r#"{{"cpu": {cpu}}}"#)), expected, "{cpu}");
    }
}

#[test]
fn processes_blocks_pages_and_adapters_are_limited() {
    assert_eq!(written(r#"{"pids": {"limit": 7}}"#), "pids.max=7");
    assert_eq!(written(r#"{"pids": {"limit": -1}}"#), "pids.max=max");
    assert_eq!(written(r#"{"pids": {"limit": 0}}"#), "");
    let io = r#"{"blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}}"#;
    assert_eq!(written(io), "io.weight=10000, io.weight=8:0 1, io.max=8:0 rbps=600, io.max=8:16 wiops=max");
    assert_eq!(io_weight(500), Ok(4950));
    assert_eq!(of(r#"{"blockIO": {"weight": 9}}"#), Err(ResourceError::Weight(9)));
    let pages = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#;
    assert_eq!(written(pages), "hugetlb.2MB.max=4194304, hugetlb.2MB.rsvd.max=4194304");
    let rdma = r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 9}, "mlx5_0": {"hcaObjects": 1}}}"#;
    assert_eq!(written(rdma), "rdma.max=mlx5_0 hca_object=1, rdma.max=mlx5_1 hca_handle=3 hca_object=9");
}

#[test]
fn unified_has_the_last_word_and_must_be_there() {
    let json =
        r#"{"unified": {"memory.high": "5", "io.max": "8:0 rbps=1\n8:16 rbps=2"}, "pids": {"limit": 7}}"#;
    assert_eq!(written(json), "pids.max=7, io.max=8:0 rbps=1, io.max=8:16 rbps=2, memory.high=5");
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    let settings = settings(&resources).unwrap();
    let needed: Vec<_> = settings.iter().map(|setting| setting.controller.is_none()).collect();
    assert_eq!(needed, [false, true, true, true]);
    for key in ["cgroup.procs", "../memory.max", "a/memory.max", "..", "", "memory"] {
        let refused = of(&format!(r#"{{"unified": {{"{key}": "1"}}}}"#));
        assert_eq!(refused, Err(ResourceError::Unified(key.to_owned())));
    }
}

#[test]
fn what_only_v1_has_is_refused_by_name() {
    let vectors = [
        (r#"{"memory": {"kernel": 4096}}"#, "memory.kernel"),
        (r#"{"memory": {"kernelTCP": 4096}}"#, "memory.kernelTCP"),
        (r#"{"memory": {"swappiness": 0}}"#, "memory.swappiness"),
        (r#"{"memory": {"disableOOMKiller": true}}"#, "memory.disableOOMKiller"),
        (r#"{"cpu": {"realtimeRuntime": 950000}}"#, "cpu.realtimeRuntime"),
        (r#"{"cpu": {"realtimePeriod": 1000000}}"#, "cpu.realtimePeriod"),
        (r#"{"blockIO": {"leafWeight": 10}}"#, "blockIO.leafWeight"),
        (r#"{"network": {"classID": 1048577}}"#, "network.classID"),
        (r#"{"network": {"priorities": [{"name": "lo", "priority": 1}]}}"#, "network.priorities"),
    ];
    for (json, field) in vectors {
        assert_eq!(of(json), Err(ResourceError::OnlyV1(field)), "{json}");
    }
    for size in ["2M", "MB", "../2MB", "2 MB"] {
        let json = format!(r#"{{"hugepageLimits": [{{"pageSize": "{size}", "limit": 1}}]}}"#);
        assert_eq!(of(&json), Err(ResourceError::PageSize(size.to_owned())));
    }
}
