//! One entry of a layer, checked: a path that stays inside, numbers that fit, attributes that an archive may set.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::error::EntryError;
use super::limits::Limits;
use super::pax::{Extended, ExtendedAttribute};

/// A path below the layer's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryPath {
    /// Empty for the root and what lies in it.
    pub(super) parent: PathBuf,
    /// `None` for the root itself.
    pub(super) name: Option<OsString>,
}

/// What an entry makes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink(Vec<u8>),
    Hardlink(EntryPath),
    /// Character or block device.
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
    Fifo,
    /// The name does not exist in this layer's image, whatever lower layers say.
    Whiteout,
    /// Lower layers' content of the folder does not exist.
    Opaque,
    /// Metadata that makes nothing.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: EntryPath,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
}

/// What every kind of file has.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits with set-user-ID, set-group-ID and sticky.
    pub(super) mode: u32,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    pub(super) extended: Vec<ExtendedAttribute>,
}

impl EntryPath {
    /// Leading `/` and `./` mean the layer's root, as every tool reads them; `..` is refused wherever it stands.
    pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<EntryPath, EntryError> {
        if bytes.contains(&0) {
            return Err(EntryError::ZeroByte);
        }
        let mut parts = Vec::new();
        for part in bytes.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(EntryError::LeavesRoot),
                part => parts.push(OsStr::from_bytes(part)),
            }
        }
        if bytes.len() > limits.path_bytes || parts.len() > limits.depth {
            return Err(EntryError::PathTooLong { limit: limits.path_bytes, depth: limits.depth });
        }
        let name = parts.pop().map(OsStr::to_owned);
        Ok(EntryPath { parent: parts.iter().collect(), name })
    }

    /// Parent and name together; empty for the root.
    pub(super) fn whole(&self) -> PathBuf {
        self.name.as_ref().map_or_else(PathBuf::new, |name| self.parent.join(name))
    }
}

impl Entry {
    pub(super) fn read<R: Read>(
        raw: &tar::Entry<'_, R>,
        extended: Extended,
        limits: &Limits,
    ) -> Result<Entry, EntryError> {
        if let Some(size) = extended.size.filter(|size| *size != raw.size()) {
            return Err(EntryError::AmbiguousSize { header: raw.size(), extended: size });
        }
        let name = extended.path.clone().unwrap_or_else(|| raw.path_bytes().into_owned());
        let path = EntryPath::parse(&name, limits)?;
        let kind = kind(raw, &name, &extended, limits)?;
        let attributes = Attributes::read(raw.header(), extended)?;
        with_whiteout(Entry { path, kind, attributes })
    }
}

fn kind<R: Read>(
    raw: &tar::Entry<'_, R>,
    name: &[u8],
    extended: &Extended,
    limits: &Limits,
) -> Result<Kind, EntryError> {
    use tar::EntryType;
    let link = || extended.link.clone().or_else(|| raw.link_name_bytes().map(|link| link.into_owned()));
    match raw.header().entry_type() {
        // Before POSIX a folder was a file whose name ends with a slash.
        EntryType::Regular if name.ends_with(b"/") => Ok(Kind::Folder),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Folder),
        EntryType::Symlink => symlink(link().unwrap_or_default()),
        EntryType::Link => hardlink(&link().unwrap_or_default(), limits),
        EntryType::Char => device(raw.header(), false),
        EntryType::Block => device(raw.header(), true),
        EntryType::Fifo => Ok(Kind::Fifo),
        EntryType::XGlobalHeader => Ok(Kind::Nothing),
        other => Err(EntryError::UnknownType { kind: char::from(other.as_byte()) }),
    }
}

fn symlink(target: Vec<u8>) -> Result<Kind, EntryError> {
    if target.is_empty() || target.contains(&0) || target.len() >= 4096 {
        return Err(EntryError::InvalidLinkTarget);
    }
    Ok(Kind::Symlink(target))
}

