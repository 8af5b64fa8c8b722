//! Which Linux security modules this host has.

use std::path::Path;

/// A label or profile is only asked for where something heeds it: elsewhere the kernel refuses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lsm {
    pub apparmor: bool,
    pub selinux: bool,
}

impl Lsm {
    /// Looks, each time: a SELinux policy can be loaded at any moment.
    pub fn of_this_host() -> Lsm {
        // The module's own word: /sys/kernel/security need not be mounted.
        let apparmor = std::fs::read("/sys/module/apparmor/parameters/enabled");
        Lsm {
            apparmor: apparmor.is_ok_and(|text| text.first() == Some(&b'Y')),
            // There once a policy is loaded and selinuxfs mounted.
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }
}
