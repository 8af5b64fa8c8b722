//! The devices of the host, which a privileged container has.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::order;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

/// What a container has of its own, or what is no device of the machine.
const LEFT_OUT: [&str; 6] = ["pts", "shm", "fd", "mqueue", "console", "ptmx"];

/// All device nodes below `/dev`, sorted by path; links are left alone.
pub(super) fn of_the_host() -> io::Result<Vec<LinuxDevice>> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), &mut found)?;
    order::sort_by(&mut found, |a, b| a.path().cmp(b.path()));
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<LinuxDevice>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // Unplugged meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            collect(&path, found)?;
        } else if let Some(device) = device(&path, &metadata) {
            found.push(device);
        }
    }
    Ok(())
}

fn device(path: &Path, metadata: &fs::Metadata) -> Option<LinuxDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_block_device() => LinuxDeviceType::B,
        kind if kind.is_char_device() => LinuxDeviceType::C,
        _ => return None,
    };
    let mut device = LinuxDevice::default();
    device
        .set_path(path.to_owned())
        .set_typ(kind)
        .set_major(rustix::fs::major(metadata.rdev()).into())
        .set_minor(rustix::fs::minor(metadata.rdev()).into())
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    Some(device)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hosts_null_device_is_among_them() {
        let devices = super::of_the_host().unwrap();
        let null = devices.iter().find(|device| device.path().ends_with("null")).unwrap();
        assert_eq!((null.major(), null.minor()), (1, 3));
        assert!(!devices.iter().any(|device| device.path().starts_with("/dev/pts")));
    }
}
