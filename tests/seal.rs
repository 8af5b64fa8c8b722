//! `podkeep seal` and the `age` tool itself (`scripts/install seal`): each opens what the other one has made.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use podkeep::manifest::{Object, decode};
use podkeep::seal;

/// Runs a program with this standard input.
fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error} (scripts/install seal)"));
    // Who does not read it may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// `podkeep seal` on a machine whose root folder is this one.
fn podkeep(root: &Path, arguments: &[&str], input: &str) -> Output {
    let all = [&["--root-dir", root.to_str().unwrap(), "seal"], arguments].concat();
    run(env!("CARGO_BIN_EXE_podkeep"), &all, input)
}

fn secret(text: &str) -> Object {
    decode(Path::new("s.yaml"), text.as_bytes(), "n").unwrap().objects.remove(0)
}

/// The Secret as a node with this key has it.
fn opened(text: &str, key: &Path) -> Object {
    let mut object = secret(text);
    let keys = seal::read(key).unwrap();
    object.open(&|file| keys.open(file).map_err(|error| error.to_string()));
    object
}

const PLAIN: &str = "apiVersion: v1
kind: Secret
metadata: {name: db, namespace: team}
stringData:
  password: sesame
  script: |
    #!/bin/sh
    exec true
data: {raw: AP8K, empty: ''}
";

#[test]
fn age_opens_what_podkeep_seals() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("seal.key");
    let made = podkeep(dir.path(), &[], PLAIN);
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(said.starts_with(&format!("podkeep: made {}: keep a copy", key.display())), "{said}");
    let sealed = told(&made);
    assert!(
        !sealed.contains("sesame") && sealed.contains("  annotations:\n    podkeep.io/sealed: age\n"),
        "{sealed}"
    );
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o400);
    // What age's own tools read of the key, and of each value with it.
    let recipient = told(&podkeep(dir.path(), &["--public-key"], ""));
    assert_eq!(told(&run("age-keygen", &["-y", key.to_str().unwrap()], "")), recipient);
    let values: serde_json::Value = serde_yaml::from_str(&sealed).unwrap();
    let of_age = |name: &str| {
        let armored = values["stringData"][name].as_str().unwrap();
        let output = run("age", &["-d", "-i", key.to_str().unwrap()], armored);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let object = secret(PLAIN);
    for (name, value) in &object.data {
        assert_eq!(of_age(name), value.bytes(), "{name}");
    }
    assert_eq!(opened(&sealed, &key), object);
    // Once more with what is sealed: there is nothing to do.
    let again = podkeep(dir.path(), &[], &sealed);
    assert_eq!(
        String::from_utf8_lossy(&again.stderr),
        "podkeep: - has no Secret that is not sealed already\n"
    );
}

#[test]
fn podkeep_opens_what_age_encrypts_to_several() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["seal.key", "other.key"] {
        told(&run("age-keygen", &["-o", path(name).to_str().unwrap()], ""));
    }
    let recipient =
        |name: &str| told(&run("age-keygen", &["-y", path(name).to_str().unwrap()], "")).trim().to_owned();
    let (ours, other) = (recipient("seal.key"), recipient("other.key"));
    let plain = "sesame".repeat(20_000);
    for arguments in [&["-a", "-r", &ours] as &[&str], &["-a", "-r", &other, "-r", &ours]] {
        let armored = told(&run("age", arguments, &plain));
        let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {podkeep.io/sealed: age}}\nstringData:\n";
        let lines: String = armored.lines().map(|line| format!("    {line}\n")).collect();
        let object = opened(&format!("{head}  a: |\n{lines}"), &path("seal.key"));
        assert_eq!(object.closed("a"), None);
        assert!(object.data["a"].bytes() == plain.as_bytes());
    }
    let for_other = told(&podkeep(dir.path(), &["-r", &other], PLAIN));
    let object = opened(&for_other, &path("seal.key"));
    assert!(object.data.is_empty());
    let expected =
        format!("the key password of Secret team/db cannot be decrypted: it is for others than {ours}");
    assert_eq!(object.closed("password").unwrap(), expected);
    assert_eq!(opened(&for_other, &path("other.key")), secret(PLAIN));
    let for_both = told(&podkeep(dir.path(), &["-r", &other, "--recipient", &ours], PLAIN));
    assert_eq!(opened(&for_both, &path("seal.key")), secret(PLAIN));
}

#[test]
fn what_cannot_be_sealed_is_said_without_a_value() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], input: &str| {
        let output = podkeep(dir.path(), arguments, input);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("sesame"), "{said}");
        said
    };
    let recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    let misspelt = recipient.replace("zvk", "zwk");
    assert!(
        refused(&["-r", recipient, "-r", &misspelt], PLAIN)
            .starts_with(&format!("podkeep: {misspelt:?} is no recipient"))
    );
    let private = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let said = refused(&["-r", private], PLAIN);
    assert!(said.contains("that is a private key") && !said.contains(private), "{said}");
    let said = refused(&["-r", recipient], &PLAIN.replace("data: {raw: AP8K", "data: {raw: sesame!"));
    assert_eq!(said, "-:9:13: error: data.raw: not base64 (text as it is belongs into stringData)\n");
    let docker = "apiVersion: v1\nkind: Secret\nmetadata: {name: r}\ntype: kubernetes.io/dockerconfigjson\n\
        stringData: {.dockerconfigjson: sesame}\n";
    let said = refused(&["-r", recipient], docker);
    assert!(said.contains("is not a docker config.json"), "{said}");
    assert!(!dir.path().join("seal.key").exists(), "no key was needed");
    let key = dir.path().join("seal.key");
    fs::write(&key, "sesame\n").unwrap();
    assert!(refused(&[], PLAIN).contains("seal.key:1: neither a comment nor a key"));
    fs::write(&key, private).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let warned = podkeep(dir.path(), &["--public-key"], "");
    assert_eq!(told(&warned), format!("{recipient}\n"));
    assert!(String::from_utf8_lossy(&warned.stderr).contains("others than its owner may read it (mode 644)"));
}

#[test]
fn lint_says_what_is_wrong_with_a_sealed_secret_and_needs_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    let sealed = told(&podkeep(dir.path(), &["-r", recipient], PLAIN));
    let file = dir.path().join("s.yaml");
    let lint = |text: &str| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        run(env!("CARGO_BIN_EXE_podkeep"), &["lint", file.to_str().unwrap()], "")
    };
    // Not even that everybody may read it.
    assert_eq!(told(&lint(&sealed)), "");
    let output = lint(&sealed.replacen("-----BEGIN AGE", "-----BEGIN", 1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with(&format!("{}:9:", file.display()))
            && said.contains("stringData.empty: not an age file"),
        "{said}"
    );
}
