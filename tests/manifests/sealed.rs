//! Sealed Secrets: what is read from them, what is refused, and what `podkeep seal` makes of a manifest.

use podkeep::manifest::{Object, sealed};
use podkeep::seal;

use super::{SIMPLE, errors, only_object, read};

/// Made by age itself of `geheim-age`.
const BY_AGE: &str = include_str!("../fixtures/age/secret.yaml");
/// The key that opens it, and what that is as a recipient.
const KEY: &str = include_str!("../fixtures/age/secret.key");
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

const HEAD: &str =
    "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  annotations: {podkeep.io/sealed: age}\n";

/// The value as it stands in the manifest.
fn block() -> &'static str {
    BY_AGE.split_once("  a: ").unwrap().1
}

fn keys(object: &Object) -> (Vec<&str>, Vec<&str>) {
    let sealed = object.sealed.iter().map(|sealed| sealed.key.as_str());
    (object.data.keys().map(String::as_str).collect(), sealed.collect())
}

#[test]
fn a_sealed_value_is_no_value_before_it_is_opened() {
    let mut object = only_object(BY_AGE);
    assert_eq!(keys(&object), (vec![], vec!["a"]));
    object.open(&|_| Err("it is locked".to_owned()));
    assert_eq!(keys(&object), (vec![], vec!["a"]));
    assert_eq!(
        object.closed("a").unwrap(),
        "the key a of Secret default/by-age cannot be decrypted: it is locked"
    );
    assert_eq!(object.variables().collect::<Vec<_>>(), ["a"], "it is no key that is missing");
    object.open(&|_| Ok(b"geheim".to_vec()));
    assert_eq!(keys(&object), (vec!["a"], vec![]));
    assert_eq!((object.data["a"].bytes(), object.closed("a")), (b"geheim" as &[u8], None));
}

#[test]
fn what_is_not_sealed_well_is_named_at_its_place_without_the_value() {
    let armored = block();
    let damaged = armored.replacen("|\n    -----BEGIN AGE", "|\n    -----BEGIN", 1);
    let cut = armored.trim_end().trim_end_matches("-----END AGE ENCRYPTED FILE-----");
    let passphrase = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBBQUFBQUFBQUFBQUFBQUFBQUFBQUFBIDE4CgotLS0gQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQo=";
    let not_age = "not an age file: `podkeep seal`, or `age -r RECIPIENT -a`, makes one of a value";
    for (lines, expected) in [
        ("stringData:\n  a: geheim\n", format!("7:6: error: stringData.a: {not_age}")),
        ("data:\n  a: Z2VoZWlt\n", format!("7:6: error: data.a: {not_age}")),
        ("stringData: {a: null}\n", format!("6:17: error: stringData.a: {not_age}")),
        (
            &format!("stringData:\n  b: {cut}\n"),
            "7:6: error: stringData.b: an age file in ASCII armor that is damaged".to_owned(),
        ),
        (&format!("stringData:\n  b: {damaged}"), format!("7:6: error: stringData.b: {not_age}")),
        (
            &format!("data:\n  b: {passphrase}\n"),
            "7:6: error: data.b: an age file for a passphrase, and nobody is there to be asked for it: make it for a \
             recipient (age1…)"
                .to_owned(),
        ),
        (
            &format!("data:\n  a: {armored}"),
            "7:6: error: data.a: not base64 (text as it is belongs into stringData)".to_owned(),
        ),
    ] {
        assert_eq!(errors(&format!("{HEAD}{lines}")), [format!("pod.yaml:{expected}")]);
    }
}

#[test]
fn the_annotation_is_a_secrets_and_says_age() {
    for (from, to, expected) in [
        (
            ": age",
            ": 'true'",
            "5:36: error: metadata.annotations[podkeep.io/sealed]: Invalid value: \"true\": the only value is \"age\", which \
             says that each of the values is an age file",
        ),
        (
            "sealed: age",
            "saeled: age, a: b",
            "5:36: error: metadata.annotations[podkeep.io/saeled]: no annotation of podkeep is called so; did you mean \
             podkeep.io/sealed?",
        ),
        (
            "kind: Secret",
            "kind: ConfigMap",
            "5:36: error: metadata.annotations[podkeep.io/sealed]: no annotation of podkeep is called so: there are none \
             for this kind",
        ),
    ] {
        let text = HEAD.replace(from, to);
        assert_eq!(errors(&text), [format!("pod.yaml:{expected}")]);
    }
}

fn reversed(plain: &[u8]) -> Result<String, ()> {
    Ok(format!("sealed {}\n", plain.iter().rev().map(|byte| char::from(*byte)).collect::<String>()))
}

#[test]
fn all_values_of_all_secrets_are_sealed_and_nothing_else_is_changed() {
    let text = format!(
        "# geheim\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  labels: {{l: '1'}}\n  uid: abc\n  annotations:\n    \
         kubectl.kubernetes.io/last-applied-configuration: '{{\"data\": {{\"a\": \"Z2VoZWlt\"}}}}'\n    mine: kept\n\
         type: Opaque\ndata: {{a: Z2VoZWlt, b: b2xk, z: null}}\nstringData: {{b: new}}\n---\n{BY_AGE}---\n{SIMPLE}---\n\
         {{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: Secret, metadata: {{name: t}}, data: {{x: Z2VoZWlt}}}}]}}\n"
    );
    assert_eq!(read(&text).map(|manifest| manifest.objects.len()), Ok(3));
    let (documents, count) = sealed(text.as_bytes(), &reversed).unwrap();
    assert_eq!(count, 2);
    let expected = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "s", "labels": {"l": "1"}, "annotations": {"mine": "kept", "podkeep.io/sealed": "age"}},
        "stringData": {"a": "sealed mieheg\n", "b": "sealed wen\n", "z": "sealed \n"},
    });
    assert_eq!(documents[0], expected);
    assert_eq!(only_object(&documents[1].to_string()), only_object(BY_AGE), "it was sealed before");
    assert_eq!(documents[3]["items"][0]["stringData"]["x"], "sealed mieheg\n");
    let all = documents.iter().map(|document| document.to_string()).collect::<String>();
    assert!(!all.contains("geheim") && !all.contains("Z2VoZWlt"), "{all}");
    let pod = serde_json::to_vec(&documents[2]).unwrap();
    let uid =
        |text: &[u8]| podkeep::manifest::decode("a".as_ref(), text, "n").unwrap().pods[0].uid.to_string();
    assert_eq!(uid(&pod), uid(SIMPLE.as_bytes()), "the same Pod");
}

#[test]
fn what_is_sealed_is_read_as_sealed() {
    let plain = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\nstringData: {tls.crt: a, tls.key: b}\n";
    let recipient = [seal::Recipient::parse(RECIPIENT).unwrap()];
    let encrypt = |plain: &[u8]| seal::encrypt(plain, &recipient).map(|file| seal::armored(&file));
    let (documents, _) = sealed(plain.as_bytes(), &encrypt).unwrap();
    let mut object = only_object(&documents[0].to_string());
    assert_eq!(keys(&object).1, ["tls.crt", "tls.key"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    std::fs::write(&path, KEY).unwrap();
    let opened = seal::read(&path).unwrap();
    object.open(&|file| opened.open(file).map_err(|error| error.to_string()));
    assert_eq!(object, only_object(plain));
}
