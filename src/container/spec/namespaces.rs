//! Which namespaces a container does not share with the host, and what its ids mean there.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType};

use super::Error;
use crate::container::recipe::{IdRange, Recipe};

/// No path stands with those that belong to the Pod: they are handed to [`plan()`](crate::container::plan()) as
/// descriptors, and a container that is run without podkeep gets new ones.
pub(super) fn namespaces(recipe: &Recipe<'_>) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let pod = recipe.pod;
    let shared_with_host = |kind| match kind {
        User => pod.host_users,
        Network => pod.host_network,
        Pid => pod.host_pid,
        Ipc => pod.host_ipc,
        Uts => pod.hostname.is_none(),
        _ => false,
    };
    [User, Mount, Pid, Cgroup, Ipc, Uts, Network]
        .into_iter()
        .filter(|kind| !shared_with_host(*kind))
        .map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

/// The ids of the Pod's own user namespace; `None` where it has the host's.
///
/// # Errors
/// When it should have some and has none: it must never be in the host's instead.
pub(super) fn own_ids(recipe: &Recipe<'_>) -> Result<Option<IdRange>, Error> {
    match (recipe.pod.host_users, recipe.ids) {
        (true, _) => Ok(None),
        (false, Some(ids)) => Ok(Some(ids)),
        (false, None) => Err(Error::NoIds),
    }
}

pub(super) fn mapping(ids: IdRange) -> Result<LinuxIdMapping, Error> {
    let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(ids.first).size(ids.size);
    mapping.build().map_err(Error::Spec)
}
