//! What programs read, on what may be a terminal.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::api::json::harmless;

pub fn print(what: &impl Serialize) -> Result<()> {
    print_text(&serde_json::to_vec_pretty(what)?)
}

/// A line of its own.
pub fn print_text(json: &[u8]) -> Result<()> {
    let mut text = harmless(json);
    text.push(b'\n');
    Ok(io::stdout().lock().write_all(&text)?)
}
