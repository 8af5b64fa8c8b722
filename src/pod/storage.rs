//! What a Pod may write to the node's disk, and whether it has written more: the kubelet's rules
//! (`K/eviction/eviction_manager.go:localStorageEviction`), which it does not apply to static Pods.

use crate::manifest::Pod;
use crate::manifest::pod::{Container, Medium, Volume, VolumeKind, at_once};
use crate::manifest::quantity::shortest;

/// What was measured of a Pod, in bytes; 0 where nothing had to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The writable layer and the logs of each container, in the Pod's order.
    pub containers: Vec<u64>,
    /// In the Pod's order.
    pub volumes: Vec<u64>,
}

/// How many bytes more may be written before a limit is exceeded.
///
/// # Errors
/// A limit is, in the kubelet's words. The narrowest comes first: a volume's, a container's, that of all containers together.
pub fn room(pod: &Pod, usage: &Usage) -> Result<u64, String> {
    let mut room = u64::MAX;
    let mut within = |used: u64, limit: u64| {
        let left = limit.checked_sub(used);
        room = room.min(left.unwrap_or(0));
        left.is_some()
    };
    for (volume, used) in pod.volumes.iter().zip(&usage.volumes) {
        let Some(limit) = limit_of_volume(volume).filter(|limit| !within(*used, *limit)) else { continue };
        let (name, limit) = (&volume.name, shortest(limit));
        return Err(format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}."));
    }
    for (container, used) in pod.containers.iter().zip(&usage.containers) {
        let Some(limit) = limit_of(container).filter(|limit| !within(*used, *limit)) else { continue };
        let (name, limit) = (&container.name, shortest(limit));
        return Err(format!("Container {name} exceeded its local ephemeral storage limit {limit:?}."));
    }
    if limits_containers(pod) {
        let limit = at_once(&pod.containers, |container| limit_of(container).unwrap_or(0));
        let used =
            usage.containers.iter().chain(&usage.volumes).fold(0, |sum: u64, used| sum.saturating_add(*used));
        if !within(used, limit) {
            let limit = shortest(limit);
            return Err(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {limit}."
            ));
        }
    }
    Ok(room)
}

/// Whether anything of the Pod has to be measured.
pub fn is_limited(pod: &Pod) -> bool {
    limits_containers(pod) || pod.volumes.iter().any(|volume| limit_of_volume(volume).is_some())
}

/// Whether its containers have to be, one of which has a limit; then that of all of them holds for the Pod.
pub fn limits_containers(pod: &Pod) -> bool {
    pod.containers.iter().any(|container| limit_of(container).is_some())
}

/// Whether this volume of the Pod has to be.
pub fn is_counted(pod: &Pod, volume: &Volume) -> bool {
    match volume.kind {
        VolumeKind::EmptyDir { medium: Medium::Disk, size_limit } => {
            size_limit.is_some() || limits_containers(pod)
        }
        _ => false,
    }
}

/// Zero is none.
fn limit_of(container: &Container) -> Option<u64> {
    container.resources.limits.ephemeral_storage.filter(|limit| *limit > 0)
}

/// That of a volume in memory is the size of its file system.
fn limit_of_volume(volume: &Volume) -> Option<u64> {
    match volume.kind {
        VolumeKind::EmptyDir { medium: Medium::Disk, size_limit } => size_limit,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `volumes` and, of two containers, the limits.
    fn pod(volumes: &str, limits: [&str; 2]) -> Pod {
        let container = |name: &str, limit: &str| {
            format!("{{name: {name}, image: i:1, resources: {{limits: {{{limit}}}}}}}")
        };
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{volumes: [{volumes}], containers: [{}, {}]}}}}",
            container("web", limits[0]),
            container("side", limits[1]),
        );
        let pods =
            crate::manifest::decode(Path::new("a.yaml"), text.as_bytes(), "n").map(|manifest| manifest.pods);
        pods.unwrap_or_else(|errors| panic!("{errors:?}")).swap_remove(0)
    }

    fn usage(containers: [u64; 2], volumes: &[u64]) -> Usage {
        Usage { containers: containers.to_vec(), volumes: volumes.to_vec() }
    }

    #[test]
    fn a_volume_may_be_as_large_as_its_limit_and_no_larger() {
        let limited = "{name: x, emptyDir: {sizeLimit: 1Ki}}, {name: other, emptyDir: {}}";
        let pod = pod(limited, ["", ""]);
        assert_eq!(room(&pod, &usage([0, 0], &[1000, 9000])), Ok(24));
        assert_eq!(room(&pod, &usage([9000, 0], &[1024, 9000])), Ok(0));
        let message = "Usage of EmptyDir volume \"x\" exceeds the limit \"1Ki\".";
        assert_eq!(room(&pod, &usage([0, 0], &[1025, 0])), Err(message.to_owned()));
        let counted =
            |pod: &Pod| pod.volumes.iter().map(|volume| is_counted(pod, volume)).collect::<Vec<_>>();
        assert_eq!(counted(&pod), [true, false], "nobody wants to know of the other");
        assert!(is_limited(&pod) && !limits_containers(&pod));
    }

    #[test]
    fn containers_have_a_limit_each_and_all_of_them_together_with_the_volumes() {
        let pod = pod("{name: x, emptyDir: {}}", ["ephemeral-storage: 1Ki", "ephemeral-storage: 500"]);
        assert_eq!(room(&pod, &usage([1000, 100], &[24])), Ok(24));
        assert_eq!(
            room(&pod, &usage([1025, 500], &[0])),
            Err("Container web exceeded its local ephemeral storage limit \"1Ki\".".to_owned())
        );
        assert_eq!(
            room(&pod, &usage([1024, 400], &[101])),
            Err("Pod ephemeral local storage usage exceeds the total limit of containers 1524.".to_owned())
        );
        assert!(pod.volumes.iter().all(|volume| is_counted(&pod, volume)));
    }

    #[test]
    fn who_has_no_limit_counts_towards_that_of_the_others_as_with_the_kubelet() {
        let pod = pod("", ["ephemeral-storage: 1k", ""]);
        let error = room(&pod, &usage([0, 1001], &[])).unwrap_err();
        assert!(error.ends_with("the total limit of containers 1k."), "{error}");
    }

    #[test]
    fn without_a_limit_or_with_one_of_zero_nothing_is_measured() {
        let memory = "{name: x, emptyDir: {medium: Memory, sizeLimit: 1Ki}}";
        for (volumes, limit) in [
            ("", ""),
            ("", "ephemeral-storage: 0"),
            (memory, "cpu: 1"),
            ("{name: x, emptyDir: {sizeLimit: 0}}", ""),
        ] {
            let pod = pod(volumes, [limit, ""]);
            assert!(!is_limited(&pod), "{volumes} {limit}");
            assert_eq!(room(&pod, &usage([9000, 9000], &[9000])), Ok(u64::MAX));
        }
    }
}
