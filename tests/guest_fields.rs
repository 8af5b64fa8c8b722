//! What the fields of a manifest make of a container.
//!
//! Run with `scripts/vm test guest_fields`; anywhere else these tests fail.

mod harness;
#[path = "guest_fields/names.rs"]
mod names;

use std::fs;
use std::path::Path;

use harness::manifest::{ShellPod, job};
use harness::{Node, Options, process, wait_until};

const NO_CAPABILITIES: &str = "0000000000000000";
const NET_BIND_SERVICE_ONLY: &str = "0000000000000400";

/// A job with further lines of its spec and of its container.
fn job_with(spec: &str, container: &str, script: &str) -> String {
    let spec = format!("restartPolicy: Never\n{spec}");
    ShellPod { name: "job", script, spec: &spec, container }.yaml()
}

#[test]
fn env_args_working_folder_and_host_name() {
    let node = Node::start(Options::default());
    let container = "args: [\"$(GREETING), $(NOBODY) $$(GREETING)\", two]\nworkingDir: /var/log
env: [{name: GREETING, value: hello}, {name: TWICE, value: $(GREETING) $(GREETING)}]";
    let script = r#"echo "$0|$1|$TWICE"; pwd; hostname; cat /etc/hostname; echo $$$$"#;
    let output = node.output_of(&job_with("", container, script));
    assert_eq!(output, "hello, $(NOBODY) $(GREETING)|two|hello hello\n/var/log\njob-node1\njob-node1\n1\n");
    let output = node.output_of(&job_with("hostname: shop", "", "hostname"));
    assert_eq!(output, "shop\n");
}

#[test]
fn only_its_own_three_descriptors_are_inside() {
    let node = Node::start(Options::default());
    let output = node.output_of(&job("job", "ls /proc/1/fd; readlink /proc/1/fd/0"));
    assert_eq!(output, "0\n1\n2\n/dev/null\n");
}

#[test]
fn the_root_can_be_written_to_and_is_new_for_every_run() {
    let node = Node::start(Options::default());
    let script = "cat /first /etc/passwd | head -n 1; echo written >/first && echo ok; exit 1";
    let spec = "restartPolicy: OnFailure";
    node.manifest("web.yaml", &ShellPod { name: "web", script, spec, container: "" }.yaml());
    node.wait_for("the second end", |list| {
        let main = list.pod("web")?.container("main")?;
        (main.restarts() == 1 && main.waiting() == Some("CrashLoopBackOff")).then_some(())
    });
    let expected = "cat: can't open '/first': No such file or directory\nroot:x:0:0:root:/root:/bin/sh\nok\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&node.ask(&["logs", "web"])), sorted(expected));
    assert_eq!(sorted(&node.ask(&["logs", "--previous", "web"])), sorted(expected));
}

#[test]
fn a_read_only_root_refuses_and_its_volumes_do_not() {
    let node = Node::start(Options::default());
    let container =
        "securityContext: {readOnlyRootFilesystem: true}\nvolumeMounts: [{name: data, mountPath: /data}]";
    let script = "touch /file && echo root; touch /data/file && echo data; touch /dev/shm/file && echo shm";
    let output = node.output_of(&job_with("volumes: [{name: data, emptyDir: {}}]", container, script));
    // Two streams: which of them comes first is nobody's promise.
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort();
    assert_eq!(lines, ["data", "shm", "touch: /file: Read-only file system"]);
}

#[test]
fn user_and_group() {
    let node = Node::start(Options::default());
    let container = "securityContext: {runAsUser: 1234, runAsGroup: 5678}";
    let output =
        node.output_of(&job_with("", container, "id -u; id -g; touch /tmp/file; stat -c %u:%g /tmp/file"));
    assert_eq!(output, "1234\n5678\n1234:5678\n");
}

#[test]
fn capabilities_are_dropped_added_and_all_there_when_privileged() {
    let node = Node::start(Options::default());
    let effective = "sed -n 's/^CapEff:\t//p' /proc/self/status";
    let dropped = "securityContext: {capabilities: {drop: [ALL]}}";
    assert_eq!(node.output_of(&job_with("", dropped, effective)).trim(), NO_CAPABILITIES);
    let one = "securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}";
    assert_eq!(node.output_of(&job_with("", one, effective)).trim(), NET_BIND_SERVICE_ONLY);
    let ours = process::status(std::process::id(), "CapEff").unwrap();
    let privileged = "securityContext: {privileged: true}";
    assert_eq!(node.output_of(&job_with("", privileged, effective)).trim(), ours);
}

#[test]
fn only_a_privileged_container_may_mount() {
    let node = Node::start(Options::default());
    let mount = "mount -t tmpfs tmpfs /mnt 2>/dev/null && echo mounted || echo refused";
    let mount = format!("mkdir -p /mnt; {mount}");
    assert_eq!(node.output_of(&job("job", &mount)), "refused\n");
    assert_eq!(node.output_of(&job_with("", "securityContext: {privileged: true}", &mount)), "mounted\n");
}

