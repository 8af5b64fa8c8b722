//! One repository, at whichever of its servers can be had: mirrors in order, the registry itself last.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::endpoint::{Ask, Endpoint};
use super::failure::Lie;
use super::retry::{Wait, with_retries};
use super::{Credentials, Failure, Hosts};
use crate::http::{Cancel, Method};
use crate::image::limits::MAX_JSON;
use crate::image::manifest::{Document, DocumentKind};
use crate::image::{Digest, Reference};
use crate::order;

/// Every kind of manifest and index that podkeep reads.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";

/// A repository, and who may have it. Threads may share it.
pub(in crate::image) struct Repository<'a> {
    endpoints: Vec<Endpoint>,
    /// `library/nginx`.
    pub(super) path: String,
    pub(super) cancel: Cancel,
    pub(super) tell: &'a (dyn Fn(Wait) + Sync),
    /// What other servers said than the one whose failure counts.
    notes: Mutex<Vec<String>>,
}

/// What a server must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Say what a tag means.
    Resolve,
    /// Give what a digest names.
    Pull,
}

impl<'a> Repository<'a> {
    pub(in crate::image) fn open(
        reference: &Reference,
        hosts: &Hosts,
        credentials: &Credentials,
        cancel: &Cancel,
        tell: &'a (dyn Fn(Wait) + Sync),
    ) -> Result<Repository<'a>, Failure> {
        let mut endpoints = Vec::new();
        for host in hosts.of(reference.domain())? {
            let known =
                credentials.of(&host.name, reference.path()).map_err(super::InvalidCredentials::from)?;
            let endpoint = Endpoint::new(host, known, hosts.limited.clone(), cancel)
                .map_err(super::InvalidHosts::from)?;
            endpoints.push(endpoint);
        }
        let (path, cancel) = (reference.path().to_owned(), cancel.clone());
        Ok(Repository { endpoints, path, cancel, tell, notes: Mutex::default() })
    }

    /// The digest of what a tag means, if a server says so without sending it. Registries that count pulls do not count this.
    pub(in crate::image) fn digest_of(&self, tag: &str) -> Result<Option<Digest>, Failure> {
        let path = format!("manifests/{tag}");
        let what = format!("{}:{tag}", self.path);
        self.first(Need::Resolve, |endpoint| {
            let answer = endpoint.ask(&self.manifest(Method::Head, &path, &what))?;
            Ok(answer.header("docker-content-digest").and_then(|text| text.parse().ok()))
        })
    }

    /// The manifest or index that a tag or digest means.
    pub(in crate::image) fn top(&self, reference: &Reference) -> Result<Document, Failure> {
        let what = reference.to_string();
        let Some(digest) = reference.digest() else {
            let tag = reference.tag().unwrap_or_default();
            let path = format!("manifests/{tag}");
            return self.first(Need::Resolve, |endpoint| self.fetch(endpoint, &path, &what, None));
        };
        let path = format!("manifests/{digest}");
        self.first(Need::Pull, |endpoint| self.fetch(endpoint, &path, &what, Some(digest)))
    }

    /// A small document of this digest and size.
    pub(in crate::image) fn document(
        &self,
        kind: DocumentKind,
        digest: &Digest,
        size: u64,
    ) -> Result<Document, Failure> {
        let (folder, what) = match kind {
            DocumentKind::Manifest => ("manifests", format!("manifest {digest}")),
            DocumentKind::Config => ("blobs", format!("configuration {digest}")),
        };
        let path = format!("{folder}/{digest}");
        self.first(Need::Pull, |endpoint| {
            let document = self.fetch(endpoint, &path, &what, Some(digest))?;
            let actual = document.bytes.len() as u64;
            if actual != size {
                return Err(lie(endpoint, &what, Lie::Size { expected: size, actual }));
            }
            Ok(document)
        })
    }

    fn manifest<'b>(&'b self, method: Method, path: &'b str, what: &'b str) -> Ask<'b> {
        Ask { method, repository: &self.path, path, accept: Some(ACCEPT), from: 0, what }
    }

    fn fetch(
        &self,
        endpoint: &Endpoint,
        path: &str,
        what: &str,
        expected: Option<&Digest>,
    ) -> Result<Document, Failure> {
        let answer = endpoint.ask(&self.manifest(Method::Get, path, what))?;
        let claimed: Option<Digest> =
            answer.header("docker-content-digest").and_then(|text| text.parse().ok());
        let media_type = answer.header("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = answer.bytes(MAX_JSON).map_err(Failure::of_http)?;
        let digest = Digest::of(&bytes);
        // For a tag, the server's own word shows at least what a proxy on the way has changed.
        match expected.or(claimed.as_ref()) {
            Some(expected) if *expected != digest => Err(lie(endpoint, what, Lie::Digest(digest))),
            _ => Ok(Document { media_type, digest, bytes }),
        }
    }

    /// Asks one server after the other until one has it. The failure that counts is the last one's, which is the registry's own.
    fn first<T>(&self, need: Need, ask: impl Fn(&Endpoint) -> Result<T, Failure>) -> Result<T, Failure> {
        let candidates = self.candidates(need);
        let mut last = None;
        for (index, endpoint) in candidates.iter().enumerate() {
            let asked = if index + 1 < candidates.len() {
                // Another one is left: no time is lost with this one.
                ask(endpoint)
            } else {
                with_retries(&self.cancel, self.tell, || ask(endpoint))
            };
            match asked {
                Err(failure) if !failure.is_ours() => {
                    self.note(endpoint, &failure);
                    last = Some(failure);
                }
                other => return other,
            }
        }
        Err(last.unwrap_or(Failure::NoServer { repository: self.path.clone() }))
    }

    /// Who may be asked, those first that have not failed.
    pub(super) fn candidates(&self, need: Need) -> Vec<&Endpoint> {
        let can = |endpoint: &&Endpoint| match need {
            Need::Resolve => endpoint.host.can_resolve,
            Need::Pull => endpoint.host.can_pull,
        };
        let is_honest = |endpoint: &&Endpoint| !endpoint.is_liar.load(Ordering::Relaxed);
        let mut candidates: Vec<_> = self.endpoints.iter().filter(can).filter(is_honest).collect();
        order::sort_by_key(&mut candidates, |endpoint| endpoint.is_down.load(Ordering::Relaxed));
        candidates
    }

    /// Remembers that a server failed: others come before it from now on, and the error names it.
    pub(super) fn note(&self, endpoint: &Endpoint, failure: &Failure) {
        endpoint.is_down.store(true, Ordering::Relaxed);
        if let Failure::Lie { .. } = failure {
            endpoint.is_liar.store(true, Ordering::Relaxed);
        }
        if endpoint.host.stands_for.is_some() {
            let note = failure.to_string();
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }

    /// Whoever sent a blob that is not what it should be is not asked again; returns whether somebody else can be.
    pub(in crate::image) fn distrust(&self, host: &str) -> bool {
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.host.name == host) {
            endpoint.is_liar.store(true, Ordering::Relaxed);
        }
        !self.candidates(Need::Pull).is_empty()
    }

    /// How mirrors failed, for the error of the registry itself.
    pub(in crate::image) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lie(endpoint: &Endpoint, what: &str, lie: Lie) -> Failure {
    Failure::Lie { host: endpoint.host.name.clone(), what: what.to_owned(), lie }
}
