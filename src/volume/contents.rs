//! What the files of a volume are: from its sources, the objects that they name and the Pod itself. Pure.

use super::files::{File, Files, is_folder};
use crate::manifest::object::Hidden;
use crate::manifest::pod::{Allocatable, DownwardFile, FileSource, KeyToPath, ObjectRef, ObjectSource};
use crate::manifest::{Object, Pod};
use std::borrow::Cow;

/// An object; `None` if it is not there.
pub type Objects<'f, 'a> = &'f dyn Fn(&ObjectRef) -> Option<&'a Object>;

/// Of two sources that give the same path, the later one counts, as with the kubelet.
///
/// # Errors
/// A sentence that says what is missing. It holds no value of an object.
pub fn contents<'a>(
    pod: &'a Pod,
    sources: &'a [FileSource],
    default_mode: u32,
    objects: Objects<'_, 'a>,
    node: &dyn Fn() -> Allocatable,
) -> Result<Files<'a>, String> {
    let mut files = Files::new();
    for source in sources {
        match source {
            FileSource::Object(source) => add_object(pod, source, default_mode, objects, &mut files)?,
            FileSource::Downward(list) => add_downward(pod, list, default_mode, node, &mut files),
        }
    }
    // Of what is written in the manifest this is known before: here it may be the key of an object.
    match files.keys().find(|path| is_folder(path, &files)) {
        Some(path) => Err(format!("{path:?} would be a file and a folder")),
        None => Ok(files),
    }
}

fn add_object<'a>(
    pod: &Pod,
    source: &'a ObjectSource,
    default_mode: u32,
    objects: Objects<'_, 'a>,
    files: &mut Files<'a>,
) -> Result<(), String> {
    let ObjectSource { object, items } = source;
    let ObjectRef { kind, name, optional } = object;
    let Some(found) = objects(object) else {
        return match optional {
            true => Ok(()),
            // The kubelet's words.
            false => Err(format!("{} {name:?} not found", kind.as_str().to_lowercase())),
        };
    };
    let file = |value: &'a Hidden, mode: Option<u32>| File {
        mode: mode.unwrap_or(default_mode),
        bytes: Cow::Borrowed(value.bytes()),
    };
    let closed = |key: &str| found.closed(key).map_or(Ok(()), Err);
    if items.is_empty() {
        found.keys().try_for_each(closed)?;
        for (key, value) in &found.data {
            files.insert(key, file(value, None));
        }
    }
    for KeyToPath { key, path, mode } in items {
        closed(key)?;
        match found.data.get(key) {
            Some(value) => drop(files.insert(path, file(value, *mode))),
            None if *optional => {}
            None => {
                let (kind, namespace) = (kind.as_str(), &pod.id.namespace);
                return Err(format!("couldn't find key {key} in {kind} {namespace}/{name}"));
            }
        }
    }
    Ok(())
}

