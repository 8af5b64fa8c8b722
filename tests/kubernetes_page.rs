//! `docs/kubernetes.md` keeps its promise: each test that it names is there.

use std::fs;
use std::path::Path;

/// All Rust files below a folder, one after the other.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// What stands between backticks in the last cell of each row.
fn named(page: &str) -> impl Iterator<Item = &str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let last = rows.filter_map(|row| row.rsplit(" |").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2))
}

#[test]
fn every_test_and_law_that_is_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/kubernetes.md")).unwrap();
    let mut all = String::new();
    let mut laws = String::new();
    sources(&root.join("src"), &mut all);
    sources(&root.join("tests"), &mut all);
    sources(&root.join("tests/simulation"), &mut laws);
    let is_test =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9'));
    let is_there = |name: &&str| match is_test(name) {
        true => all.contains(&format!("fn {name}(")),
        false => laws.contains(*name),
    };
    let (there, missing): (Vec<_>, Vec<_>) = named(&page).partition(is_there);
    assert_eq!(missing, [""; 0]);
    assert!(there.len() > 100, "{}: is the page still read?", there.len());
}
