//! How much memory a pull takes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use podkeep::image::Digest;

use super::builder::{Layer, architecture};
use super::command::podkeep;
use super::server::Server;
use super::site::{Served, Site};

/// As the `zstd` program makes it, with a window of so many bits.
fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut child = Command::new("zstd")
        .args(["-1", "--quiet", "--stdout", &format!("--long={window_log}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("zstd is there (scripts/install images)");
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    })
}

/// Runs a command and prints the most memory that it had, in KiB.
const MEASURE: &str = "import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
status, usage = os.wait4(child.pid, 0)[1:]
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))";

/// Three layers come at once, and each asks for as large a window as any may: together they would have more than the 64 MB that all of podkeep may take.
#[test]
fn layers_with_large_windows_take_no_more_memory_at_once_than_one() {
    let layers = (0..4).map(|number| {
        let layer = Layer::new().file(&format!("zeros-{number}"), &"\0".repeat(40 << 20)).finish();
        (zstd(&layer, 25), Digest::of(&layer))
    });
    let mut served = Served::default();
    let digest = served.add_image_of(layers.collect(), architecture());
    let server = Server::start(move |request| served.answer(request));
    let site = Site::new();
    let pull = podkeep(&site);
    let mut measured = Command::new("python3");
    measured.args(["-c", MEASURE]).arg(pull.get_program()).args(pull.get_args());
    measured.arg("--quiet").arg(server.reference(&format!("web@{digest}")));
    let output = measured.output().expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let peak: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(peak * 1024 < 64_000_000, "{peak} KiB");
    assert!(peak > 32 << 10, "{peak} KiB: no window was so large");
}
