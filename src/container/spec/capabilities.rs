//! Which capabilities a container has.

use std::collections::BTreeSet;
use std::str::FromStr;

use caps::Capability;
use oci_spec::runtime::{Capabilities, Capability as OciCapability, LinuxCapabilities};

use super::Error;
use crate::manifest::pod::Security;
use crate::order;

/// What a container has if nothing is said, as with containerd.
const DEFAULT: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// Bounding, effective and permitted alike; inheritable and ambient stay empty (CVE-2022-29162).
pub(super) fn capabilities(security: &Security) -> Result<LinuxCapabilities, Error> {
    let set = chosen(security)?;
    let set: Capabilities = set.into_iter().map(in_oci_words).collect::<Result<_, _>>()?;
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    Ok(capabilities)
}

/// The permitted capabilities of a container as the kernel's bit mask: what its seccomp profile depends on.
///
/// # Errors
/// When a name is no capability.
pub fn permitted(security: &Security) -> Result<u64, Error> {
    Ok(chosen(security)?.into_iter().fold(0, |mask, index| mask | 1u64 << index))
}

/// `ALL` in either list makes the start, `drop` over `add`; then the names are added, then dropped.
fn chosen(security: &Security) -> Result<BTreeSet<u8>, Error> {
    let add = names(&security.capabilities_add)?;
    let drop = names(&security.capabilities_drop)?;
    if security.privileged {
        return Ok(all());
    }
    let mut set = match (add.all, drop.all) {
        (_, true) => BTreeSet::new(),
        (true, false) => all(),
        (false, false) => order::set(DEFAULT.iter().map(Capability::index)),
    };
    set.extend(add.named);
    set.retain(|capability| !drop.named.contains(capability));
    Ok(set)
}

struct Names {
    all: bool,
    named: BTreeSet<u8>,
}

fn names(list: &[String]) -> Result<Names, Error> {
    let named = list.iter().filter(|name| *name != "ALL").map(|name| {
        let capability = Capability::from_str(name).map_err(|_| Error::UnknownCapability(name.clone()))?;
        Ok(capability.index())
    });
    Ok(Names {
        all: list.iter().any(|name| name == "ALL"),
        named: order::set(named.collect::<Result<Vec<_>, _>>()?),
    })
}

fn all() -> BTreeSet<u8> {
    order::set(caps::all().iter().map(Capability::index))
}

/// `caps` and `oci-spec` have a type of their own each: they meet in the kernel's names.
fn in_oci_words(index: u8) -> Result<OciCapability, Error> {
    let unknown = || Error::UnknownCapability(index.to_string());
    let known = caps::all().into_iter().find(|capability| capability.index() == index).ok_or_else(unknown)?;
    let name = known.to_string();
    OciCapability::from_str(name.trim_start_matches("CAP_")).map_err(|_| Error::UnknownCapability(name))
}

/// The kernel's bit mask of a set.
pub fn mask(set: &Capabilities) -> u64 {
    let bit = |capability: &OciCapability| {
        let known = Capability::from_str(&format!("CAP_{capability}")).ok()?;
        Some(1u64 << known.index())
    };
    set.iter().filter_map(bit).fold(0, |mask, bit| mask | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask_of(add: &[&str], drop: &[&str], privileged: bool) -> u64 {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = Security {
            capabilities_add: list(add),
            capabilities_drop: list(drop),
            privileged,
            ..Security::default()
        };
        let bounding = mask(capabilities(&security).unwrap().bounding().as_ref().unwrap());
        assert_eq!(permitted(&security).unwrap(), bounding);
        bounding
    }

    /// What containerd's containers show in `/proc/1/status`.
    const CONTAINERD: u64 = 0xa804_25fb;
    const EVERYTHING: u64 = (1 << 41) - 1;

    #[test]
    fn the_default_is_containerds() {
        assert_eq!(mask_of(&[], &[], false), CONTAINERD);
    }

    #[test]
    fn names_are_added_and_dropped() {
        assert_eq!(mask_of(&["CAP_NET_ADMIN"], &["CAP_CHOWN"], false), (CONTAINERD | 1 << 12) & !1);
        assert_eq!(mask_of(&["CAP_SYS_ADMIN"], &["CAP_SYS_ADMIN"], false), CONTAINERD);
    }

    #[test]
    fn all_stands_for_itself() {
        assert_eq!(mask_of(&["ALL"], &[], false), EVERYTHING);
        assert_eq!(mask_of(&["ALL"], &["CAP_SYS_ADMIN"], false), EVERYTHING & !(1 << 21));
        assert_eq!(mask_of(&[], &["ALL"], false), 0);
        assert_eq!(mask_of(&["CAP_KILL"], &["ALL"], false), 1 << 5);
        assert_eq!(mask_of(&[], &["ALL"], true), EVERYTHING);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let security = Security { capabilities_add: vec!["CAP_FLY".to_owned()], ..Security::default() };
        assert!(matches!(capabilities(&security), Err(Error::UnknownCapability(name)) if name == "CAP_FLY"));
    }

    #[test]
    fn nothing_is_inheritable_or_ambient() {
        let set = capabilities(&Security { privileged: true, ..Security::default() }).unwrap();
        assert_eq!((set.inheritable(), set.ambient()), (&None, &None));
    }
}
