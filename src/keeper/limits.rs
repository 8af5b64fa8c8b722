//! Open files: five or so for each container, here and in the worker, so that the usual 1,024 end at some hundred Pods.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Tells the worker, and this process after it has executed itself again, what the soft limit was before.
const VARIABLE: &str = "PODKEEP_OPEN_FILES";

/// Raises the soft limit to the hard one. What it was is for the containers.
pub fn raise_open_files() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// The soft limit that podkeep was started with: what a container gets. `None`: unlimited.
pub fn open_files_before() -> Option<u64> {
    containers_open_files().or_else(|| getrlimit(Resource::Nofile).current)
}

/// The same in a worker, which is told by its keeper.
pub fn containers_open_files() -> Option<u64> {
    std::env::var(VARIABLE).ok()?.parse().ok()
}

/// How the worker is told.
pub fn variable(soft: u64) -> (&'static str, String) {
    (VARIABLE, soft.to_string())
}
