//! Who a container's process is, and what images are called: numbers and names that are not what they seem.

use std::fs;
use std::path::Path;

use caps::{CapSet, Capability};
use podkeep::container::ResolvedUser;
use rustix::fs::XattrFlags;
use serde_json::json;

use crate::bench::Bench;
use crate::builder::{Layer, World};
use crate::harness::{Node, Options};

const NO_CAPABILITIES: &str = "0000000000000000";

fn sets(status: &str) -> Vec<(&str, &str)> {
    let lines = status.lines().filter_map(|line| line.split_once(":\t"));
    lines.filter(|(name, _)| ["CapInh", "CapPrm", "CapEff", "CapAmb"].contains(name)).collect()
}

/// CVE-2022-24769, CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: with an inheritable set that is not empty, a program with
/// inheritable file capabilities gives them to whoever executes it.
#[test]
fn inheritable_capabilities_of_a_file_give_nothing_and_podkeeps_own_are_not_inherited() {
    let raised = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN, Capability::CAP_CHOWN];
    for capability in raised {
        caps::raise(None, CapSet::Inheritable, capability).unwrap();
        caps::raise(None, CapSet::Ambient, capability).unwrap();
    }
    let mut bench = Bench::new();
    let program = bench.layer().join("bin/busybox-raising");
    fs::copy(bench.layer().join("bin/busybox"), &program).unwrap();
    give_inheritable_file_capabilities(&program);

    let all =
        |none: &str| ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(|name| (name.to_owned(), none.to_owned()));
    bench.user = ResolvedUser { uid: 1000, gid: 1000, additional_gids: vec![1000], home: "/".to_owned() };
    for program in ["/bin/busybox-raising", "/bin/busybox"] {
        let status = bench.shell(&format!("exec {program} cat /proc/self/status")).output;
        let found: Vec<_> = sets(&status).into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(found, all(NO_CAPABILITIES), "{program}");
    }
    bench.user = ResolvedUser { uid: 0, gid: 0, additional_gids: vec![0], home: "/".to_owned() };
    let status = bench.shell("exec cat /proc/self/status").output;
    for name in ["CapInh", "CapAmb"] {
        assert!(sets(&status).contains(&(name, NO_CAPABILITIES)), "{status}");
    }
    caps::clear(None, CapSet::Ambient).unwrap();
    caps::clear(None, CapSet::Inheritable).unwrap();
}

/// `struct vfs_cap_data`, revision 2, effective, with every capability inheritable and none permitted.
fn give_inheritable_file_capabilities(program: &Path) {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    let words = [REVISION_2_EFFECTIVE, 0, u32::MAX, 0, u32::MAX];
    let value = words.map(u32::to_le_bytes).concat();
    rustix::fs::setxattr(program, "security.capability", &value, XattrFlags::empty()).unwrap();
}

/// CVE-2024-40635, CVE-2026-30892: a number too large for the type it is kept in, which then is root's.
#[test]
fn a_user_past_the_largest_is_not_root() {
    let node = Node::start(Options::default());
    let world = World::new();
    let passwd = "root:x:0:0::/:\nodd:x:4294967296:0::/:\nminus:x:-1:0::/:\n";
    let bytes = Layer::new().folder("etc").file("etc/passwd", passwd).finish();
    let users = ["4294967296", "2147483648", "4294967295", "0:4294967296", "odd", "minus", "+0", "-1", "0x0"];
    let mut layout = world.layout("image");
    for (number, user) in users.iter().enumerate() {
        let config = json!({"User": user, "Cmd": ["/proc/self/exe"]});
        let image = layout.image(&[(bytes.clone(), bytes.clone())], config);
        layout.name(&format!("user{number}:1"), image);
    }
    node.ask(&["load", layout.write().to_str().unwrap()]);
    for (number, user) in users.iter().enumerate() {
        node.manifest(&format!("user{number}.yaml"), &pod(number, ""));
        let reason = node.wait_for(&format!("{user} is refused"), |list| {
            let main = list.pod(&format!("user{number}"))?.container("main")?;
            assert_eq!(main.running_pid(), None, "{user}");
            main.waiting().filter(|reason| *reason != "ContainerCreating").map(str::to_owned)
        });
        assert_eq!(reason, "CreateContainerConfigError", "{user}");
    }
}

fn pod(number: usize, security: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: user{number}}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
         - {{name: main, image: \"user{number}:1\"{security}}}\n"
    )
}

#[test]
fn a_manifests_user_past_the_largest_is_refused() {
    let node = Node::start(Options { images: Vec::new(), ..Options::default() });
    for field in ["runAsUser", "runAsGroup"] {
        for number in ["4294967296", "2147483648", "-1", "18446744073709551616", "1e3000"] {
            let manifest = node.base().join("lint.yaml");
            fs::write(&manifest, pod(0, &format!(", securityContext: {{{field}: {number}}}"))).unwrap();
            let said = node.try_ask(&["lint", manifest.to_str().unwrap()]);
            let text =
                String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
            assert!(!said.status.success() && text.contains(field), "{field}: {number}: {text}");
        }
    }
}

/// Names that would lead out of the store, were they ever made into paths.
#[test]
fn an_image_cannot_be_called_after_a_path() {
    let node = Node::start(Options { images: Vec::new(), ..Options::default() });
    let bytes = Layer::new().file("x", "x").finish();
    for name in ["../../../../../tmp/x:1", "/etc/x:1", "a/../../b:1", "a//b:1", "x:../../1", "a\0b:1", "."] {
        let world = World::new();
        let mut layout = world.layout("image");
        let image = layout.image(&[(bytes.clone(), bytes.clone())], json!({}));
        layout.name(name, image);
        let said = node.try_ask(&["load", layout.write().to_str().unwrap()]);
        assert!(!said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stdout));
    }
    assert_eq!(node.ask(&["images"]).lines().count(), 1, "the heading only");
}
