//! Open files: five or so for each container, here and in the worker, so that the usual 1,024 end at some hundred Pods.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Tells the worker what the soft limit was before.
const VARIABLE: &str = "PODKEEP_OPEN_FILES";

/// More than any node needs: the kernel's own ceiling (`fs.nr_open`) where nobody changed it.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit to the hard one. What it was is for the containers.
pub fn raise_open_files() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

/// The soft limit of this process as it is; `None`: unlimited.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The soft limit that podkeep was started with, as the keeper tells its worker: what a container gets.
pub fn containers_open_files() -> Option<u64> {
    std::env::var(VARIABLE).ok()?.parse().ok()
}

/// How the worker is told.
pub fn variable(soft: u64) -> (&'static str, String) {
    (VARIABLE, soft.to_string())
}
