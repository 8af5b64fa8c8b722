//! Who the container's process runs as: the image's `USER` or the manifest's numbers, looked up in the
//! image's own `/etc/passwd` and `/etc/group`.

use crate::manifest::pod::Security;
use crate::order;

/// The numbers that the process gets, and the home directory that belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// Begins with `gid`: a process without its own group among the supplementary ones could pass a file
    /// that denies that group (CVE-2022-2995).
    pub additional_gids: Vec<u32>,
    /// From `/etc/passwd`, `/` where the user has no entry.
    pub home: String,
}

/// Why an image's user cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    #[error("the id `{0}` is beyond {max}", max = i32::MAX)]
    IdTooLarge(String),
    #[error("`{0}` is no user or group: neither a number nor a name")]
    Malformed(String),
    #[error("the image's /etc/passwd has no user `{0}`")]
    UnknownUser(String),
    #[error("the image's /etc/group has no group `{0}`")]
    UnknownGroup(String),
    #[error("the entry of `{name}` in the image's {file} has the unusable id `{id}`")]
    BadEntry { name: String, file: &'static str, id: String },
}

/// Why a container with `runAsNonRoot` is not started, in the kubelet's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NonRootError {
    #[error("container's runAsUser breaks non-root policy")]
    RunAsUser,
    #[error("container has runAsNonRoot and image will run as root")]
    ImageIsRoot,
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root: \
         give its number as runAsUser"
    )]
    NotNumeric(String),
}

/// Checks what `runAsNonRoot` asks for, with the image's `USER` (`""` is root).
///
/// A name is refused even if the image's `/etc/passwd` has a number for it: that file is the image's to write, as the
/// kubelet sees it (`security_context_others.go`).
///
/// # Errors
/// When the container would run as root, or that cannot be said.
pub fn verify_non_root(image_user: &str, security: &Security) -> Result<(), NonRootError> {
    if !security.run_as_non_root {
        return Ok(());
    }
    match security.run_as_user {
        Some(0) => return Err(NonRootError::RunAsUser),
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image_user.split(':').next().unwrap_or_default();
    if name.bytes().all(|b| b == b'0') {
        Err(NonRootError::ImageIsRoot)
    } else if name.bytes().all(|b| b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(NonRootError::NotNumeric(name.to_owned()))
    }
}

/// The largest id: Kubernetes allows no larger one, and what is parsed leniently beyond it became root
/// elsewhere (CVE-2024-40635).
const MAX_ID: u32 = i32::MAX as u32;

/// Resolves the image's `USER` (`""`, `uid`, `name`, each perhaps with `:gid` or `:group`), overridden by
/// `runAsUser` and `runAsGroup`.
///
/// As the kubelet and containerd do: `run_as_user` replaces the whole of `user`, its group included;
/// `run_as_group` replaces the group only; a number without an entry in `passwd` has group 0; supplementary
/// groups are those that list the user by name.
///
/// # Errors
/// When an id is not a plain decimal number up to [`i32::MAX`], or a name has no entry.
pub fn resolve(
    user: &str,
    run_as_user: Option<u32>,
    run_as_group: Option<u32>,
    passwd: Option<&[u8]>,
    group: Option<&[u8]>,
) -> Result<ResolvedUser, UserError> {
    let overriding = run_as_user.map(|uid| uid.to_string());
    let (user, image_group) = match &overriding {
        Some(uid) => (uid.as_str(), None),
        None => split(user)?,
    };
    let entry = passwd_entry(user, passwd.unwrap_or_default())?;
    let groups = group.unwrap_or_default();
    let gid = match (run_as_group, image_group) {
        (Some(gid), _) => within_range(gid)?,
        (None, Some(name)) => group_id(name, groups)?,
        (None, None) => entry.gid,
    };
    let mut additional_gids = vec![gid];
    if let Some(name) = &entry.name {
        additional_gids.extend(memberships(name, groups).filter(|member| *member != gid));
    }
    order::sort(&mut additional_gids[1..]);
    additional_gids.dedup();
    Ok(ResolvedUser { uid: entry.uid, gid, additional_gids, home: entry.home })
}

/// `user:group` → its two halves; an empty user is root.
fn split(text: &str) -> Result<(&str, Option<&str>), UserError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    for part in [Some(user), group].into_iter().flatten() {
        if part.is_empty() || part.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()) {
            return Err(UserError::Malformed(text.to_owned()));
        }
    }
    Ok((user, group))
}

