//! What variables of containers are made from on this node.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::host_ip::host_ips;
use super::mounts::check_sub_paths;
use super::worker::Worker;
use crate::container::environment::{Environment, NodeFacts, NotThere, Purpose, Sources, environment};
use crate::manifest::pod::{Allocatable, FileKeyRef};
use crate::manifest::{Container, Object, Pod};
use crate::sys::inroot::{self, Links};
use crate::sys::regular_file;
use crate::volume;

/// What an env file may have, as KEP-3721 says. Bytes.
const MAX_ENV_FILE: usize = 64 * 1024;

impl Worker {
    /// The container's variables, as ConfigMaps and Secrets are now.
    pub fn environment(
        &self,
        pod: &Pod,
        container: &Container,
        purpose: Purpose,
    ) -> Result<Environment, NotThere> {
        let objects = self.set.objects();
        let of_set = |id: &_| objects.get(id).map(|object| -> &Object { object });
        let file = |named: &FileKeyRef| {
            let folders = &self.options.folders;
            let volume = pod.volumes.iter().find(|volume| volume.name == named.volume);
            let folder = volume
                .and_then(|volume| {
                    volume::host_source(volume, &folders.pod(&pod.uid), &folders.files_of(&pod.uid))
                })
                .ok_or_else(|| io::Error::other("there is no such volume"))?;
            env_file(&folder, &named.path)
        };
        let sources = Sources { pod, objects: &of_set, node: &|| self.node_facts(pod), file: &file };
        environment(container, sources, purpose)
    }

    /// What a Pod's volumes or variables lack for a start of all its containers, if they do.
    pub fn lacks_for_start(&self, pod: &Pod) -> Option<String> {
        let of_container = |container: &Container| {
            let environment =
                self.environment(pod, container, Purpose::Rehearsal).map_err(anyhow::Error::from);
            let error = environment.and_then(|it| check_sub_paths(container, &it)).err()?;
            Some(format!("container {}: {error:#}", container.name))
        };
        self.check_files(pod).err().or_else(|| pod.containers.iter().find_map(of_container))
    }

    fn node_facts(&self, pod: &Pod) -> NodeFacts {
        let run = self.numbers.get(&pod.uid).and_then(|number| self.pods.get(number));
        let pod_addresses = run.map(|run| self.addresses_of_pod(run)).unwrap_or_default();
        NodeFacts { addresses: host_ips(), pod_addresses, allocatable: self.allocatable() }
    }

    /// All of the machine: podkeep sets nothing aside.
    pub fn allocatable(&self) -> Allocatable {
        Allocatable {
            cpu_milli: 1000 * processors(),
            memory: memory(),
            ephemeral_storage: rustix::fs::statvfs(&self.options.folders.root)
                .map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
        }
    }
}

/// The text of a file of a volume, where any container of the Pod may have put anything: links lead nowhere but into the volume,
/// and nobody is waited for. In the loop, for it is short, and mostly was just written.
fn env_file(volume: &Path, path: &str) -> io::Result<Option<String>> {
    let volume = File::open(volume)?;
    let found = match inroot::open(volume.as_fd(), &CString::new(path)?, OFlags::PATH, Links::Follow) {
        Err(Errno::NOENT) => return Ok(None),
        found => File::from(found?),
    };
    let mut text = Vec::new();
    regular_file::open_again(&found)?.take(MAX_ENV_FILE as u64 + 1).read_to_end(&mut text)?;
    if text.len() > MAX_ENV_FILE {
        return Err(io::Error::other("it has more than 64KiB"));
    }
    String::from_utf8(text).map(Some).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// Bytes that the machine has.
pub fn memory() -> u64 {
    let host = rustix::system::sysinfo();
    host.totalram.saturating_mul(host.mem_unit.into())
}

/// Those that the machine has switched on, whichever of them podkeep itself may use.
fn processors() -> u64 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    count_of(online.trim()).max(1)
}

/// Of a list of the kernel's: `0-3,8`.
fn count_of(list: &str) -> u64 {
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some(last.saturating_sub(first) + 1)
    };
    list.split(',').filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn the_kernels_lists_are_counted() {
        for (list, count) in [("0", 1), ("0-3", 4), ("0-3,8", 5), ("1,3-4", 3), ("", 0)] {
            assert_eq!(count_of(list), count, "{list}");
        }
    }

    #[test]
    fn an_env_file_is_one_of_its_volume_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("d")).unwrap();
        fs::write(dir.path().join("secret"), "of the host").unwrap();
        fs::write(volume.join("d/file"), "A='b'").unwrap();
        fs::write(volume.join("bytes"), [0xff]).unwrap();
        fs::write(volume.join("long"), vec![b'#'; MAX_ENV_FILE + 1]).unwrap();
        fs::write(volume.join("just"), vec![b'#'; MAX_ENV_FILE]).unwrap();
        symlink("/d/file", volume.join("inside")).unwrap();
        symlink("../secret", volume.join("outside")).unwrap();
        symlink(dir.path().join("secret"), volume.join("absolute")).unwrap();
        mknodat(CWD, volume.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        for (path, expected) in [
            ("d/file", Ok(Some("A='b'"))),
            ("inside", Ok(Some("A='b'"))),
            ("outside", Ok(None)),
            ("absolute", Ok(None)),
            ("none", Ok(None)),
            ("fifo", Err("it is no regular file")),
            ("d", Err("it is no regular file")),
            ("bytes", Err("it is not UTF-8")),
            ("long", Err("it has more than 64KiB")),
        ] {
            let found = env_file(&volume, path).map_err(|error| error.to_string());
            assert_eq!(
                found.as_ref().map(Option::as_deref),
                expected.map_err(str::to_owned).as_ref().map(|it| *it),
                "{path}"
            );
        }
        assert_eq!(env_file(&volume, "just").unwrap().unwrap().len(), MAX_ENV_FILE);
    }
}
