//! From a layout or an archive to images in the store, several layers at a time.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::ingest::{LayerSpec, Origin, Writing};
use super::manifest::{Candidate, candidates};
use super::record::Stamp;
use super::source::Source;
use super::{Digest, Error, Imported, Store};
use crate::order;

/// Layers that are unpacked at a time, each by two threads; more than the processors would only take memory.
const MAX_AT_ONCE: usize = 4;

/// `pinned`: whether the source lies in the image folder. `replacing`: layers that the store has, and that are damaged.
pub(super) fn import(
    store: &Store,
    path: &Path,
    pinned: bool,
    replacing: &HashSet<Digest>,
) -> Result<Vec<Imported>, Error> {
    // Taken first: a source that changes while it is read counts as changed afterwards.
    let stamp = Stamp::of(path).map_err(Error::io("examine", path))?;
    let writing = store.begin()?.replacing(replacing.iter().cloned());
    let source = Source::open(path, writing.folder())?;
    take_in(writing, &source, path, Some(Origin { path, stamp, pinned }))
}

/// What standard input is called.
const STREAM: &str = "-";

pub(super) fn import_stream(store: &Store, stream: impl Read) -> Result<Vec<Imported>, Error> {
    let writing = store.begin()?;
    let source = Source::of_stream(stream, Path::new(STREAM), writing.folder())?;
    take_in(writing, &source, Path::new(STREAM), None)
}

fn take_in(
    writing: Writing,
    source: &Source,
    path: &Path,
    origin: Option<Origin<'_>>,
) -> Result<Vec<Imported>, Error> {
    let images = candidates(source, path)?;
    unpack_all(&writing, source, missing(&writing, &images)?)?;
    writing.finish(images.into_iter().map(|one| one.image).collect(), origin)
}

/// The layers that have to be unpacked, and which member of the source each is.
fn missing(writing: &Writing, images: &[Candidate]) -> Result<Vec<(LayerSpec, String)>, Error> {
    let mut layers: Vec<(LayerSpec, String)> = Vec::new();
    for Candidate { image, members } in images {
        for missing in writing.missing(&image.layers)? {
            let member = image.layers.iter().zip(members).find(|(layer, _)| **layer == missing);
            let is_known = layers.iter().any(|(known, _)| known.diff_id == missing.diff_id);
            layers.extend(member.filter(|_| !is_known).map(|(_, member)| (missing, member.clone())));
        }
    }
    Ok(layers)
}

fn unpack_all(writing: &Writing, source: &Source, layers: Vec<(LayerSpec, String)>) -> Result<(), Error> {
    let at_once = thread::available_parallelism().map_or(1, usize::from).min(MAX_AT_ONCE).min(layers.len());
    let layers = Mutex::new(layers.into_iter());
    let next = || layers.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || next_ones(next, |(layer, member)| unpack(writing, source, &layer, &member));
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    // The one that failed first has the reason; the others were cancelled.
    let mut failures = results.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    order::sort_by_key(&mut failures, |error| matches!(error, Error::Cancelled));
    failures.into_iter().next().map_or(Ok(()), Err)
}

fn next_ones<T>(next: impl Fn() -> Option<T>, work: impl Fn(T) -> Result<(), Error>) -> Result<(), Error> {
    while let Some(one) = next() {
        work(one)?;
    }
    Ok(())
}

fn unpack(writing: &Writing, source: &Source, layer: &LayerSpec, member: &str) -> Result<(), Error> {
    let found = source.member(member)?.ok_or_else(|| Error::MissingMember { member: member.to_owned() })?;
    writing.layer(layer, found.reader)
}
