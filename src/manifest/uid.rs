//! A Pod's identity: a hash of what its manifest says, in a form that outlives rewriting.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Uid;
use super::tree::Node;
use crate::order;

/// Changes only if the way of hashing must: every Pod is then recreated.
const VERSION: &str = "podkeep-uid-v1";

/// Lists whose elements say by a key what they are: an empty map there has a meaning (`emptyDir: {}`).
const UNIONS: &[&str] = &["volumes", "sources", "envFrom"];

/// The document without nulls and without empty lists and maps that mean nothing.
pub(crate) fn canonical(node: &Node) -> Value {
    prune(node.to_json(), false)
}

fn prune(value: Value, of_union: bool) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| prune(item, of_union)).collect()),
        Value::Object(map) => Value::Object(prune_map(map, of_union)),
        scalar => scalar,
    }
}

fn prune_map(map: Map<String, Value>, of_union: bool) -> Map<String, Value> {
    let mut pruned = Map::new();
    for (key, value) in map {
        let value = prune(value, UNIONS.contains(&key.as_str()));
        let means_nothing = match &value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty() && !of_union,
            _ => false,
        };
        if !means_nothing {
            pruned.insert(key, value);
        }
    }
    pruned
}

/// The first 128 bits of SHA-256 over version, node name and `source`.
pub(crate) fn of(source: &Value, node_name: &str) -> Uid {
    let mut text = String::new();
    write_sorted(source, &mut text);
    let mut hash = Sha256::new();
    for part in [VERSION, node_name, &text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    Uid(hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// JSON with sorted keys, whatever order the map type keeps.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_sorted(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            order::sort_by_key(&mut pairs, |(key, _)| *key);
            out.push('{');
            for (key, value) in pairs {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_sorted(value, out);
                out.push(',');
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_left_out_and_what_means_something_stays() {
        let written = serde_json::json!({"spec": {"a": null, "b": {}, "c": [], "d": "", "args": [""],
            "volumes": [{"name": "v", "emptyDir": {}, "hostPath": null}], "containers": [{"resources": {}}]}});
        let pruned = serde_json::json!({"spec": {"d": "", "args": [""],
            "volumes": [{"name": "v", "emptyDir": {}}], "containers": [{}]}});
        assert_eq!(canonical(&Node::from_json(&written)), pruned);
    }
}
