//! A Pod's `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`: one of each for all its containers, in its folder.
//!
//! They are made whenever a container starts, and written where they say something else by then: a container has changed them, or
//! the host has other servers, as after it found its network. Nothing of them has to survive, so they are not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::folders::Folders;
use super::pod_run::PodNumber;
use super::user_ids;
use super::worker::Worker;
use crate::config::ResolvConf;
use crate::container::Bind;
use crate::events::{Kind, Note};
use crate::manifest::pod::{Access, DnsPolicy, MountPropagation};
use crate::manifest::{Container, Pod};
use crate::network::{self, Cluster, Dns, Loss};

const HOSTS: &str = "hosts";
const RESOLV_CONF: &str = "resolv.conf";
const HOSTNAME: &str = "hostname";
/// Their names, in the container's `/etc`.
pub const ALL: [&str; 3] = [HOSTS, RESOLV_CONF, HOSTNAME];

const MODE: u32 = 0o644;
/// The most that is read of a file of the host's, as with the kubelet. Bytes.
const MAX_BYTES: u64 = 10 << 20;
/// Of a Pod whose network is a loopback only, so that its name leads to it. Not localhost's own address, as in Debian: what
/// answers on one of the two need not do so on the other, which is as it will be when Pods have addresses.
const OWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));
/// Which servers systemd-resolved asks itself.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

impl Worker {
    /// Makes the files of a Pod what they shall be now. What it asked for and does not get is told when this worker first does so.
    pub fn write_name_files(&mut self, number: PodNumber) -> Result<()> {
        let run = self.pods.get_mut(&number).context("the Pod is gone")?;
        let (pod, lease) = (Arc::clone(run.pod()), run.lease);
        let is_told = std::mem::replace(&mut run.names_told, true);
        let (dns, losses) = self.dns_of(&pod, lease.is_some())?;
        let name = format!("{}\n", self.host_name_of(&pod));
        let folders = &self.options.folders;
        let ids = user_ids::of(folders, &pod)?;
        let own = self.pods.get(&number).map(|run| self.addresses_of_pod(run)).unwrap_or_default();
        let texts =
            [(HOSTS, self.hosts_of(&pod, &own)?), (RESOLV_CONF, dns.text().into()), (HOSTNAME, name.into())];
        for (name, text) in texts {
            let path = folders.name_file(&pod.uid, name);
            let owner = ids.map_or(0, |ids| ids.first);
            write(&path, &text, owner).with_context(|| format!("write {}", path.display()))?;
        }
        if !is_told {
            let note = |loss: Loss| Note::new(Kind::Warning, loss.reason, loss.message);
            self.record(number, losses.into_iter().map(note).collect());
        }
        Ok(())
    }

