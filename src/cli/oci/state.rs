//! What is kept of a container between two commands: one folder each, on a tmpfs.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Spec;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::id::ContainerId;
use crate::cgroup::{self, Group};
use crate::keeper::start_time;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
/// There from the making of a container to its start.
const START: &str = "start";

/// The folder of one container.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// A container as it was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub pid: u32,
    /// Clock ticks since boot: with the PID it names the process for good.
    pub start_time: u64,
    /// As `/proc/PID/cgroup` shows it.
    pub cgroup: PathBuf,
    /// RFC 3339.
    pub created: String,
    pub annotations: HashMap<String, String>,
}

/// The words of the OCI runtime specification; `Paused` is runc's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// The state that hooks and `state` get.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: Status,
    /// 0 of a container that has ended.
    pid: u32,
    bundle: &'a Path,
    annotations: &'a HashMap<String, String>,
    /// Beyond the specification, as runc has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a str>,
}

/// The version of the specification that is followed.
pub const OCI_VERSION: &str = "1.2.0";

impl Container {
    pub fn state(&self, status: Status) -> State<'_> {
        State {
            oci_version: OCI_VERSION,
            id: &self.id,
            status,
            pid: if status == Status::Stopped { 0 } else { self.pid },
            bundle: &self.bundle,
            annotations: &self.annotations,
            rootfs: Some(&self.rootfs),
            created: Some(&self.created),
        }
    }

    /// A descriptor of its first process; `None` if that has ended.
    pub fn process(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after the pidfd was opened: if it is the same one now, the pidfd is of it.
        (self.is_alive()).then_some(pidfd)
    }

    /// A zombie that nobody has waited for is none.
    fn is_alive(&self) -> bool {
        let Ok(pid) = i32::try_from(self.pid) else { return false };
        let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.starttime == self.start_time && !"ZX".contains(stat.state))
    }

    /// Its cgroup; `None` if that is gone.
    pub fn group(&self) -> Result<Option<Group>> {
        cgroup::open_existing(&self.cgroup).with_context(|| format!("open the cgroup of {}", self.id))
    }
}

impl Folder {
    pub fn new(root: &Path, id: &ContainerId) -> Folder {
        Folder(root.join(id.as_str()))
    }

    /// Makes the folder: that of another container with the id is an error.
    pub fn make(root: &Path, id: &ContainerId) -> Result<Folder> {
        let folder = Folder::new(root, id);
        let private = |recursive| {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(recursive);
            builder
        };
        private(true).create(root).with_context(|| format!("make {}", root.display()))?;
        match private(false).create(&folder.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("container with id exists: {id}")
            }
            made => made.with_context(|| format!("make {}", folder.0.display()))?,
        }
        Ok(folder)
    }

    pub fn save(&self, container: &Container, config: &[u8]) -> Result<()> {
        self.write(CONFIG, config)?;
        self.write(STATE, &serde_json::to_vec(container)?)
    }

    /// Whole or absent.
    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let (path, aside) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let written = File::create(&aside).and_then(|mut file| file.write_all(content));
        written.and_then(|()| fs::rename(&aside, &path)).with_context(|| format!("write {}", path.display()))
    }

    /// # Errors
    /// `container does not exist` in the words that podman looks for.
    pub fn load(&self) -> Result<Container> {
        let path = self.0.join(STATE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("container does not exist: there is no {}", path.display())
            }
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    pub fn spec(&self) -> Result<Spec> {
        let path = self.0.join(CONFIG);
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
    }

    pub fn status(&self, container: &Container) -> Result<Status> {
        if !container.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.0.join(START).exists() {
            return Ok(Status::Created);
        }
        let frozen = container.group()?.map_or(Ok(false), |group| group.is_frozen())?;
        Ok(if frozen { Status::Paused } else { Status::Running })
    }

    /// The FIFO that the first process reads its start from, opened for that.
    pub fn make_start(&self) -> Result<OwnedFd> {
        let path = self.0.join(START);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .with_context(|| format!("make {}", path.display()))?;
        // Open for both: a reader alone would have to wait for a writer.
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        Ok(opened.with_context(|| format!("open {}", path.display()))?.into())
    }

    pub fn give_start(&self) -> Result<()> {
        let path = self.0.join(START);
        let start = || -> io::Result<()> {
            // Non-blocking: it fails if the process that should read is gone.
            let mut fifo = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
                .open(&path)?;
            fs::remove_file(&path)?;
            fifo.write_all(&[0])
        };
        start().context("start the container's process")
    }

    /// With all that podkeep has put there.
    pub fn remove(&self) -> Result<()> {
        for name in [START, CONFIG, STATE] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", self.0.join(name).display()));
                }
                _ => {}
            }
        }
        match fs::remove_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("remove {}", self.0.display())),
        }
    }
}

/// The ids of all containers, in order.
pub fn ids(root: &Path) -> Result<Vec<ContainerId>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {}", root.display()))?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut ids: Vec<ContainerId> = names.collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Of a process that was just made.
pub fn started_at(pid: u32) -> u64 {
    start_time(pid)
}
