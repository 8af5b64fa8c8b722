//! CVE-2019-5736: a container that becomes podkeep, by executing `/proc/self/exe`, must not be able to write to its file.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use podkeep::image::Digest;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags, mount_remount, open_tree};
use rustix::process::Signal;
use serde_json::{Value, json};
use tar::EntryType;

use crate::builder::{Layer, World};
use crate::harness::manifest::shell_pod;
use crate::harness::{Node, Options, process, wait_until};
use crate::oci;

/// As `podkeep lint` it waits for a writer of the FIFO that it is given, and so stays there to be opened.
const SCRIPT: &[u8] = b"#!/proc/self/exe lint\n";

fn podkeep() -> PathBuf {
    std::env::var_os("PODKEEP_BIN").expect("scripts/vm sets it").into()
}

fn digest_of(path: impl AsRef<Path>) -> Digest {
    Digest::of(&fs::read(path).unwrap())
}

/// The program of a process.
struct Program {
    pid: u32,
    /// Leads to the file, opens nothing: what a container can keep until nobody runs it any more.
    path: OwnedFd,
}

impl Program {
    fn of(pid: u32) -> Program {
        let link = format!("/proc/{pid}/exe");
        assert_eq!(digest_of(&link), digest_of(podkeep()), "process {pid} is podkeep");
        Program { pid, path: rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap() }
    }

    fn link(&self) -> String {
        format!("/proc/self/fd/{}", self.path.as_raw_fd())
    }

    fn error_of_writing(&self) -> Errno {
        let error = OpenOptions::new().write(true).open(self.link()).expect_err("the file can be written to");
        Errno::from_io_error(&error).unwrap()
    }

    /// One that an image's `#!/proc/self/exe lint` has made of podkeep.
    fn of_script(pid: u32) -> Program {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(words.starts_with(b"/proc/self/exe\0lint\0"), "{}", String::from_utf8_lossy(&words));
        Program::of(pid)
    }

    /// As the host's root, with every capability: no container has more.
    fn assert_out_of_reach(&self) {
        let pid = self.pid;
        let writing = self.error_of_writing();
        assert!([Errno::TXTBSY, Errno::ROFS].contains(&writing), "{pid}: {writing}");
        let mode = fs::set_permissions(self.link(), fs::Permissions::from_mode(0o777)).unwrap_err();
        assert_eq!(Errno::from_io_error(&mode), Some(Errno::ROFS), "{pid}: mode");
        let owner = std::os::unix::fs::chown(self.link(), Some(1), None).unwrap_err();
        assert_eq!(Errno::from_io_error(&owner), Some(Errno::ROFS), "{pid}: owner");
        let link = CString::new(self.link()).unwrap();
        assert_eq!(mount_remount(&link, MountFlags::BIND, c""), Err(Errno::INVAL), "{pid}: remount");
        let copy =
            open_tree(self.path.as_fd(), c"", OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::OPEN_TREE_CLONE);
        assert_eq!(copy.err(), Some(Errno::INVAL), "{pid}: a copy of the mount");
    }
}

/// A Pod of an image that has one layer.
fn load(node: &Node, name: &str, layer: Layer, config: Value) {
    let world = World::new();
    let mut layout = world.layout("image");
    let bytes = layer.finish();
    let manifest = layout.image(&[(bytes.clone(), bytes)], config);
    layout.name(&format!("{name}:1"), manifest);
    node.ask(&["load", layout.write().to_str().unwrap()]);
    node.manifest(
        &format!("{name}.yaml"),
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
             containers: [{{name: main, image: \"{name}:1\"}}]\n"
        ),
    );
}

#[test]
fn podkeeps_file_cannot_be_written_to_by_whoever_executes_it_in_a_container() {
    let before = digest_of(podkeep());
    let node = Node::start(Options { images: Vec::new(), ..Options::default() });
    let fifo = || Layer::new().entry(EntryType::Fifo, "fifo", "", 0o644, b"");
    let script = fifo().entry(EntryType::Regular, "entry", "", 0o755, SCRIPT);
    load(&node, "script", script, json!({"Entrypoint": ["/entry", "/fifo"]}));
    load(&node, "direct", fifo(), json!({"Entrypoint": ["/proc/self/exe", "lint", "/fifo"]}));

    let script = node.wait_running("script", "main");
    let pids = [node.keeper(), node.worker().unwrap(), node.wait_running("direct", "main")];
    let mut programs: Vec<Program> = pids.into_iter().map(Program::of).collect();
    programs.push(Program::of_script(script));
    let mut exec = node.podkeep().args(["exec", "script", "--", "/entry", "/fifo"]).spawn().unwrap();
    programs.push(Program::of_script(the_other_one(&process::cgroup(script), script)));
    programs.iter().for_each(Program::assert_out_of_reach);

    node.stop();
    exec.wait().unwrap();
    for program in &programs {
        assert_eq!(program.error_of_writing(), Errno::ROFS, "nobody runs it any more");
        program.assert_out_of_reach();
    }
    assert_eq!(digest_of(podkeep()), before);
    // It is no property of the machine: the host itself may.
    OpenOptions::new().write(true).open(podkeep()).unwrap();
}

/// The process that is in a cgroup beside one that is known, once it has become what it shall be.
fn the_other_one(cgroup: &str, known: u32) -> u32 {
    let is_script = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"/proc/self/exe\0"))
    };
    wait_until("the command runs", || {
        process::in_cgroup(cgroup).into_iter().find(|pid| *pid != known && is_script(pid))
    })
}

