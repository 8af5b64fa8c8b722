//! From a layout or an archive to images in the store, several layers at a time.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::ingest::{LayerSpec, Origin, Writing};
use super::manifest::{Candidate, candidates};
use super::progress::{Counted, Progress, Tell};
use super::source::{Member, Source};
use super::stamp::Stamp;
use super::{Digest, Error, Imported, Store};
use crate::order;

/// Layers that are unpacked at a time, each by two threads; more than the processors would only take memory.
const MAX_AT_ONCE: usize = 4;

/// Why a source is read.
pub(super) enum Reason<'a> {
    /// A person wants it: spare copies that are gone come back too.
    Asked,
    /// It lies in the image folder.
    InFolder,
    /// It brought images, and something of them is damaged: these layers, if they are in it, take the place of those that the store has.
    Mending { pinned: bool, replacing: &'a HashSet<Digest> },
}

pub(super) fn import(
    store: &Store,
    path: &Path,
    reason: Reason<'_>,
    progress: &Tell<'_>,
) -> Result<Vec<Imported>, Error> {
    // Taken first: a source that changes while it is read counts as changed afterwards.
    let stamp = Stamp::of(path).map_err(Error::io("examine", path))?;
    let writing = store.begin()?;
    let (writing, pinned) = match reason {
        Reason::Asked => (writing.with_spares(true), false),
        Reason::InFolder => (writing, true),
        Reason::Mending { pinned, replacing } => (writing.replacing(replacing.iter().cloned()), pinned),
    };
    let source = Source::open(path, writing.folder())?;
    take_in(writing, &source, path, Some(Origin { path, stamp, pinned }), progress)
}

/// What standard input is called.
const STREAM: &str = "-";

pub(super) fn import_stream(
    store: &Store,
    stream: impl Read,
    progress: &Tell<'_>,
) -> Result<Vec<Imported>, Error> {
    let writing = store.begin()?.with_spares(true);
    let source = Source::of_stream(stream, Path::new(STREAM), writing.folder())?;
    take_in(writing, &source, Path::new(STREAM), None, progress)
}

fn take_in(
    writing: Writing,
    source: &Source,
    path: &Path,
    origin: Option<Origin<'_>>,
    progress: &Tell<'_>,
) -> Result<Vec<Imported>, Error> {
    let images = candidates(source, path)?;
    let layers = missing(&writing, source, &images)?;
    let sizes: Vec<_> = layers.iter().map(|layer| (layer.name().clone(), layer.size)).collect();
    progress(Progress::Missing(&sizes));
    unpack_all(&writing, source, layers, progress)?;
    writing.finish(images.into_iter().map(|one| one.image).collect(), origin)
}

/// A layer that has to be unpacked.
struct Missing {
    spec: LayerSpec,
    /// Which member of the source it is, and how many bytes that has.
    member: String,
    size: u64,
}

impl Missing {
    fn name(&self) -> &Digest {
        self.spec.blob.as_ref().map_or(&self.spec.diff_id, |(digest, _)| digest)
    }

    fn unpack(&self, writing: &Writing, source: &Source, progress: &Tell<'_>) -> Result<(), Error> {
        let layer = self.name();
        let inner = open(source, &self.member)?.reader;
        writing.layer(&self.spec, Counted { inner, layer, bytes: 0, progress })?;
        progress(Progress::Done { layer });
        Ok(())
    }
}

fn open(source: &Source, member: &str) -> Result<Member, Error> {
    source.member(member)?.ok_or_else(|| Error::MissingMember { member: member.to_owned() })
}

fn missing(writing: &Writing, source: &Source, images: &[Candidate]) -> Result<Vec<Missing>, Error> {
    let mut layers: Vec<Missing> = Vec::new();
    for Candidate { image, members } in images {
        let mut missing = writing.missing(&image.layers)?;
        missing.retain(|spec| layers.iter().all(|known| known.spec.diff_id != spec.diff_id));
        missing.extend(writing.missing_spares(&image.layers, &missing)?);
        for spec in missing {
            let member = image.layers.iter().zip(members).find(|(layer, _)| **layer == spec);
            let is_known = layers.iter().any(|known| known.spec == spec);
            let Some((_, name)) = member.filter(|_| !is_known) else { continue };
            layers.push(Missing { spec, member: name.clone(), size: open(source, name)?.size });
        }
    }
    Ok(layers)
}

fn unpack_all(
    writing: &Writing,
    source: &Source,
    layers: Vec<Missing>,
    progress: &Tell<'_>,
) -> Result<(), Error> {
    let at_once = thread::available_parallelism().map_or(1, usize::from).min(MAX_AT_ONCE).min(layers.len());
    let layers = Mutex::new(layers.into_iter());
    let next = || layers.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || next_ones(next, |layer: Missing| layer.unpack(writing, source, progress));
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
