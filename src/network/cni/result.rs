//! What a plugin answers to ADD: a Result of the specification.

use std::net::IpAddr;

use serde_json::Value;

use super::INTERFACE;
use super::list::Version;

/// A plugin's answer, with its version: some leave it out.
///
/// # Errors
/// When it is no result, in words.
pub(super) fn parse(answer: &[u8], version: Version) -> Result<Value, String> {
    let mut result: Value =
        serde_json::from_slice(answer).map_err(|error| format!("its answer is no JSON: {error}"))?;
    let Some(fields) = result.as_object_mut() else { return Err("its answer is no JSON object".to_owned()) };
    if fields.get("cniVersion").and_then(Value::as_str).is_none_or(str::is_empty) {
        fields.insert("cniVersion".to_owned(), version.as_str().into());
    }
    Ok(result)
}

/// The addresses of the Pod's own interface: the first of IPv4, the first of IPv6.
pub(super) fn addresses(result: &Value) -> Vec<IpAddr> {
    let all =
        result["ips"].as_array().into_iter().flatten().filter(|ip| is_own(result, ip)).filter_map(address);
    let all: Vec<IpAddr> = all.collect();
    let first = |is_v4| all.iter().find(|ip| ip.is_ipv4() == is_v4).copied();
    first(true).into_iter().chain(first(false)).collect()
}

/// One that names no interface is of the Pod's own.
fn is_own(result: &Value, ip: &Value) -> bool {
    let interface = ip["interface"].as_u64().and_then(|at| usize::try_from(at).ok());
    interface.is_none_or(|at| result["interfaces"][at]["name"] == INTERFACE)
}

fn address(ip: &Value) -> Option<IpAddr> {
    let text = ip["address"].as_str()?;
    text.split_once('/').map_or(text, |(address, _)| address).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_addresses_are_those_of_its_own_interface() {
        let result = |text: &str| addresses(&parse(text.as_bytes(), Version::V1_0_0).unwrap());
        let texts = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let of_bridge = r#"{"cniVersion": "0.4.0", "interfaces": [{"name": "cni0"}, {"name": "vethx"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [{"version": "6", "interface": 2, "address": "fd00::9/64"}, {"version": "4", "interface": 2, "address": "10.1.0.9/16"},
                    {"version": "4", "interface": 2, "address": "10.2.0.9/16"}, {"version": "4", "interface": 0, "address": "10.1.0.1/16"}]}"#;
        assert_eq!(result(of_bridge), texts(&["10.1.0.9", "fd00::9"]));
        assert_eq!(result(r#"{"ips": [{"address": "10.1.0.9/16"}]}"#), texts(&["10.1.0.9"]));
        assert_eq!(
            result(
                r#"{"interfaces": [{"name": "lo"}], "ips": [{"address": "127.0.0.1/8", "interface": 0}]}"#
            ),
            texts(&[])
        );
        assert_eq!(
            result(r#"{"ips": [{"address": "10.1.0.9/16", "interface": 7}, {"address": "soon"}, 3]}"#),
            texts(&[])
        );
    }

    #[test]
    fn an_answer_without_a_version_gets_the_networks() {
        let version =
            |text: &str| parse(text.as_bytes(), Version::V0_4_0).map(|result| result["cniVersion"].clone());
        assert_eq!(version("{}"), Ok("0.4.0".into()));
        assert_eq!(version(r#"{"cniVersion": ""}"#), Ok("0.4.0".into()));
        assert_eq!(version(r#"{"cniVersion": "1.0.0"}"#), Ok("1.0.0".into()));
        assert!(version("[]").is_err() && version("").is_err());
    }
}
