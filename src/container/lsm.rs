//! Which Linux security modules this host has.

use std::path::Path;

/// The profiles of AppArmor that are loaded, `NAME (MODE)` a line, where securityfs is mounted.
const APPARMOR_PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

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

/// Whether AppArmor has a profile of that name. `None` where nobody can tell before the kernel is asked for it: securityfs is
/// not mounted, or the name is one of another namespace of profiles.
pub fn is_apparmor_profile_loaded(name: &str) -> Option<bool> {
    if name.starts_with(':') {
        return None;
    }
    let list = std::fs::read_to_string(APPARMOR_PROFILES).ok()?;
    Some(lists_profile(&list, name))
}

/// A name may hold blanks and brackets itself.
fn lists_profile(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(listed, _)| listed == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_listed_under_its_whole_name() {
        let list = "/usr/bin/man (enforce)\nmy (own) one (complain)\ntight//child (enforce)\n";
        for name in ["/usr/bin/man", "my (own) one", "tight//child"] {
            assert!(lists_profile(list, name), "{name}");
        }
        for name in ["tight", "my", "man", "", "enforce)"] {
            assert!(!lists_profile(list, name), "{name}");
        }
    }
}