fn add_downward<'a>(
    pod: &Pod,
    list: &'a [DownwardFile],
    default_mode: u32,
    node: &dyn Fn() -> Allocatable,
    files: &mut Files<'a>,
) {
    for DownwardFile { path, mode, value } in list {
        let bytes = Cow::Owned(value.of(pod, node).into_bytes());
        files.insert(path, File { mode: mode.unwrap_or(default_mode), bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::object::Sealed;
    use crate::manifest::pod::{Container, DownwardValue, PodId, Uid};
    use crate::manifest::{ObjectId, ObjectKind};

    fn of(sources: &[FileSource]) -> Result<Vec<(String, u32, String)>, String> {
        let id = PodId { namespace: "team".into(), name: "web-edge".into() };
        let pod = Pod::plain(id, Uid::parse(&"a".repeat(32)).unwrap(), vec![Container::plain("c", "i")]);
        let object = |kind, pairs: &[(&str, &str)]| {
            let hidden = |(key, value): &(&str, &str)| ((*key).into(), Hidden::new(value.as_bytes().into()));
            let id = ObjectId { kind, namespace: "team".into(), name: "o".into() };
            let data = pairs.iter().map(hidden).collect();
            let (type_, binary) = Default::default();
            Object { id, type_, data, binary, sealed: Vec::new(), place: (1, 1) }
        };
        let secret = object(ObjectKind::Secret, &[("a", "1"), ("b", "2")]);
        let map = object(ObjectKind::ConfigMap, &[("b", "3"), ("c", "4")]);
        let mut sealed = object(ObjectKind::Secret, &[("a", "1")]);
        sealed.sealed.push(Sealed {
            key: "x".into(),
            file: Hidden::new(vec![1]),
            why: "it is locked".into(),
        });
        let objects = |object: &ObjectRef| match (object.kind, object.name.as_str()) {
            (ObjectKind::Secret, "s") => Some(&secret),
            (ObjectKind::Secret, "sealed") => Some(&sealed),
            (ObjectKind::ConfigMap, "m") => Some(&map),
            _ => None,
        };
        let files = contents(&pod, sources, 0o644, &objects, &Allocatable::default)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.into()).unwrap();
        Ok(files.iter().map(|(path, file)| ((*path).to_owned(), file.mode, text(&file.bytes))).collect())
    }

    fn source(
        kind: ObjectKind,
        name: &str,
        items: &[(&str, &str, Option<u32>)],
        optional: bool,
    ) -> FileSource {
        let item = |(key, path, mode): &(&str, &str, Option<u32>)| KeyToPath {
            key: (*key).into(),
            path: (*path).into(),
            mode: *mode,
        };
        let object = ObjectRef { kind, name: name.into(), optional };
        FileSource::Object(ObjectSource { object, items: items.iter().map(item).collect() })
    }

    fn file(path: &str, mode: u32, text: &str) -> (String, u32, String) {
        (path.into(), mode, text.into())
    }

    #[test]
    fn sources_are_laid_over_one_another() {
        use ObjectKind::{ConfigMap, Secret};
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(
            of(&[source(Secret, "s", &[], false)]),
            Ok(vec![file("a", 0o644, "1"), file("b", 0o644, "2")])
        );
        let name = DownwardFile { path: "x/name".into(), mode: Some(0o440), value: DownwardValue::Name };
        let all = [
            source(Secret, "s", &[], false),
            source(ConfigMap, "m", &[("b", "b", Some(0o400)), ("c", "x/c", None)], false),
            FileSource::Downward(vec![name]),
        ];
        let expected = [
            file("a", 0o644, "1"),
            file("b", 0o400, "3"),
            file("x/c", 0o644, "4"),
            file("x/name", 0o440, "web-edge"),
        ];
        assert_eq!(of(&all), Ok(expected.into()));
    }

    #[test]
    fn what_is_missing_is_named_unless_it_is_optional() {
        use ObjectKind::{ConfigMap, Secret};
        let why = |kind, name, items: &[_]| of(&[source(kind, name, items, false)]).unwrap_err();
        assert_eq!(why(Secret, "none", &[]), "secret \"none\" not found");
        assert_eq!(why(ConfigMap, "s", &[]), "configmap \"s\" not found");
        assert_eq!(why(Secret, "s", &[("c", "p", None)]), "couldn't find key c in Secret team/s");
        let optional = [
            source(Secret, "none", &[], true),
            source(Secret, "s", &[("c", "p", None), ("a", "q", None)], true),
        ];
        assert_eq!(of(&optional), Ok(vec![file("q", 0o644, "1")]));
    }

    #[test]
    fn what_stays_sealed_is_no_file_even_where_it_may_be_missing() {
        let sealed = |items: &[_]| of(&[source(ObjectKind::Secret, "sealed", items, true)]);
        let closed = Err("the key x of Secret team/o cannot be decrypted: it is locked".to_owned());
        assert_eq!(sealed(&[]), closed);
        assert_eq!(sealed(&[("x", "p", None)]), closed);
        assert_eq!(sealed(&[("a", "p", None)]), Ok(vec![file("p", 0o644, "1")]));
    }

    #[test]
    fn a_key_that_would_have_to_be_a_folder_is_an_error() {
        let both = [
            source(ObjectKind::Secret, "s", &[], false),
            source(ObjectKind::ConfigMap, "m", &[("c", "a/c", None)], false),
        ];
        assert_eq!(of(&both), Err("\"a\" would be a file and a folder".to_owned()));
    }
}
