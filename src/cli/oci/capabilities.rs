//! Capabilities that nobody knows or that cannot be given: told, and no reason to fail (runtime specification, config.md, "Linux
//! Process").

use std::str::FromStr;

use caps::Capability;
use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};
use rustix::thread::CapabilitySet;
use serde_json::Value;

use crate::order;

/// The kernel's sets, as config.json calls them.
const SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];

/// JSON without the capabilities that nobody knows, and their names; `process` is where in it the process is (RFC 6901). `None` if
/// it has none of those.
pub fn only_known(text: &[u8], process: &str) -> Option<(Vec<u8>, Vec<String>)> {
    let mut json: Value = serde_json::from_slice(text).ok()?;
    let sets = json.pointer_mut(process)?.get_mut("capabilities")?;
    let mut unknown = Vec::new();
    for name in SETS {
        let Some(Value::Array(set)) = sets.get_mut(name) else { continue };
        set.retain(|one| {
            let strange = one.as_str().filter(|name| Capability::from_str(name).is_err());
            unknown.extend(strange.map(str::to_owned));
            strange.is_none()
        });
    }
    order::sort(&mut unknown);
    unknown.dedup();
    let text = serde_json::to_vec(&json).ok()?;
    (!unknown.is_empty()).then_some((text, unknown))
}

/// What is to be said of what the process will not have; `unknown` as [`only_known`] tells.
pub fn warnings(unknown: &[String], process: Option<&Process>) -> Vec<String> {
    let mut warnings: Vec<String> =
        unknown.iter().map(|name| format!("{name} is no capability: it is left out")).collect();
    if let Some(sets) = process.and_then(|process| process.capabilities().as_ref()) {
        warnings.extend(beyond(sets));
    }
    warnings
}

/// Asked for, and not ours to give.
fn beyond(sets: &LinuxCapabilities) -> Option<String> {
    let own = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    let missing = |set: &Option<Capabilities>| -> Vec<String> {
        let names = set.iter().flatten().map(|one| format!("CAP_{one}"));
        let given =
            |name: &String| Capability::from_str(name).is_ok_and(|one| own.bits() & one.bitmask() != 0);
        names.filter(|name| !given(name)).collect()
    };
    let mut missing: Vec<String> = [sets.bounding(), sets.effective(), sets.permitted(), sets.ambient()]
        .into_iter()
        .flat_map(missing)
        .collect();
    order::sort(&mut missing);
    missing.dedup();
    (!missing.is_empty())
        .then(|| format!("{} cannot be given: podkeep itself has not got it", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_knows_is_left_out() {
        let text = br#"{"process":{"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_FLY"],"ambient":["CAP_FLY"]}},"x":1}"#;
        let (text, unknown) = only_known(text, "/process").unwrap();
        assert_eq!(unknown, ["CAP_FLY"]);
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["process"]["capabilities"]["bounding"], serde_json::json!(["CAP_KILL"]));
        assert_eq!(json["x"], 1);
        for text in [&text[..], b"{", b"{}", br#"{"process":{"capabilities":7}}"#] {
            assert_eq!(only_known(text, "/process"), None);
        }
    }
}
