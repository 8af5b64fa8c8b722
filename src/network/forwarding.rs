//! Letting packets pass from one link of the host to another: what the kernel does not do unless it is told.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::range::Ranges;

const SYSCTLS: &str = "/proc/sys/net";

/// Why packets cannot pass.
#[derive(Debug, thiserror::Error)]
#[error("set {path} to {value}, so that packets pass between Pods: {cause}")]
pub struct Error {
    path: PathBuf,
    value: &'static str,
    cause: io::Error,
}

/// Turns on what is off, and says in sentences what that was. It stays on: others may have come to rely on it.
///
/// # Errors
/// When `/proc/sys` cannot be written: podkeep runs in a container of somebody else's, say.
pub fn turn_on(ranges: &Ranges) -> Result<Vec<String>, Error> {
    let net = Path::new(SYSCTLS);
    let mut changes = Vec::new();
    if ranges.v4().is_some() {
        set(&net.join("ipv4/ip_forward"), "1", &mut changes)?;
    }
    if ranges.v6().is_some() {
        // Who forwards is a router, and no router takes its own routes from others' advertisements unless it is told to
        // (Documentation/networking/ip-sysctl.rst, accept_ra): the host would lose its default route within half an hour.
        for accepts in accepting(&net.join("ipv6/conf")) {
            set(&accepts, "2", &mut changes)?;
        }
        set(&net.join("ipv6/conf/all/forwarding"), "1", &mut changes)?;
    }
    Ok(changes)
}

/// Whether this host has IPv6, and has it on.
pub fn has_v6() -> bool {
    read(&Path::new(SYSCTLS).join("ipv6/conf/all/disable_ipv6")) == "0"
}

/// The `accept_ra` of the links that do, and of those to come.
fn accepting(conf: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(conf).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_name() != "lo" && entry.file_name() != "all");
    links.map(|entry| entry.path().join("accept_ra")).filter(|accepts| read(accepts) == "1").collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn set(path: &Path, value: &'static str, changes: &mut Vec<String>) -> Result<(), Error> {
    let was = read(path);
    if was == value {
        return Ok(());
    }
    fs::write(path, value).map_err(|cause| Error { path: path.to_owned(), value, cause })?;
    changes.push(format!("{} was {was}, and is {value} now: packets pass to and from Pods", path.display()));
    Ok(())
}