#[test]
fn nor_by_what_oci_run_and_oci_exec_start() {
    let before = digest_of(podkeep());
    let mut bench = oci::Bench::new();
    fs::write(bench.root("entry"), SCRIPT).unwrap();
    fs::set_permissions(bench.root("entry"), fs::Permissions::from_mode(0o755)).unwrap();
    rustix::fs::mknodat(CWD, bench.root("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    bench.config["process"]["args"] = json!(["/entry", "/fifo"]);
    bench.save();
    let (bundle, file) = (bench.path("bundle"), bench.path("pid"));
    bench.call(&["run", "-d", "-b", bundle.to_str().unwrap(), "web"]).ok();
    let exec = ["exec", "-d", "--pid-file", file.to_str().unwrap(), "web", "/entry", "/fifo"];
    bench.call(&exec).ok();
    let exec = fs::read_to_string(&file).unwrap().parse().unwrap();

    let programs = [bench.pid("web"), exec].map(Program::of_script);
    programs.iter().for_each(Program::assert_out_of_reach);
    bench.call(&["delete", "--force", "web"]).ok();
    for program in &programs {
        assert_eq!(program.error_of_writing(), Errno::ROFS, "nobody runs it any more");
    }
    assert_eq!(digest_of(podkeep()), before);
}

#[test]
fn podkeep_as_the_loader_of_an_images_program_comes_to_nothing() {
    let before = digest_of(podkeep());
    let node = Node::start(Options { images: Vec::new(), ..Options::default() });
    let program = program_with_loader("/proc/self/exe");
    let layer = Layer::new().entry(EntryType::Regular, "entry", "", 0o755, &program);
    load(&node, "loader", layer, json!({"Entrypoint": ["/entry"]}));
    node.wait_terminated("loader", "main");
    node.stop();
    assert_eq!(digest_of(podkeep()), before);
}

/// An ELF program (elf(5)) of nothing but a loader's name.
fn program_with_loader(loader: &str) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    // Where podkeep itself, which is loaded too, is not.
    const BASE: u64 = 0x4000_0000;
    let name = [loader.as_bytes(), b"\0"].concat();
    let end = HEADERS + name.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2u16, machine()].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([BASE, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let (loaded, interpreter, read_execute) = (1u32, 3u32, 5u32);
    for (kind, offset, size) in [(interpreter, HEADERS, name.len() as u64), (loaded, 0, end)] {
        file.extend([kind, read_execute].map(u32::to_le_bytes).concat());
        file.extend(
            [offset, BASE + offset, BASE + offset, size, size, 0x1000].map(u64::to_le_bytes).concat(),
        );
    }
    file.extend(name);
    file
}

fn machine() -> u16 {
    if cfg!(target_arch = "aarch64") { 183 } else { 62 }
}

#[test]
fn an_update_executes_the_new_file_of_the_disk_and_that_is_out_of_reach_too() {
    let old = digest_of(podkeep());
    let node = Node::start(Options::default());
    node.manifest("web.yaml", &shell_pod("web", "exec sleep 1000"));
    let pid = node.wait_running("web", "main");

    let aside = podkeep().with_extension("new");
    fs::copy(podkeep(), &aside).unwrap();
    OpenOptions::new().append(true).open(&aside).unwrap().write_all(b"new").unwrap();
    fs::rename(&aside, podkeep()).unwrap();
    node.signal(Signal::USR2);

    let keepers = || digest_of(format!("/proc/{}/exe", node.keeper()));
    wait_until("the keeper runs the new file", || (keepers() != old).then_some(()));
    assert_eq!(process::name(node.keeper()), "podkeep");
    Program::of(node.keeper()).assert_out_of_reach();
    let worker = wait_until("there is a worker", || node.worker());
    wait_until("it answers", || node.try_list());
    Program::of(worker).assert_out_of_reach();
    assert_eq!(node.wait_running("web", "main"), pid);
}

#[test]
fn what_is_mounted_for_it_is_no_mount_of_the_host() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let node = Node::start(Options::default());
    assert_eq!(mounts(), before);
    let shown = fs::read_link(format!("/proc/{}/exe", node.keeper())).unwrap();
    assert_eq!(shown, Path::new("/"), "a mount without a place");
    let file = File::open(format!("/proc/{}/exe", node.keeper())).unwrap();
    let flags = rustix::fs::fstatvfs(&file).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{flags:?}");
    // Not even by whoever may mount on the host.
    let link = CString::new(format!("/proc/{}/exe", node.keeper())).unwrap();
    assert!(open_tree(CWD, &link, OpenTreeFlags::OPEN_TREE_CLONE).is_err());
}