struct PasswdEntry {
    /// `None` where the number has no entry.
    name: Option<Vec<u8>>,
    uid: u32,
    gid: u32,
    home: String,
}

fn passwd_entry(user: &str, passwd: &[u8]) -> Result<PasswdEntry, UserError> {
    let wanted = number(user)?;
    let entry = lines(passwd).find(|fields| match wanted {
        Some(uid) => fields.get(2).and_then(|field| parse_id(field)) == Some(uid),
        None => fields.first() == Some(&user.as_bytes()),
    });
    let Some(fields) = entry else {
        let uid = wanted.ok_or_else(|| UserError::UnknownUser(user.to_owned()))?;
        return Ok(PasswdEntry { name: None, uid, gid: 0, home: "/".to_owned() });
    };
    let id = |at: usize| {
        let field = fields.get(at).copied().unwrap_or_default();
        parse_id(field).ok_or_else(|| UserError::BadEntry {
            name: user.to_owned(),
            file: "/etc/passwd",
            id: lossy(field),
        })
    };
    Ok(PasswdEntry {
        name: fields.first().map(|name| name.to_vec()),
        uid: id(2)?,
        gid: id(3)?,
        home: home(fields.get(5).copied().unwrap_or_default()),
    })
}

/// A home that is no absolute path would be taken relative to the working directory by many programs.
fn home(field: &[u8]) -> String {
    if field.first() == Some(&b'/') { lossy(field) } else { "/".to_owned() }
}

fn group_id(name: &str, groups: &[u8]) -> Result<u32, UserError> {
    if let Some(gid) = number(name)? {
        return Ok(gid);
    }
    let fields = lines(groups)
        .find(|fields| fields.first() == Some(&name.as_bytes()))
        .ok_or_else(|| UserError::UnknownGroup(name.to_owned()))?;
    let field = fields.get(2).copied().unwrap_or_default();
    parse_id(field).ok_or_else(|| UserError::BadEntry {
        name: name.to_owned(),
        file: "/etc/group",
        id: lossy(field),
    })
}

/// The groups that list `name` among their members; entries with an unusable id are skipped, as libc does.
fn memberships<'a>(name: &'a [u8], groups: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
    lines(groups).filter_map(move |fields| {
        let member = fields.get(3)?.split(|&b| b == b',').any(|member| member == name);
        if member { parse_id(fields.get(2)?) } else { None }
    })
}

/// `Some` if the text is a number, `None` if it is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    parse_id(text.as_bytes()).map(Some).ok_or_else(|| UserError::IdTooLarge(text.to_owned()))
}

/// Digits only: `str::parse` alone would take `+5`.
fn parse_id(field: &[u8]) -> Option<u32> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok().filter(|id| *id <= MAX_ID)
}

fn within_range(id: u32) -> Result<u32, UserError> {
    if id <= MAX_ID { Ok(id) } else { Err(UserError::IdTooLarge(id.to_string())) }
}