fn hardlink(target: &[u8], limits: &Limits) -> Result<Kind, EntryError> {
    let shown = || String::from_utf8_lossy(target).into_owned();
    let path = match EntryPath::parse(target, limits) {
        Err(EntryError::LeavesRoot) => return Err(EntryError::LinkLeavesRoot { target: shown() }),
        other => other?,
    };
    if path.name.is_none() {
        return Err(EntryError::LinkToFolder { target: shown() });
    }
    Ok(Kind::Hardlink(path))
}

fn device(header: &tar::Header, block: bool) -> Result<Kind, EntryError> {
    let number = |number: std::io::Result<Option<u32>>, field| {
        number.ok().flatten().ok_or(EntryError::InvalidHeader { field })
    };
    let major = number(header.device_major(), "device number")?;
    let minor = number(header.device_minor(), "device number")?;
    if !block && (major, minor) == (0, 0) {
        return Err(EntryError::WhiteoutDevice);
    }
    Ok(Kind::Device { block, major, minor })
}

/// OCI image-spec, `layer.md`: `.wh.NAME` removes NAME, `.wh..wh..opq` hides what lower layers have in the folder. Other names that begin with
/// `.wh..wh.` are leftovers of aufs, which Docker skips.
fn with_whiteout(mut entry: Entry) -> Result<Entry, EntryError> {
    let Some(rest) = entry.path.name.as_ref().and_then(|name| name.as_bytes().strip_prefix(b".wh.")) else {
        return Ok(entry);
    };
    entry.kind = match rest {
        b"" | b"." | b".." => return Err(EntryError::InvalidWhiteout),
        b".wh..opq" => Kind::Opaque,
        _ if rest.starts_with(b".wh.") => Kind::Nothing,
        _ => Kind::Whiteout,
    };
    entry.path.name = Some(OsString::from_vec(rest.to_owned()));
    Ok(entry)
}

impl Attributes {
    fn read(header: &tar::Header, extended: Extended) -> Result<Attributes, EntryError> {
        let invalid = |field| EntryError::InvalidHeader { field };
        let uid = extended.uid.or(header.uid().ok()).and_then(id).ok_or(invalid("uid"))?;
        let gid = extended.gid.or(header.gid().ok()).and_then(id).ok_or(invalid("gid"))?;
        let seconds = seconds(header);
        let modified = extended.modified.or(seconds.map(|seconds| (seconds, 0))).ok_or(invalid("mtime"))?;
        let mode = header.mode().map_err(|_| invalid("mode"))? & 0o7777;
        Ok(Attributes { uid, gid, mode, modified, extended: settable(extended.attributes)? })
    }
}

/// The time of modification: octal digits or, in GNU's format, a binary number, which may be negative.
fn seconds(header: &tar::Header) -> Option<i64> {
    let field = header.as_old().mtime;
    if field[0] & 0x80 == 0 {
        return header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
    }
    // The first bit says that it is one, the second is its sign.
    let first = i128::from((field[0] << 1).cast_signed() >> 1);
    let number = field[1..].iter().fold(first, |number, byte| number << 8 | i128::from(*byte));
    i64::try_from(number).ok()
}

/// The kernel takes the highest number for "leave it as it is".
fn id(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX)
}

/// An overlay attribute could redirect a name to another place of the lower layers, so none comes from an archive.
/// SELinux labels belong to the machine that made them.
fn settable(attributes: Vec<ExtendedAttribute>) -> Result<Vec<ExtendedAttribute>, EntryError> {
    let is_overlay =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    if let Some((name, _)) = attributes.iter().find(|(name, _)| is_overlay(name)) {
        return Err(EntryError::OverlayAttribute { name: String::from_utf8_lossy(name).into_owned() });
    }
    if attributes.iter().any(|(name, _)| name.contains(&0)) {
        return Err(EntryError::ZeroByte);
    }
    Ok(attributes.into_iter().filter(|(name, _)| name != b"security.selinux").collect())
}
