//! A node with Pods and a world around it: network namespaces of the test's own, joined by veths as podkeep joins them. They are gone
//! when nobody holds them any more.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use podkeep::network::firewall::{self, Firewall};
use podkeep::network::{Addresses, Ranges};

pub const NODE4: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 1);
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd0c, 0, 0, 1, 0, 0, 0, 1);
/// The node's addresses towards the world, and the world's own.
pub const UPLINK4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const UPLINK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const WORLD4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

pub fn ranges() -> Ranges {
    Ranges::parse("10.203.0.0/16,fd0c:0:0:1::/64").unwrap()
}

/// A network namespace.
pub struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    pub fn new() -> Namespace {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes network namespaces");
            File::open("/proc/thread-self/ns/net").unwrap().into()
        };
        let namespace = Namespace { fd: thread::spawn(make).join().unwrap() };
        namespace.inside(|| {
            for links in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{links}/accept_dad"), "0").unwrap();
            }
        });
        namespace.ip("link set lo up");
        namespace
    }

    /// Does this in a thread that is in the namespace.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        };
        thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Where programs that are started by this process find it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }

    /// Commands of iproute2, one a line.
    #[track_caller]
    pub fn ip(&self, commands: &str) {
        self.run("ip", &["-batch", "-"], commands);
    }

    /// Returns when all addresses can be used: those of IPv6 are made ready by a thread of the kernel.
    fn await_addresses(&self) {
        while !self.run("ip", &["-6", "address", "show", "tentative"], "").is_empty() {
            thread::yield_now();
        }
    }

    /// What `nft` says of it all, or does.
    #[track_caller]
    pub fn nft(&self, arguments: &[&str], input: &str) -> String {
        self.run("nft", arguments, input)
    }

    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let output = self.inside(|| {
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program is there (scripts/install network)");
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {said}\n{input}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn firewall(&self) -> Firewall {
        self.inside(|| Firewall::open().unwrap())
    }
}

/// The node with its uplink, and the world at the other end, which knows the way to Pods.
pub struct Site {
    pub node: Namespace,
    pub world: Namespace,
    pub firewall: Firewall,
}

/// A Pod's namespace, and its addresses.
pub struct Pod {
    pub namespace: Namespace,
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
}

impl Site {
    /// With the table in place, and no Pod.
    pub fn new() -> Site {
        let (node, world) = (Namespace::new(), Namespace::new());
        node.ip(&format!(
            "addr add {NODE4}/32 dev lo
             addr add {NODE6}/128 dev lo
             link add uplink type veth peer name eth0 netns {}
             addr add {UPLINK4}/24 dev uplink
             addr add {UPLINK6}/64 dev uplink
             link set uplink up",
            world.path()
        ));
        world.ip(&format!(
            "addr add {WORLD4}/24 dev eth0
             addr add {WORLD6}/64 dev eth0
             link set eth0 up
             route add 10.203.0.0/16 via {UPLINK4}
             route add fd0c:0:0:1::/64 via {UPLINK6}"
        ));
        node.await_addresses();
        world.await_addresses();
        node.inside(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        let firewall = node.firewall();
        firewall.commit(firewall::table(&ranges())).unwrap();
        Site { node, world, firewall }
    }

    /// A Pod in this slot, 2 to 255, that the firewall does not know of yet.
    pub fn pod(&self, slot: u8) -> Pod {
        let pod = Pod {
            namespace: Namespace::new(),
            ipv4: Ipv4Addr::new(10, 203, 0, slot),
            ipv6: Ipv6Addr::new(0xfd0c, 0, 0, 1, 0, 0, 0, slot.into()),
        };
        let (Pod { ipv4, ipv6, .. }, here, there) =
            (&pod, format!("02:00:00:00:01:{slot:02x}"), format!("02:00:00:00:02:{slot:02x}"));
        self.node.ip(&format!(
            "link add pk{slot} address {here} type veth peer name eth0 address {there} netns {}
             link set pk{slot} up
             neigh add {ipv4} lladdr {there} dev pk{slot} nud permanent
             neigh add {ipv6} lladdr {there} dev pk{slot} nud permanent
             route add {ipv4}/32 dev pk{slot} src {NODE4}
             route add {ipv6}/128 dev pk{slot} src {NODE6}",
            pod.namespace.path()
        ));
        self.node.inside(|| {
            for name in ["rp_filter", "route_localnet"] {
                fs::write(format!("/proc/sys/net/ipv4/conf/pk{slot}/{name}"), "1").unwrap();
            }
        });
        pod.namespace.ip(&format!(
            "addr add {ipv4}/32 dev eth0
             addr add {ipv6}/128 dev eth0
             link set eth0 up"
        ));
        pod.namespace.await_addresses();
        pod.namespace.ip(&format!(
            "neigh add {NODE4} lladdr {here} dev eth0 nud permanent
             neigh add {NODE6} lladdr {here} dev eth0 nud permanent
             route add {NODE4} dev eth0
             route add {NODE6} dev eth0
             route add default via {NODE4} src {ipv4}
             route add default via {NODE6} src {ipv6}"
        ));
        pod
    }
}

impl Pod {
    pub fn rules<'a>(
        &self,
        ports: &'a [firewall::HostPort],
        ingress: firewall::Ingress,
    ) -> firewall::Pod<'a> {
        firewall::Pod { addresses: Addresses { v4: Some(self.ipv4), v6: Some(self.ipv6) }, ports, ingress }
    }

    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }
}
