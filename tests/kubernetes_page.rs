//! `docs/kubernetes.md` keeps its promise: each rule that podkeep keeps, or replaces by its own, has a test, and each test that
//! is named is there.

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

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kubernetes.md")).unwrap()
}

/// The cells of each rule: what the kubelet does, what podkeep makes of it, and tests.
fn rules(page: &str) -> impl Iterator<Item = [&str; 3]> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    // Of each table, header and line.
    let rows = rows.filter(|row| !row.starts_with("---") && !row.ends_with("| test "));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" |").map(str::trim).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("not three cells: {cells:?}"))
    })
}

/// What stands between backticks.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_and_law_that_is_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = page();
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
    let named = rules(&page).flat_map(|[_, _, tests]| named(tests));
    let (there, missing): (Vec<_>, Vec<_>) = named.partition(is_there);
    assert_eq!(missing, [""; 0]);
    assert!(there.len() > 100, "{}: is the page still read?", there.len());
}

#[test]
fn every_rule_that_applies_has_a_test() {
    let page = page();
    let verdicts = ["same", "differs", "not applicable"];
    for [rule, verdict, tests] in rules(&page) {
        assert!(verdicts.iter().any(|word| verdict.starts_with(word)), "{rule}: {verdict}");
        let applies = !verdict.starts_with("not applicable");
        assert!(!applies || named(tests).next().is_some(), "no test of: {rule}");
    }
}