    /// What the kernel calls the machine that a Pod's containers see.
    pub fn host_name_of(&self, pod: &Pod) -> String {
        let own = network::host_name(pod, &self.options.config.dns.cluster_domain);
        own.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    fn hosts_of(&self, pod: &Pod, own: &[IpAddr]) -> Result<Vec<u8>> {
        let Some(name) = &pod.hostname else {
            let text = read_if_there(Path::new("/etc/hosts"))?;
            return Ok(network::hosts_of_the_host(&text, &pod.host_aliases));
        };
        let domain = network::domain(pod, &self.options.config.dns.cluster_domain);
        let own = if own.is_empty() { &[OWN_ADDRESS][..] } else { own };
        Ok(network::hosts(own, name, domain.as_deref(), &pod.host_aliases).into())
    }

    fn dns_of(&self, pod: &Pod, has_addresses: bool) -> Result<(Dns, Vec<Loss>)> {
        let config = &self.options.config.dns;
        let host = match pod.dns.policy {
            Some(DnsPolicy::None) => None,
            _ => host_dns(&config.resolv_conf, pod.host_network)?,
        };
        let domain = &config.cluster_domain;
        // A Pod with a loopback only would not come to it.
        let ours = if has_addresses || pod.host_network { self.addresses_of_resolver() } else { Vec::new() };
        let cluster = match &config.cluster_dns {
            None => Cluster { servers: &ours, domain, knows_pods: true },
            Some(servers) => Cluster { servers, domain, knows_pods: false },
        };
        Ok(network::dns_of_pod(pod, cluster, host))
    }
}

/// Shows them to a container, but for those in whose place its `volumes` have something: at the path itself, or above it what
/// cannot be added to.
pub fn binds(pod: &Pod, container: &Container, folders: &Folders, volumes: &[Bind]) -> Vec<Bind> {
    let bind = |name: &str| {
        let destination = format!("/etc/{name}");
        let is_taken = volumes.iter().any(|volume| {
            let (volume_at, at) = (Path::new(&volume.destination), Path::new(&destination));
            // What is mounted inside of what the host sees, the host would see and keep.
            let takes_none =
                volume.access != Access::ReadWrite || volume.propagation == MountPropagation::Bidirectional;
            volume_at == at || (takes_none && at.starts_with(volume_at))
        });
        // Hosts can be added to whatever the root is, as with the kubelet; the others are the root's, as with containerd.
        let is_read_only = name != HOSTS && container.security.read_only_root;
        let access = if is_read_only { Access::ReadOnly } else { Access::ReadWrite };
        (!is_taken).then(|| Bind { access, ..Bind::new(folders.name_file(&pod.uid, name), &destination) })
    };
    ALL.into_iter().filter_map(bind).collect()
}

/// Whom the host asks; `None` where the configuration says nobody.
pub fn host_dns(place: &ResolvConf, on_its_network: bool) -> Result<Option<Dns>> {
    let parse = |bytes: Vec<u8>| Dns::parse(&String::from_utf8_lossy(&bytes));
    Ok(Some(match place {
        ResolvConf::Nowhere => return Ok(None),
        ResolvConf::File(path) => parse(read(path).with_context(|| format!("read {}", path.display()))?),
        ResolvConf::Usual => {
            let dns = parse(read_if_there(Path::new("/etc/resolv.conf"))?);
            // From a network of its own, a Pod does not come to the host's loopback.
            let behind = if on_its_network || !dns.is_stub() {
                Vec::new()
            } else {
                read_if_there(Path::new(BEHIND_RESOLVED))?
            };
            if behind.is_empty() { dns } else { parse(behind) }
        }
    }))
}

fn read_if_there(path: &Path) -> Result<Vec<u8>> {
    match read(path) {
        // Then nobody on the host finds any name there, either.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => text.with_context(|| format!("read {}", path.display())),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes this what a file says, in place: a container that runs sees the file, not its name. `owner`: user and group.
fn write(path: &Path, text: &[u8], owner: u32) -> io::Result<()> {
    let file = open(path)?;
    let found = file.metadata()?;
    if (found.uid(), found.gid(), found.mode() & 0o7777) != (owner, owner, MODE) {
        fchown(&file, Some(owner), Some(owner))?;
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
    }
    let mut old = vec![0; text.len()];
    let is_same = found.len() == text.len() as u64 && file.read_exact_at(&mut old, 0).is_ok() && old == text;
    if !is_same {
        file.write_all_at(text, 0)?;
        file.set_len(text.len() as u64)?;
    }
    Ok(())
}

/// A process of the container may hold a lease on the file, for which the loop does not wait: it is left with that one then.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            fs::remove_file(path)?;
            options.open(path)
        }
        file => file,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::manifest::{PodId, Uid};

    #[test]
    fn a_file_is_changed_in_place_and_only_if_it_says_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc-hosts");
        let us = fs::metadata(dir.path()).unwrap().uid();
        let read = || fs::read_to_string(&path).unwrap();
        write(&path, b"long text\n", us).unwrap();
        let first = fs::metadata(&path).unwrap();
        assert_eq!((read().as_str(), first.mode() & 0o7777), ("long text\n", MODE));
        let seen = File::open(&path).unwrap();

        write(&path, b"long text\n", us).unwrap();
        let again = fs::metadata(&path).unwrap();
        assert_eq!((first.mtime_nsec(), first.ctime_nsec()), (again.mtime_nsec(), again.ctime_nsec()));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, b"short\n", us).unwrap();
        assert_eq!(read(), "short\n");
        let changed = seen.metadata().unwrap();
        assert_eq!((changed.len(), changed.mode() & 0o7777), (6, MODE), "what is open is the file still");
    }

    #[test]
    fn a_lease_of_a_container_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc-hosts");
        let us = fs::metadata(dir.path()).unwrap().uid();
        write(&path, b"first\n", us).unwrap();
        let leased = File::open(&path).unwrap();
        crate::sys::lease::take(leased.as_fd()).unwrap();
        write(&path, b"second\n", us).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
    }

    #[test]
    fn what_a_container_has_in_their_place_stays_there() {
        let uid = Uid::parse(&"0".repeat(32)).unwrap();
        let id = PodId { namespace: "default".to_owned(), name: "web".to_owned() };
        let mut pod = Pod::plain(id, uid, vec![Container::plain("c", "i")]);
        let folders = Folders { root: "/r".into(), run: "/run/r".into(), logs: "/l".into() };
        let access = |read_only| if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let volume = |at: &str, read_only| Bind { access: access(read_only), ..Bind::new("/v", at) };
        let shown = |pod: &Pod, volumes: &[Bind]| -> Vec<(String, bool)> {
            let binds = binds(pod, &pod.containers[0], &folders, volumes);
            binds.into_iter().map(|bind| (bind.destination, bind.access == Access::ReadOnly)).collect()
        };
        let files = |read_only| {
            let file = |name, read_only| (format!("/etc/{name}"), read_only);
            vec![file("hosts", false), file("resolv.conf", read_only), file("hostname", read_only)]
        };
        assert_eq!(shown(&pod, &[volume("/etc", false), volume("/etc/host", true)]), files(false));
        assert_eq!(shown(&pod, &[volume("/etc/hosts/", false)]), files(false)[1..]);
        assert_eq!(shown(&pod, &[volume("/etc", true)]), []);
        let of_the_host = Bind { propagation: MountPropagation::Bidirectional, ..volume("/etc", false) };
        assert_eq!(shown(&pod, &[of_the_host]), []);
        pod.containers[0].security.read_only_root = true;
        assert_eq!(shown(&pod, &[]), files(true));
        assert_eq!(
            binds(&pod, &pod.containers[0], &folders, &[])[0].source,
            Path::new("/r/pods").join("0".repeat(32)).join("etc-hosts")
        );
    }
}
