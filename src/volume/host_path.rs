//! hostPath: something of the host, checked by its type (`V/host_path/host_path.go:checkTypeInternal`).

use std::fs::{self, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::Error;
use crate::manifest::pod::{HostPathKind, Volume};

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Makes what its type lets be made, and checks it.
pub(super) fn prepare(volume: &Volume, path: &Path, kind: HostPathKind) -> Result<(), Error> {
    match kind {
        HostPathKind::Unchecked | HostPathKind::DirectoryOrCreate => {
            make_directory(path).map_err(error(volume, path, "make the hostPath directory"))?;
        }
        HostPathKind::FileOrCreate => {
            make_file(path).map_err(error(volume, path, "make the hostPath file"))?
        }
        _ => {}
    }
    check_type(volume, path, kind)
}

/// Checks what is there. What [`prepare`] would make may be missing.
pub(super) fn check(volume: &Volume, path: &Path, kind: HostPathKind) -> Result<(), Error> {
    use HostPathKind::{DirectoryOrCreate, FileOrCreate, Unchecked};
    let is_made = matches!(kind, Unchecked | DirectoryOrCreate | FileOrCreate);
    if is_made && path.symlink_metadata().is_err() {
        return Ok(());
    }
    check_type(volume, path, kind)
}

fn error<'a>(
    volume: &'a Volume,
    path: &'a Path,
    doing: &'static str,
) -> impl FnOnce(io::Error) -> Error + 'a {
    move |cause| Error::Io { volume: volume.name.clone(), doing, path: path.to_owned(), cause }
}

fn check_type(volume: &Volume, path: &Path, kind: HostPathKind) -> Result<(), Error> {
    let found = fs::metadata(path).map_err(error(volume, path, "find the hostPath"))?.file_type();
    match wanted(kind) {
        Some((wanted, fits)) if !fits(&found) => Err(Error::WrongType {
            volume: volume.name.clone(),
            path: path.to_owned(),
            found: describe(&found),
            wanted,
        }),
        _ => Ok(()),
    }
}

type Fits = fn(&FileType) -> bool;

fn wanted(kind: HostPathKind) -> Option<(&'static str, Fits)> {
    match kind {
        HostPathKind::Unchecked => None,
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => Some(("a directory", FileType::is_dir)),
        HostPathKind::FileOrCreate | HostPathKind::File => Some(("a regular file", FileType::is_file)),
        HostPathKind::Socket => Some(("a socket", FileTypeExt::is_socket)),
        HostPathKind::CharDevice => Some(("a character device", FileTypeExt::is_char_device)),
        HostPathKind::BlockDevice => Some(("a block device", FileTypeExt::is_block_device)),
    }
}

fn describe(found: &FileType) -> &'static str {
    match found {
        found if found.is_dir() => "a directory",
        found if found.is_file() => "a regular file",
        found if found.is_socket() => "a socket",
        found if found.is_char_device() => "a character device",
        found if found.is_block_device() => "a block device",
        found if found.is_fifo() => "a FIFO",
        _ => "something else",
    }
}

/// Whatever is there already stays as it is. Without a type nothing is checked, and containerd makes a directory of
/// what is missing, so that Pods written for it find the same here.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

fn make_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::pod::VolumeKind;

    fn checked(path: &Path, kind: HostPathKind) -> Result<(), String> {
        let kind_of = VolumeKind::HostPath { path: path.to_str().unwrap().to_owned(), kind };
        let volume = Volume { name: "v".to_owned(), kind: kind_of };
        prepare(&volume, path, kind).map_err(|error| error.to_string())
    }

    #[test]
    fn each_type_takes_its_own_kind_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let null = Path::new("/dev/null");
        use HostPathKind::*;
        for (kind, fits) in
            [(Directory, dir.path()), (File, file.as_path()), (Socket, socket.as_path()), (CharDevice, null)]
        {
            for path in [dir.path(), &file, &socket, null] {
                assert_eq!(checked(path, kind).is_ok(), path == fits, "{kind:?} {}", path.display());
            }
        }
        let wrong = checked(&file, Directory).unwrap_err();
        assert!(wrong.ends_with("is a regular file, and its type asks for a directory"), "{wrong}");
    }

    #[test]
    fn or_create_creates_and_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, file) = (dir.path().join("a/b"), dir.path().join("f"));
        checked(&deep, HostPathKind::DirectoryOrCreate).unwrap();
        assert!(deep.is_dir());
        fs::write(&file, "kept").unwrap();
        checked(&file, HostPathKind::FileOrCreate).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert!(checked(&dir.path().join("none/f"), HostPathKind::FileOrCreate).is_err());
    }

    #[test]
    fn a_check_makes_nothing_and_finds_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let only_checked = |path: &Path, kind| {
            let kind_of = VolumeKind::HostPath { path: path.to_str().unwrap().to_owned(), kind };
            check(&Volume { name: "v".to_owned(), kind: kind_of }, path, kind)
        };
        let none = dir.path().join("none");
        use HostPathKind::*;
        for kind in [Unchecked, DirectoryOrCreate, FileOrCreate] {
            only_checked(&none, kind).unwrap();
        }
        assert!(!none.exists());
        assert!(only_checked(&none, Directory).is_err());
        assert!(only_checked(dir.path(), FileOrCreate).is_err());
    }
}
