//! From a source to images in the store.

use std::path::Path;

use super::{Error, Imported, Store};

pub(super) fn import(_store: &Store, source: &Path) -> Result<Vec<Imported>, Error> {
    Err(Error::NotAnImage { path: source.to_owned(), reason: "it cannot be read yet".into() })
}