/// The colon-separated fields of each line that is not a comment.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|&b| b == b'\n')
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|&b| b == b':').collect())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\nwww:x:33:33::/var/www:/bin/false\n\
        odd:x:4294967296:1::/:/\nshort:x\nbin\xff:x:7:8::nowhere:\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:33:\nlog:x:4:syslog,www\nadm:x:9:www,root\nbad:x:+5:www\n";

    fn by_user(user: &str) -> Result<ResolvedUser, UserError> {
        resolve(user, None, None, Some(PASSWD), Some(GROUP))
    }

    fn ids(user: &ResolvedUser) -> (u32, u32, &[u32]) {
        (user.uid, user.gid, &user.additional_gids)
    }

    #[test]
    fn an_empty_user_is_root() {
        let root = by_user("").unwrap();
        assert_eq!(ids(&root), (0, 0, &[0, 9][..]));
        assert_eq!(root.home, "/root");
    }

    #[test]
    fn names_bring_their_groups_and_home() {
        let www = by_user("www").unwrap();
        assert_eq!(ids(&www), (33, 33, &[33, 4, 9][..]));
        assert_eq!(www.home, "/var/www");
        assert_eq!(ids(&by_user("33").unwrap()), ids(&www));
    }

    #[test]
    fn a_group_after_the_colon_wins() {
        assert_eq!(ids(&by_user("www:adm").unwrap()), (33, 9, &[9, 4][..]));
        assert_eq!(ids(&by_user("5:77").unwrap()), (5, 77, &[77][..]));
    }

    #[test]
    fn a_number_without_an_entry_has_group_0_and_home_at_the_root() {
        let user = by_user("1000").unwrap();
        assert_eq!(ids(&user), (1000, 0, &[0][..]));
        assert_eq!(user.home, "/");
        assert_eq!(ids(&resolve("1000", None, None, None, None).unwrap()), ids(&user));
    }

    #[test]
    fn run_as_user_replaces_user_and_group_of_the_image() {
        let user = resolve("www:adm", Some(1000), None, Some(PASSWD), Some(GROUP)).unwrap();
        assert_eq!(ids(&user), (1000, 0, &[0][..]));
    }

    #[test]
    fn run_as_group_replaces_only_the_group() {
        let user = resolve("www", None, Some(500), Some(PASSWD), Some(GROUP)).unwrap();
        assert_eq!(ids(&user), (33, 500, &[500, 4, 9][..]));
    }

    #[test]
    fn what_is_not_plainly_a_number_or_a_known_name_is_refused() {
        for text in ["+5", "-1", "0x0", "1.0", "nobody", "\u{661}"] {
            assert_eq!(by_user(text), Err(UserError::UnknownUser(text.to_owned())), "{text}");
        }
        for text in [" 5", "5 ", "www:", "a:b:c", "5:\n", "::", "\0"] {
            assert_eq!(by_user(text), Err(UserError::Malformed(text.to_owned())), "{text:?}");
        }
        for text in ["2147483648", "4294967296", "99999999999999999999999"] {
            assert_eq!(by_user(text), Err(UserError::IdTooLarge(text.to_owned())), "{text}");
            let pair = format!("0:{text}");
            assert_eq!(by_user(&pair), Err(UserError::IdTooLarge(text.to_owned())), "{pair}");
        }
        assert_eq!(by_user("0:+5"), Err(UserError::UnknownGroup("+5".to_owned())));
        assert_eq!(by_user("2147483647").unwrap().uid, MAX_ID);
    }

    #[test]
    fn ids_of_the_manifest_are_bounded_too() {
        assert!(resolve("", Some(u32::MAX), None, None, None).is_err());
        assert!(resolve("", None, Some(u32::MAX), None, None).is_err());
    }

    #[test]
    fn who_must_not_be_root_is_not() {
        let verify = |image: &str, run_as_user| {
            verify_non_root(image, &Security { run_as_non_root: true, run_as_user, ..Security::default() })
        };
        assert_eq!(verify("0", Some(5)), Ok(()));
        assert_eq!(verify("5:0", None), Ok(()));
        assert_eq!(verify("5", Some(0)), Err(NonRootError::RunAsUser));
        for root in ["", "0", "00", "0:5", ":5"] {
            assert_eq!(verify(root, None), Err(NonRootError::ImageIsRoot), "{root}");
        }
        for name in ["root", "www", "+5", "-1", " 5"] {
            assert_eq!(verify(name, None), Err(NonRootError::NotNumeric(name.to_owned())), "{name}");
        }
        assert_eq!(verify_non_root("root", &Security::default()), Ok(()));
    }

    #[test]
    fn a_bad_entry_is_named_and_a_bad_home_ignored() {
        let entry = |name: &str, id: &str| {
            Err(UserError::BadEntry { name: name.to_owned(), file: "/etc/passwd", id: id.to_owned() })
        };
        assert_eq!(by_user("odd"), entry("odd", "4294967296"));
        assert_eq!(by_user("short"), entry("short", ""));
        assert_eq!(by_user("7").unwrap().home, "/");
        assert!(matches!(by_user("0:bad"), Err(UserError::BadEntry { file: "/etc/group", .. })));
    }
}
