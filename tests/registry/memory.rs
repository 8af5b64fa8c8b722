//! How much memory a pull takes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use podkeep::image::Digest;

use super::builder::{Layer, architecture};
use super::command::podkeep;
use super::gate::Gate;
use super::server::{End, Server};
use super::site::{Served, Site, is_for, missing};

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

/// What all of podkeep may take, in bytes.
pub const MOST: u64 = 64_000_000;

/// The most memory that a command had, which must succeed. Bytes.
pub fn peak_of(command: &Command) -> u64 {
    let mut measured = Command::new("python3");
    measured.args(["-c", MEASURE]).arg(command.get_program()).args(command.get_args());
    let output = measured.output().expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// Runs a command and prints the most memory that it had, in KiB.
const MEASURE: &str = "import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
status, usage = os.wait4(child.pid, 0)[1:]
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))";

/// Three layers come at once. Two stop half way until all others have come, among them one with as large a window as any may have: no layer waits for
/// what a slow one has, and together they take less than the 64 MB that all of podkeep may. (The windows of the slow ones have 4 MiB, half of what such
/// may have: the program that is tested is by more than that larger than the one that people get.)
#[test]
fn a_layer_with_a_large_window_waits_for_no_slow_one_and_memory_is_bounded() {
    let layers = [21, 21, 25, 25].iter().enumerate().map(|(number, window)| {
        let layer = Layer::new().file(&format!("zeros-{number}"), &"\0".repeat(40 << 20)).finish();
        (zstd(&layer, *window), Digest::of(&layer))
    });
    let mut served = Served::default();
    let digest = served.add_image_of(layers.collect(), architecture());
    let (slow, last) = (served.layers[..2].to_vec(), served.layers[3].clone());
    let gate = Gate::of(3);
    let server = Server::start(move |request| {
        let answer = served.answer(request);
        let is_slow = slow.iter().any(|layer| is_for(request, layer));
        if is_slow && request.from() == 0 {
            let half = answer.body.len() / 2;
            return answer.ending(End::CutAfter(half));
        }
        let is_held = is_slow || is_for(request, &last);
        if is_held && !gate.pass(&request.path) { missing() } else { answer }
    });
    let site = Site::new();
    let mut pull = podkeep(&site);
    pull.arg("--quiet").arg(server.reference(&format!("web@{digest}")));
    let peak = peak_of(&pull);
    assert!(peak < MOST, "{peak} bytes");
    assert!(peak > 36 << 20, "{peak} bytes: no windows were so large");
}
