//! From a registry to an image in the store: what the store lacks is fetched, several layers at a time, and taken in as it comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

use super::error::LayerError;
use super::ingest::{LayerSpec, Writing};
use super::manifest::{Candidate, DocumentKind, Documents, from_document};
use super::progress::{Progress, Tell};
use super::registry::{BlobReader, Credentials, Failure, Hosts, Lie, Repository, Wait};
use super::{Digest, Error, Image, Reference, Store};
use crate::http::Cancel;

/// Layers under way at a time: Docker's and containerd's number.
const AT_ONCE: usize = 3;

/// How an image is pulled.
pub struct PullOptions<'a> {
    pub hosts: Hosts,
    pub credentials: Credentials,
    /// Whether manifests and spare copies of layers that the store has lost come back too, which reads all that are there.
    pub with_spares: bool,
    /// Called by several threads, often: for every piece that arrives.
    pub progress: &'a Tell<'a>,
    /// Ends the pull at once. What has arrived stays for the next one.
    pub cancel: Cancel,
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
#[error("pull {reference}: {failure}{}", Others(.mirrors))]
pub struct PullError {
    /// As it is shown.
    pub reference: String,
    pub failure: Box<Failure>,
    /// How mirrors failed that were asked before.
    pub mirrors: Vec<String>,
}

struct Others<'a>(&'a [String]);

impl fmt::Display for Others<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mirror| write!(f, "; before that: {mirror}"))
    }
}

/// Brings `reference` into the store as the registry has it now, and returns it.
///
/// A layer that the store has is not fetched again, and where the whole image is there, only the registry's word for that is asked for.
/// Blocks until it is done, has failed, or is cancelled.
pub fn pull(store: &Store, reference: &Reference, options: &PullOptions) -> Result<Image, PullError> {
    begin(store, reference, options, |pull| pull.run())
}

/// Whether the store has `reference` as the registry has it now: one request that registries do not count as a pull, and none for a
/// reference with a digest. Blocks like [`pull`].
pub fn is_current(store: &Store, reference: &Reference, options: &PullOptions) -> Result<bool, PullError> {
    begin(store, reference, options, |pull| Ok(pull.known()?.is_some()))
}

fn begin<T>(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    work: impl FnOnce(Pull<'_>) -> Result<T, Failure>,
) -> Result<T, PullError> {
    // Of this pull alone: a layer that fails ends the others.
    let cancel = options.cancel.child();
    let tell = |wait| (options.progress)(Progress::Waits(wait));
    let failed = |failure, mirrors| PullError {
        reference: reference.to_string(),
        failure: Box::new(failure),
        mirrors,
    };
    let opened = Repository::open(reference, &options.hosts, &options.credentials, &cancel, &tell);
    let repository = opened.map_err(|failure| failed(failure, Vec::new()))?;
    let pull = Pull {
        store,
        reference,
        repository: &repository,
        with_spares: options.with_spares && store.keeps_blobs(),
        cancel: &cancel,
        progress: options.progress,
    };
    work(pull).map_err(|failure| {
        let failure = if options.cancel.is_cancelled() { Failure::Cancelled } else { failure };
        let mut mirrors = repository.notes();
        let own = failure.to_string();
        mirrors.retain(|note| *note != own);
        failed(failure, mirrors)
    })
}

struct Pull<'a> {
    store: &'a Store,
    reference: &'a Reference,
    repository: &'a Repository<'a>,
    with_spares: bool,
    cancel: &'a Cancel,
    progress: &'a Tell<'a>,
}

/// Where layers come from, and what one of them says of the others.
#[derive(Default)]
struct Outcome {
    /// Bytes of an earlier pull were used.
    resumed: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

impl Documents for Repository<'_> {
    type Error = Failure;

    fn document(&self, kind: DocumentKind, digest: &Digest, size: u64) -> Result<Vec<u8>, Failure> {
        Ok(Repository::document(self, kind, digest, size)?.bytes)
    }
}