#[test]
fn the_hosts_network_or_only_a_loopback() {
    let node = Node::start(Options { config: "podNetwork: Loopback\n", ..Options::default() });
    let show = "readlink /proc/self/ns/net; ls /sys/class/net; ip -o addr show lo | grep -c 127.0.0.1/8";
    let own = node.output_of(&job("job", show));
    let (namespace, rest) = own.split_once('\n').unwrap();
    let hosts = process::namespace(node.keeper(), "net");
    assert_ne!(namespace, hosts);
    assert_eq!(rest, "lo\n1\n");
    let shared = node.output_of(&job_with("hostNetwork: true", "", "readlink /proc/self/ns/net; hostname"));
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(shared, format!("{hosts}\n{name}"));
}

#[test]
fn empty_dirs_are_shared_by_the_containers_and_gone_with_them() {
    let node = Node::start(Options::default());
    let spec =
        "volumes: [{name: disk, emptyDir: {}}, {name: ram, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]";
    let container =
        "volumeMounts: [{name: disk, mountPath: /disk}, {name: ram, mountPath: /ram, readOnly: true}]";
    let script = "while ! [ -e /disk/done ]; do sleep 1; done; cat /disk/done /ram/done
        stat -f -c %T /disk /ram; touch /ram/more || echo read-only; stat -c %a /disk /ram
        grep -c ' /ram .*noswap' /proc/mounts; true";
    let writer = r#"  - name: writer
    image: busybox:1.35
    command:
    - sh
    - -c
    - |
      head -c 2000000 /dev/zero >/ram/big 2>/dev/null || echo full
      rm /ram/big
      echo memory >/ram/done
      echo disk >/disk/part
      mv /disk/part /disk/done
    volumeMounts: [{name: disk, mountPath: /disk}, {name: ram, mountPath: /ram}]
"#;
    node.manifest("job.yaml", &(job_with(spec, container, script) + writer));
    assert_eq!(node.wait_terminated("job", "writer"), ("Completed".to_owned(), 0));
    assert_eq!(node.wait_terminated("job", "main"), ("Completed".to_owned(), 0));
    assert_eq!(node.ask(&["logs", "job", "-c", "writer"]), "full\n");
    let output = node.ask(&["logs", "job", "-c", "main"]);
    let lines: Vec<_> = output.lines().filter(|line| !line.starts_with("touch: ")).collect();
    // Since 6.4.
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let is_new = (numbers.next(), numbers.next()) >= (Some(6), Some(4));
    let unswapped = if is_new { "1" } else { "0" };
    assert_eq!(lines, ["disk", "memory", "ext2/ext3", "tmpfs", "read-only", "777", "1777", unswapped]);
    // They go with the last container that may use them.
    let mounted = || harness::census::mount_points().iter().any(|point| point.starts_with(node.base()));
    wait_until("they are unmounted", || (!mounted()).then_some(()));
}

#[test]
fn a_host_path_is_the_hosts_own_and_outlives_the_pod() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("greeting"), "hello\n").unwrap();
    let node = Node::start(Options::default());
    let path = host.path().display();
    let spec = format!(
        "volumes:
- {{name: host, hostPath: {{path: {path}/new, type: DirectoryOrCreate}}}}
- {{name: file, hostPath: {{path: {path}/greeting, type: File}}}}"
    );
    let container = "volumeMounts:
- {name: host, mountPath: /host}
- {name: file, mountPath: /etc/greeting, readOnly: true}";
    let script = "cat /etc/greeting; echo x >/etc/greeting || echo refused; echo kept >/host/file";
    let output = node.output_of(&job_with(&spec, container, script));
    let lines: Vec<_> = output.lines().filter(|line| !line.starts_with("sh: ")).collect();
    assert_eq!(lines, ["hello", "refused"]);
    assert_eq!(fs::read_to_string(host.path().join("new/file")).unwrap(), "kept\n");
    assert_eq!(fs::read_to_string(host.path().join("greeting")).unwrap(), "hello\n");
}

#[test]
fn requests_and_limits_stand_in_the_cgroup() {
    let node = Node::start(Options::default());
    let container = "resources: {requests: {cpu: 250m, memory: 16Mi}, limits: {cpu: 500m, memory: 32Mi}}";
    node.manifest(
        "web.yaml",
        &ShellPod { name: "web", script: "exec sleep 1000", spec: "", container }.yaml(),
    );
    let pid = node.wait_running("web", "main");
    let path = process::cgroup(pid);
    assert!(path.starts_with("/podkeep/burstable/default_web-node1_"), "{path}");
    let value = |file: &str| {
        let dir = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
        fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
    };
    assert_eq!(value("memory.max"), (32 << 20).to_string());
    assert_eq!(value("cpu.max"), "50000 100000");
    assert_eq!(value("memory.oom.group"), "1");
    // 256 shares by Kubernetes' rule, on the scale of cgroup v2 as OCI runtimes convert them since 2025.
    assert_eq!(value("cpu.weight"), "35");
    let qos = node.list().pod("web").unwrap().0["status"]["qosClass"].clone();
    assert_eq!(qos, "Burstable");
}
