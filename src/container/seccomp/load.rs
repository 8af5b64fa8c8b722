//! A profile in a file: the `LinuxSeccomp` of the OCI runtime specification, as JSON.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::Value;

use super::error::SeccompError;

/// What Docker's own format has on top: conditions that its daemon, not the runtime, resolves. A runtime that ignored
/// them would apply a rule where it must not.
const OF_THE_PROFILE: [&str; 1] = ["archMap"];
const OF_A_RULE: [&str; 2] = ["includes", "excludes"];

/// Reads the profile of a `Localhost` file. It is checked in full by [`super::program`].
///
/// # Errors
/// When it is no profile, or one in Docker's format that depends on the container.
pub fn load(text: &[u8]) -> Result<LinuxSeccomp, SeccompError> {
    let profile: Value = serde_json::from_slice(text)?;
    refuse_any(&profile, &OF_THE_PROFILE)?;
    let rules = profile.get("syscalls").and_then(Value::as_array);
    rules.into_iter().flatten().try_for_each(|rule| refuse_any(rule, &OF_A_RULE))?;
    Ok(serde_json::from_value(profile)?)
}

/// An empty one says nothing, so it does no harm.
fn refuse_any(value: &Value, keys: &[&'static str]) -> Result<(), SeccompError> {
    let says = |key: &&&str| match value.get(**key) {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(_) => true,
    };
    keys.iter().find(says).map_or(Ok(()), |key| Err(SeccompError::Unresolved(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_the_specification_is_read() {
        let text = br#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "archMap": null,
            "syscalls": [{
                "names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {},
                "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]
            }]
        }"#;
        let profile = load(text).unwrap();
        assert_eq!(profile.default_errno_ret(), Some(38));
        let rules = profile.syscalls().as_ref().unwrap();
        assert_eq!(rules[0].args().as_ref().unwrap()[0].value_two(), Some(3));
    }

    #[test]
    fn what_docker_would_resolve_is_refused_by_name() {
        for (text, name) in [
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
                "archMap",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_BPF"]}}]}"#,
                "includes",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "excludes": {"minKernel": "5.8"}}]}"#,
                "excludes",
            ),
        ] {
            let error = load(text.as_bytes()).unwrap_err();
            assert!(matches!(error, SeccompError::Unresolved(found) if found == name), "{error}");
        }
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for (text, word) in [
            ("", "EOF"),
            ("[]", "invalid"),
            (r#"{"syscalls": []}"#, "defaultAction"),
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"]}"#, "FLAG_X"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}"#, "SCMP_ARCH_VAX"),
        ] {
            let error = load(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
