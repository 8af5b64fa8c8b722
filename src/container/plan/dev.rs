//! What lies in a container's own `/dev`.

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::{PlanError, text};
use crate::sys::step::{Node, Slot, Step};

/// Character devices that every container has (OCI runtime specification, "Default Devices"): name, major, minor.
const DEFAULT_NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// From the same place; `core` is customary.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

pub(super) struct Device {
    /// Absolute.
    pub on_host: CString,
    /// Below the directory that it is made in.
    pub path: CString,
    pub parent: Option<CString>,
    pub node: Node,
}

/// The default ones that the spec does not replace, then the spec's.
pub(super) fn devices(spec: &Spec) -> Result<Vec<Device>, PlanError> {
    let listed = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    let listed = listed.into_iter().flatten().filter(|device| device.path().starts_with("/dev"));
    let listed: Vec<(&str, &LinuxDevice)> =
        listed.map(|device| Ok((name(device, "/dev")?, device))).collect::<Result<_, PlanError>>()?;

    let mut devices = Vec::new();
    for (default, major, minor) in DEFAULT_NODES {
        if listed.iter().any(|(name, _)| *name == default) {
            continue;
        }
        let node = Node { mode: libc::S_IFCHR | 0o666, major, minor, uid: 0, gid: 0 };
        let on_host = text::c_string("device", &format!("/dev/{default}"))?;
        devices.push(Device { on_host, path: text::c_string("device", default)?, parent: None, node });
    }
    for (name, device) in listed {
        let parent = name.rsplit_once('/').map(|(parent, _)| text::c_string("device", parent)).transpose()?;
        let on_host = text::absolute("device", device.path())?;
        devices.push(Device { on_host, path: text::c_string("device", name)?, parent, node: node(device)? });
    }
    Ok(devices)
}

pub(super) fn links(below: Slot) -> Result<Vec<Step>, PlanError> {
    let link = |(name, to)| {
        let (path, to) = (text::c_string("link", name)?, text::c_string("link", to)?);
        Ok(Step::MakeLink { below, path, to })
    };
    LINKS.into_iter().map(link).collect()
}

/// Those of the spec that lie elsewhere, each with the directory that it lies in.
pub(super) fn elsewhere(spec: &Spec) -> Result<Vec<(CString, Device)>, PlanError> {
    let listed = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    let elsewhere = listed.into_iter().flatten().filter(|device| !device.path().starts_with("/dev"));
    let placed = |device: &LinuxDevice| {
        let path = name(device, "/")?;
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = text::c_string("device", &format!("/{directory}"))?;
        let path = text::c_string("device", name)?;
        let on_host = text::absolute("device", device.path())?;
        Ok((directory, Device { on_host, path, parent: None, node: node(device)? }))
    };
    elsewhere.map(placed).collect()
}

/// The path below `top`.
fn name<'d>(device: &'d LinuxDevice, top: &str) -> Result<&'d str, PlanError> {
    let below = device.path().strip_prefix(top).ok().and_then(Path::to_str);
    below.filter(|name| !name.is_empty() && !name.split('/').any(|part| part == "..")).ok_or_else(|| {
        PlanError::Device {
            path: device.path().clone(),
            problem: "not absolute, not a plain path, or not UTF-8",
        }
    })
}

fn node(device: &LinuxDevice) -> Result<Node, PlanError> {
    let problem = |problem| PlanError::Device { path: device.path().clone(), problem };
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::P => libc::S_IFIFO,
        _ => return Err(problem("no kind of device")),
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| problem("number out of range"));
    Ok(Node {
        mode: kind | (device.file_mode().unwrap_or(0o666) & 0o7777),
        major: number(device.major())?,
        minor: number(device.minor())?,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}
