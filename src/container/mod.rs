//! A container: Pod and image → OCI runtime `Spec` → plan → process.
//!
//! [`spec()`] says what the container is, [`plan()`] how the kernel makes it (a list of steps, every string
//! and number ready), [`spawn()`] clones the process that carries the steps out. Neither of the first two
//! needs a privilege. [`limit_devices`] comes before the process is there.
#![forbid(unsafe_code)]

mod devices;
mod expand;
mod namespaces;
mod plan;
mod recipe;
pub mod seccomp;
mod spawn;
mod spec;
pub mod user;

pub use devices::{DeviceError, limit_devices};
pub use namespaces::{NamespaceError, Namespaces};
pub use plan::{Plan, PlanError, Root, Stdio, default_filter, plan};
pub use recipe::{Bind, ImageConfig, Recipe};
pub use spawn::{Parent, SpawnError, Spawned, StartError, spawn};
pub use spec::{Error, spec};
pub use user::ResolvedUser;

use crate::manifest::Container;

/// The filter of the container's seccomp profile: `RuntimeDefault`, for what it may do with the capabilities it has.
/// A privileged container has none.
pub fn seccomp_filter(
    spec: &oci_spec::runtime::Spec,
    container: &Container,
) -> Option<Vec<libc::sock_filter>> {
    if container.security.privileged {
        return None;
    }
    let capabilities = spec.process().as_ref()?.capabilities().as_ref()?.bounding().as_ref()?;
    let mask = capabilities.iter().filter_map(|name| name.to_string().parse::<caps::Capability>().ok());
    let mask = mask.fold(0, |mask, capability| mask | 1u64 << capability.index());
    Some(seccomp::default_profile(mask).instructions().to_vec())
}
