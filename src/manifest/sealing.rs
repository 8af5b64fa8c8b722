//! A manifest's Secrets → the same with every value encrypted: what `podkeep seal` writes.
//!
//! Comments are not kept: of a file that holds secrets, they may hold some as well.

use std::path::Path as FilePath;

use serde_json::{Value, json};

use super::check_annotations::SEALED;
use super::check_object::decoded;
use super::findings::Findings;
use super::{served, text};

/// All documents of a manifest that [`decode`](super::decode) takes, and how many Secrets `seal` was asked about: it makes an age
/// file, in armor, of a value. Those that are sealed already stay as they are, and so does what is no Secret.
///
/// # Errors
/// The first one of `seal`.
pub fn sealed<E>(bytes: &[u8], seal: &dyn Fn(&[u8]) -> Result<String, E>) -> Result<(Vec<Value>, usize), E> {
    let (mut documents, mut count) = (Vec::new(), 0);
    for node in text::documents(bytes, &mut Findings::new(FilePath::new(""))) {
        let mut document = node.to_json();
        seal_document(&mut document, &mut count, seal)?;
        documents.push(document);
    }
    Ok((documents, count))
}

fn seal_document<E>(
    document: &mut Value,
    count: &mut usize,
    seal: &dyn Fn(&[u8]) -> Result<String, E>,
) -> Result<(), E> {
    // A list of any kind.
    for item in document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        seal_document(item, count, seal)?;
    }
    let (annotation, format) = SEALED;
    if document["kind"] != "Secret" || !document["metadata"]["annotations"][annotation].is_null() {
        return Ok(());
    }
    *count += 1;
    strip(&mut document["metadata"]);
    document["metadata"]["annotations"][annotation] = json!(format);
    // As an API server lays them over one another.
    let (data, string_data) = (document["data"].take(), document["stringData"].take());
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    for (key, value) in data.as_object().into_iter().flatten() {
        let plain = decoded(value.as_str().unwrap_or_default()).unwrap_or_default();
        document["stringData"][key] = json!(seal(&plain)?);
    }
    for (key, value) in string_data.as_object().into_iter().flatten() {
        document["stringData"][key] = json!(seal(value.as_str().unwrap_or_default().as_bytes())?);
    }
    Ok(())
}

/// Takes away what a server added, and the values that it may hold.
fn strip(metadata: &mut Value) {
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|key, _| !served::METADATA.contains(&key.as_str()));
    }
    if let Some(annotations) = metadata["annotations"].as_object_mut() {
        annotations.remove(served::LAST_APPLIED);
    }
}