impl Pull<'_> {
    fn run(&self) -> Result<Image, Failure> {
        if let Some(image) = self.known()? {
            return Ok(image);
        }
        let top = self.repository.top(self.reference)?;
        let candidate = from_document(self.repository, self.reference.clone(), top)?;
        // What an earlier pull left may be what is wrong, or a mirror: then the next attempt is without it.
        loop {
            let outcome = Outcome::default();
            let Err(failure) = self.take_in(&candidate, &outcome) else {
                return Ok(self.store.load(self.reference.clone(), &candidate.image.id)?);
            };
            let again = match &failure {
                Failure::Lie { host, .. } => {
                    outcome.resumed.load(Ordering::Relaxed) || self.repository.distrust(host)
                }
                _ => false,
            };
            if !again {
                return Err(failure);
            }
            (self.progress)(Progress::Waits(Wait { why: failure.to_string(), rest: Duration::ZERO }));
        }
    }

    /// The image, if the store has it and the registry says that it is still the same.
    fn known(&self) -> Result<Option<Image>, Failure> {
        // What is damaged is pulled again.
        let Ok(Some(image)) = self.store.find(self.reference) else { return Ok(None) };
        if self.with_spares && !self.store.has_all_spares(self.reference)? {
            return Ok(None);
        }
        let Some(tag) = self.reference.tag().filter(|_| self.reference.digest().is_none()) else {
            return Ok(Some(image));
        };
        let current = self.repository.digest_of(tag)?;
        let known = self.store.manifests_of(self.reference)?;
        Ok(current.filter(|digest| known.contains(digest)).map(|_| image))
    }

    fn take_in(&self, candidate: &Candidate, outcome: &Outcome) -> Result<(), Failure> {
        let writing = self.store.begin().map_err(|error| self.of_store(error))?;
        let writing = writing.with_spares(self.with_spares);
        let mut missing = writing.missing(&candidate.image.layers)?;
        missing.extend(writing.missing_spares(&candidate.image.layers, &missing)?);
        let blobs: Vec<_> = missing.iter().filter_map(|layer| layer.blob.clone()).collect();
        (self.progress)(Progress::Missing(&blobs));
        self.verify_room(&blobs)?;
        let left = Mutex::new(missing.iter());
        thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(missing.len()) {
                scope.spawn(|| self.fetch_next_ones(&writing, &left, outcome));
            }
        });
        let failure = outcome.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(failure) = failure {
            return Err(failure);
        }
        let finished = writing.finish(vec![candidate.image.clone()], None);
        finished.map(drop).map_err(|error| self.of_store(error))
    }

    /// The compressed layers are the least that will be written: better to find that out before the network is used.
    fn verify_room(&self, blobs: &[(Digest, u64)]) -> Result<(), Failure> {
        let path = self.store.layers_dir();
        let needed = self.store.bytes_to_come(blobs);
        // A file system that does not say how much is free is written to until it is full.
        let Ok(stat) = rustix::fs::statvfs(path) else { return Ok(()) };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if needed > free {
            return Err(Failure::NoRoom { needed, free, path: path.to_owned() });
        }
        Ok(())
    }

    fn fetch_next_ones(
        &self,
        writing: &Writing,
        left: &Mutex<std::slice::Iter<LayerSpec>>,
        outcome: &Outcome,
    ) {
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(layer) = next() {
            let Err(failure) = self.fetch(writing, layer, outcome) else { continue };
            // After a lie the connections are needed again.
            let is_final = !matches!(failure, Failure::Lie { .. });
            let mut first = outcome.failure.lock().unwrap_or_else(PoisonError::into_inner);
            // The first has the reason; the others ended because of it.
            first.get_or_insert(failure);
            drop(first);
            if is_final {
                self.cancel.cancel();
            }
            return;
        }
    }

    fn fetch(&self, writing: &Writing, layer: &LayerSpec, outcome: &Outcome) -> Result<(), Failure> {
        let Some((digest, size)) = &layer.blob else { unreachable!("a registry's layers have digests") };
        let sender = Mutex::new(None);
        let progress = |bytes| (self.progress)(Progress::Received { layer: digest, bytes });
        let taken = writing.download(layer, |from| {
            if from > 0 {
                outcome.resumed.store(true, Ordering::Relaxed);
                progress(from);
            }
            BlobReader::new(self.repository, (digest, *size), from, &sender, &progress)
        });
        match taken {
            Ok(()) => {
                (self.progress)(Progress::Done { layer: digest });
                Ok(())
            }
            Err(error) => {
                let sender = sender.into_inner().unwrap_or_else(PoisonError::into_inner);
                Err(self.of_layer(error, digest, sender))
            }
        }
    }

    /// What the store says of a layer, in a registry's terms where it is the registry's doing.
    fn of_layer(&self, error: Error, digest: &Digest, sender: Option<String>) -> Failure {
        let Error::Layer { diff_id, source } = error else { return self.of_store(error) };
        let lie = |lie| Failure::Lie {
            host: sender.clone().unwrap_or_else(|| "an earlier pull".to_owned()),
            what: format!("blob {digest}"),
            lie,
        };
        let other = |source| self.of_store(Error::Layer { diff_id, source: Box::new(source) });
        match *source {
            LayerError::Blob(error) => {
                error.downcast::<Failure>().unwrap_or_else(|error| other(LayerError::Blob(error)))
            }
            LayerError::WrongDigest { what: "blob", actual, .. } => lie(Lie::Digest(actual)),
            LayerError::WrongSize { expected, actual } => lie(Lie::Size { expected, actual }),
            source => other(source),
        }
    }

    fn of_store(&self, error: Error) -> Failure {
        let is_full = is_caused_by_full_disk(&error);
        let path = self.store.layers_dir();
        if is_full { Failure::DiskFull { path: path.to_owned() } } else { Failure::Image(error) }
    }
}

impl Store {
    /// Without what an earlier pull left.
    fn bytes_to_come(&self, blobs: &[(Digest, u64)]) -> u64 {
        let is_here = |digest| std::fs::metadata(self.part_file(digest)).map_or(0, |part| part.len());
        blobs.iter().fold(0, |sum, (digest, size)| sum.saturating_add(size.saturating_sub(is_here(digest))))
    }
}

fn is_caused_by_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_pull_left_needs_no_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let [begun, new] = [b"begun", b"new.."].map(|bytes| Digest::of(bytes));
        std::fs::write(store.part_file(&begun), [0; 700]).unwrap();
        assert_eq!(store.bytes_to_come(&[(begun, 1000), (new, 50)]), 350);
    }
}
