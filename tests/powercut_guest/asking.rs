//! Questions that the running node has to answer. On a busy machine the emulated one is so slow that podkeep gives up waiting
//! for it: whoever hears that, and nothing else, asks again, as long as anything is waited for.

use std::process::Output;

use crate::harness::{List, Node, Site, wait_until};

/// How podkeep ends, and all that it says, where only time was lacking.
const LATE: &str = "ask the node: no answer within 10 s";

/// What `podkeep ARGS` prints; panics unless it succeeds.
pub fn ask(site: &Site, args: &[&str]) -> String {
    let output = try_ask(site, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "podkeep {args:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

pub fn try_ask(site: &Site, args: &[&str]) -> Output {
    wait_until(&format!("the node answers `podkeep {}`", args.join(" ")), || {
        let output = site.try_ask(args);
        (!is_late(&output)).then_some(output)
    })
}

pub fn list(node: &Node) -> List {
    node.wait_for("an answer", |list| Some(list.clone()))
}

fn is_late(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    !output.status.success() && said.lines().count() == 1 && said.trim_end().ends_with(LATE)
}
