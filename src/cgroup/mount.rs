//! Where the cgroup2 file system is mounted, and where in it a process is: two files of procfs, parsed.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount of the cgroup2 file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host.
    pub(super) point: PathBuf,
    /// The cgroup that is its top; `/` unless only a part of the hierarchy is mounted here.
    pub(super) top: PathBuf,
}

impl Mount {
    pub(super) fn find() -> Result<Mount, Error> {
        find_in(&read(MOUNTINFO)?).ok_or(Error::NoMount)
    }
}

/// The cgroup in the v2 hierarchy of a process: its PID, or `self`.
pub(super) fn cgroup_of(process: &str) -> Result<PathBuf, Error> {
    let file = format!("/proc/{process}/cgroup");
    let text = read(&file)?;
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"0::"));
    let path = line.ok_or_else(|| Error::Content {
        path: file.into(),
        expected: "a line `0::PATH`",
        found: String::from_utf8_lossy(&text).into_owned(),
    })?;
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

fn read(path: &str) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Host { path: path.into(), source })
}

/// Prefers a mount of the whole hierarchy; among equals the later one, which may cover an earlier one.
fn find_in(mountinfo: &[u8]) -> Option<Mount> {
    let mounts = mountinfo.split(|b| *b == b'\n').filter_map(parse_line);
    mounts.max_by_key(|mount| mount.top == Path::new("/"))
}

/// `ID PARENT MAJOR:MINOR TOP POINT OPTIONS [TAG…] - TYPE SOURCE SUPER_OPTIONS` (proc_pid_mountinfo(5)).
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let top = fields.nth(3)?;
    let point = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"cgroup2").then(|| Mount { point: unescape(point), top: unescape(top) })
}

/// The kernel writes blank, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match octal(first, tail) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(first: u8, tail: &[u8]) -> Option<u8> {
    let digits = tail.get(..3).filter(|_| first == b'\\')?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &[u8] = b"29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn finds_the_mount_on_unified_and_hybrid_hosts() {
        assert_eq!(find_in(UNIFIED).unwrap().point, Path::new("/sys/fs/cgroup"));
        assert_eq!(find_in(HYBRID).unwrap().point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(find_in(b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
        assert_eq!(find_in(b"truncated li"), None);
    }

    #[test]
    fn prefers_the_whole_hierarchy_and_unescapes() {
        let text = b"1 0 0:1 /a\\040b /mnt/c\\134d rw - cgroup2 cgroup2 rw\n";
        let part = Mount { point: "/mnt/c\\d".into(), top: "/a b".into() };
        assert_eq!(find_in(text), Some(part));
        let both = [UNIFIED, text].concat();
        assert_eq!(find_in(&both).unwrap().point, Path::new("/sys/fs/cgroup"));
        assert_eq!(unescape(b"end\\04"), Path::new("end\\04"));
        assert_eq!(unescape(b"\\777"), Path::new("\\777"));
    }
}
