//! `podkeep load`, `images` and `prune` as a person types them.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::builder::{Layer, World, archive_of, gzip, zstd};
use super::sources::docker_archive;
use super::terminal::on_terminal;

/// `podkeep COMMAND`, with this world's folders.
fn podkeep(world: &World, command: &str) -> Command {
    let mut podkeep = Command::new(env!("CARGO_BIN_EXE_podkeep"));
    podkeep.arg("--root-dir").arg(world.path("root")).arg("--run-dir").arg(world.path("run")).arg(command);
    podkeep
}

fn run(command: &mut Command) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [out, error] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(status.success(), "{command:?}: {error}");
    (out, error)
}

fn layer(content: &str) -> Vec<u8> {
    Layer::new().file("content", content).finish()
}

/// A layout of one image, whose layers are compressed.
fn layout(world: &World, name: &str, contents: &[&str]) -> PathBuf {
    let mut layout = world.layout(name);
    let layers: Vec<_> = contents.iter().map(|content| layer(content)).collect();
    let layers: Vec<_> = layers.into_iter().map(|layer| (gzip(&layer), layer)).collect();
    let manifest = layout.image(&layers, json!({"Cmd": ["sh"]}));
    layout.name(&format!("{name}:1"), manifest);
    layout.write()
}

/// An archive that is read as standard input.
fn stdin(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn archives_of_both_kinds_are_loaded_from_standard_input_however_compressed() {
    let source = World::new();
    let oci = archive_of(&layout(&source, "oci", &["oci"]));
    let docker = docker_archive(json!({"Cmd": ["sh"]}), &layer("docker"), json!(["docker:1"]));
    for (kind, archive) in [("oci", oci), ("docker", docker)] {
        for bytes in [archive.clone(), gzip(&archive), zstd(&archive)] {
            let world = World::new();
            let (out, _) = run(podkeep(&world, "load").arg("-").stdin(stdin(&bytes)));
            assert!(out.starts_with(&format!("{kind}:1 sha256:")) && out.lines().count() == 1, "{out}");
            let (images, _) = run(podkeep(&world, "images").args(["-o", "json"]));
            let images: Value = serde_json::from_str(&images).unwrap();
            assert_eq!(images["images"][0]["repoTags"], json!([format!("{kind}:1")]));
        }
    }
}

#[test]
fn a_load_says_what_it_unpacks_in_lines_in_bars_or_not_at_all() {
    let world = World::new();
    let source = layout(&world, "web", &["one", "two"]);
    let (out, error) = run(podkeep(&world, "load").arg(&source));
    let lines: Vec<&str> = error.lines().collect();
    let name = source.display();
    assert!(out.starts_with("web:1 sha256:") && out.lines().count() == 1, "{out}");
    assert!(lines.len() == 3 && lines[0].starts_with(&format!("{name}: 2 layers to unpack, ")), "{error}");
    assert!(lines[1..].iter().all(|line| line.starts_with(&format!("{name}: layer "))), "{error}");
    assert!(lines[1..].iter().all(|line| line.ends_with(": done")), "{error}");

    let again = World::new();
    let mut quiet = podkeep(&again, "load");
    let (out, error) = run(quiet.arg("--quiet").arg(&source));
    assert_eq!((out.lines().count(), error.as_str()), (1, ""));

    let again = World::new();
    let mut command = podkeep(&again, "load");
    command.arg(&source);
    let (out, shown) = on_terminal(command);
    assert!(out.starts_with("web:1 sha256:"), "{out}");
    assert!(shown.contains("0 of 2 layers, 0B of ") && shown.contains("2 of 2 layers, "), "{shown:?}");
    assert!(shown.contains("\x1b["), "bars are drawn over each other: {shown:?}");
}

/// Layers of a docker-archive are known by what they unpack to.
#[test]
fn a_load_of_a_docker_archive_says_what_it_unpacks() {
    let world = World::new();
    let content = layer("docker");
    let docker = docker_archive(json!({"Cmd": ["sh"]}), &content, json!(["docker:1"]));
    let (_, error) = run(podkeep(&world, "load").arg("-").stdin(stdin(&docker)));
    let expected = format!("-: 1 layer to unpack, {:.1}kB\n", content.len() as f64 / 1000.0);
    assert!(error.starts_with(&expected) && error.ends_with(": done\n"), "{error}");
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn images_as_json_say_what_they_share() {
    let world = World::new();
    for (name, contents) in [("a", ["base", "one"]), ("b", ["base", "three"])] {
        run(podkeep(&world, "load").arg(layout(&world, name, &contents)));
    }
    let (out, _) = run(podkeep(&world, "images").args(["--output", "json"]));
    let list: Value = serde_json::from_str(&out).unwrap();
    let mut images = list["images"].as_array().unwrap().clone();
    images.sort_by_key(|image| image["repoTags"][0].as_str().unwrap().to_owned());
    let shown: Vec<_> = images
        .iter()
        .map(|image| {
            json!([image["repoTags"], image["size"], image["sharedSize"], image["layers"], image["usedBy"]])
        })
        .collect();
    assert_eq!(shown, [json!([["a:1"], 7, 4, 2, []]), json!([["b:1"], 9, 4, 2, []])]);
    let (table, _) = run(&mut podkeep(&world, "images"));
    let words = |line: usize| table.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["IMAGE", "ID", "SIZE", "SHARED", "CREATED", "USED", "BY"]);
    assert_eq!((words(1)[0], words(1)[2], words(1)[3]), ("a:1", "7B", "4B"));
}

#[test]
fn a_dry_run_of_prune_says_what_prune_then_removes() {
    let world = World::new();
    for name in ["one", "two"] {
        run(podkeep(&world, "load").arg(layout(&world, name, &[name])));
    }
    let layers = || fs::read_dir(world.path("root/images/layers")).unwrap().count();
    let (would, _) = run(podkeep(&world, "prune").arg("--dry-run"));
    let lines: Vec<&str> = would.lines().collect();
    // Neither was ever used.
    for name in ["one:1", "two:1"] {
        let begin = format!("would remove {name} (");
        assert!(lines[..2].iter().any(|line| line.starts_with(&begin)), "{would}");
    }
    assert!(lines.len() == 3 && lines[2].starts_with("would free "), "{would}");
    assert_eq!(layers(), 2, "nothing is gone");
    let (done, _) = run(&mut podkeep(&world, "prune"));
    assert_eq!(done, would.replace("would remove", "removed").replace("would free", "freed"));
    assert_eq!(layers(), 0);
    assert_eq!(run(podkeep(&world, "prune").arg("--dry-run")).0, "would free 0B\n");
}
