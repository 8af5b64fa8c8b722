//! Letting packets pass from one link of the host to another: what the kernel does not do unless it is told.

use std::fs;
use std::path::{Path, PathBuf};

use super::links;
use super::range::Ranges;
use super::sysctl::{self, read};

/// Why packets cannot pass.
#[derive(Debug, thiserror::Error)]
#[error("let packets pass to and from Pods: {0}")]
pub struct Error(#[from] sysctl::Error);

/// Turns on what is off, and says in sentences what that was. It stays on: others may have come to rely on it.
///
/// # Errors
/// When `/proc/sys` cannot be written: podkeep runs in a container of somebody else's, say.
pub fn turn_on(ranges: &Ranges) -> Result<Vec<String>, Error> {
    let mut changes = Vec::new();
    if ranges.v4().is_some() {
        set(&sysctl::path("ipv4/ip_forward"), "1", &mut changes)?;
    }
    let all = sysctl::path("ipv6/conf/all/forwarding");
    if ranges.v6().is_some() && read(&all) != "1" {
        // Who forwards is a router, and no router takes its own routes from others' advertisements unless it is told to
        // (Documentation/networking/ip-sysctl.rst, accept_ra): the host would lose its default route at once. One that was a router before
        // has it as it wants it.
        for accepts in accepting(&sysctl::path("ipv6/conf")) {
            set(&accepts, "2", &mut changes)?;
        }
        set(&all, "1", &mut changes)?;
    }
    Ok(changes)
}

/// Whether this host has IPv6, and has it on.
pub fn has_v6() -> bool {
    read(&sysctl::path("ipv6/conf/all/disable_ipv6")) == "0"
}

/// The `accept_ra` of the host's own links that take advertisements. What links to come begin with (`default`) is not ours to say.
fn accepting(conf: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(conf).into_iter().flatten().flatten();
    let is_own = |name: &str| !["lo", "all", "default"].contains(&name) && !links::is_ours(name);
    let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_own));
    own.map(|entry| entry.path().join("accept_ra")).filter(|accepts| read(accepts) == "1").collect()
}

fn set(path: &Path, value: &'static str, changes: &mut Vec<String>) -> Result<(), Error> {
    if let Some(was) = sysctl::set(path, value)? {
        let path = path.display();
        changes.push(format!(
            "{path} was {was}, and is {value} now and stays so: packets pass to and from Pods"
        ));
    }
    Ok(())
}
