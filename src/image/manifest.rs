//! Which images a source holds: their names, configurations and layers, from an OCI index or a docker-archive's `manifest.json`.

use std::path::Path;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::artifact::{self, Form};
use super::folder::stem;
use super::ingest::{ImageSpec, LayerSpec};
use super::limits::{MAX_INDEX_DEPTH, MAX_LAYERS};
use super::platform;
use super::source::{Source, blob_name};
use super::{Digest, Error, Reference};

/// containerd's and Docker's annotation: always a whole reference.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI's annotation: a whole reference or, from skopeo and umoci, a bare tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image of a source, before its layers are read.
pub(super) struct Candidate {
    pub(super) image: ImageSpec,
    /// Where the source has each layer's blob; as many as the image has layers.
    pub(super) members: Vec<String>,
}

/// The images of `source` for this machine. `path` names what has no name of its own.
pub(super) fn candidates(source: &Source, path: &Path) -> Result<Vec<Candidate>, Error> {
    // Docker writes both since version 25; only the index has digests of manifests.
    if let Some(bytes) = source.document("index.json")? {
        return from_index(source, path, &parse("index.json", &bytes)?);
    }
    if let Some(bytes) = source.document("manifest.json")? {
        let items: Vec<DockerItem> = parse("manifest.json", &bytes)?;
        return from_docker(source, path, &items);
    }
    let reason = "it has neither index.json nor manifest.json".to_owned();
    Err(Error::NotAnImage { path: path.to_owned(), reason })
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.to_owned(), source })
}

fn from_index(source: &Source, path: &Path, index: &ImageIndex) -> Result<Vec<Candidate>, Error> {
    let mut images = Vec::new();
    for (reference, descriptors) in named(index, path)? {
        let chosen = platform::choose(&descriptors, &reference.to_string())?;
        images.push(from_descriptor(source, reference, chosen)?);
    }
    Ok(images)
}

/// The index's entries by name: one name may stand at several platforms. Where nothing has a name, the file's name serves for the one image;
/// beside named ones, what has no name is a leftover that no reference can reach.
fn named(index: &ImageIndex, path: &Path) -> Result<Vec<(Reference, Vec<Descriptor>)>, Error> {
    let mut groups: Vec<(Reference, Vec<Descriptor>)> = Vec::new();
    let mut unnamed = Vec::new();
    for descriptor in index.manifests() {
        let Some(reference) = annotated_name(descriptor, path)? else {
            unnamed.push(descriptor.clone());
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == reference) {
            Some((_, descriptors)) => descriptors.push(descriptor.clone()),
            None => groups.push((reference, vec![descriptor.clone()])),
        }
    }
    if !groups.is_empty() {
        return Ok(groups);
    }
    let without_platform = unnamed.iter().filter(|descriptor| descriptor.platform().is_none()).count();
    match unnamed.len() {
        0 => Err(Error::NotAnImage { path: path.to_owned(), reason: "it holds no image".to_owned() }),
        count if count > 1 && without_platform > 0 => Err(Error::Unnamed { count }),
        _ => Ok(vec![(file_name(path)?, unnamed)]),
    }
}

fn annotated_name(descriptor: &Descriptor, path: &Path) -> Result<Option<Reference>, Error> {
    let annotation = |key| descriptor.annotations().as_ref().and_then(|all| all.get(key));
    let Some(name) = annotation(IMAGE_NAME).or(annotation(REF_NAME)) else { return Ok(None) };
    if name.contains(['/', ':', '@']) {
        return Ok(Some(name.parse()?));
    }
    let text = file_text(path);
    let repository = text.split(':').next().unwrap_or_default();
    Ok(Some(format!("{repository}:{name}").parse()?))
}

/// `web` for the layout `web/` and the archive `web.tar.gz`; standard input has no name.
fn file_name(path: &Path) -> Result<Reference, Error> {
    if path.as_os_str() == "-" {
        return Err(Error::Unnamed { count: 1 });
    }
    Ok(file_text(path).parse()?)
}

fn file_text(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    stem(&name).map(str::to_owned).unwrap_or(name)
}

/// What is small and has a digest.
pub(super) struct Document {
    /// What whoever gave it says that it is; the document itself is believed more.
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

/// Registries keep manifests and everything else in two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DocumentKind {
    /// A manifest or an index.
    Manifest,
    Config,
}

/// Where documents come from: a layout, or a registry. What it gives has been checked against digest and size.
pub(super) trait Documents {
    type Error: From<Error>;

    fn document(&self, kind: DocumentKind, digest: &Digest, size: u64) -> Result<Vec<u8>, Self::Error>;
}

impl Documents for Source {
    type Error = Error;

    fn document(&self, _: DocumentKind, digest: &Digest, size: u64) -> Result<Vec<u8>, Error> {
        self.blob_document(digest, size)
    }
}

fn from_descriptor(
    source: &Source,
    reference: Reference,
    descriptor: &Descriptor,
) -> Result<Candidate, Error> {
    from_document(source, reference, described(source, descriptor)?)
}

/// Follows indexes from `top` down to the manifest for this machine.
pub(super) fn from_document<D: Documents>(
    documents: &D,
    reference: Reference,
    top: Document,
) -> Result<Candidate, D::Error> {
    let (mut manifests, mut documents_read) = (Vec::new(), Vec::new());
    let mut document = top;
    for _ in 0..MAX_INDEX_DEPTH {
        manifests.push(document.digest.clone());
        let name = blob_name(&document.digest);
        match content(&document, &reference)? {
            Content::Index => {
                let index: ImageIndex = parse(&name, &document.bytes)?;
                let chosen = platform::choose(index.manifests(), &reference.to_string())?;
                let next = described(documents, chosen)?;
                documents_read.push(std::mem::replace(&mut document, next).bytes);
            }
            Content::Manifest => {
                let manifest = parse(&name, &document.bytes)?;
                let mut candidate = from_manifest(documents, reference, &manifest)?;
                documents_read.push(document.bytes);
                (candidate.image.manifests, candidate.image.documents) = (manifests, documents_read);
                return Ok(candidate);
            }
        }
    }
    Err(Error::NestedIndex { limit: MAX_INDEX_DEPTH }.into())
}

/// The manifest or index that a descriptor stands for.
fn described<D: Documents>(documents: &D, descriptor: &Descriptor) -> Result<Document, D::Error> {
    let digest = digest_of(descriptor)?;
    let bytes = documents.document(DocumentKind::Manifest, &digest, descriptor.size())?;
    Ok(Document { media_type: descriptor.media_type().to_string(), digest, bytes })
}

enum Content {
    Index,
    Manifest,
}

/// What a document says of itself, as far as that matters for what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

/// A document that could be read as either would be two images under one digest (CVE-2021-41190).
fn content(document: &Document, reference: &Reference) -> Result<Content, Error> {
    let outline: Outline = parse(&blob_name(&document.digest), &document.bytes)?;
    let media_type_of = outline.media_type.as_deref().unwrap_or(&document.media_type);
    match (media_type_of, &outline.manifests, &outline.layers) {
        (
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json",
            _,
            None,
        ) => Ok(Content::Index),
        (
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json",
            None,
            _,
        ) => Ok(Content::Manifest),
        (_, Some(_), Some(_)) => Err(Error::Ambiguous { what: reference.to_string() }),
        (other, ..) => Err(media_type(reference, other)),
    }
}

fn from_manifest<D: Documents>(
    documents: &D,
    reference: Reference,
    manifest: &ImageManifest,
) -> Result<Candidate, D::Error> {
    let described = manifest.config();
    let is_config = *described.media_type() == MediaType::ImageConfig
        || described.media_type().to_string() == "application/vnd.docker.container.image.v1+json";
    if !is_config {
        return Ok(artifact::candidate(reference, manifest)?);
    }
    let id = digest_of(described)?;
    let config = documents.document(DocumentKind::Config, &id, described.size())?;
    let mut members = Vec::new();
    for layer in manifest.layers() {
        let digest = digest_of(layer)?;
        members.push((blob_name(&digest), Some((digest, layer.size()))));
    }
    Ok(candidate(vec![reference], id, config, members)?)
}

fn media_type(reference: &Reference, media_type: &str) -> Error {
    Error::MediaType { what: reference.to_string(), media_type: media_type.to_owned() }
}

pub(super) fn digest_of(descriptor: &Descriptor) -> Result<Digest, Error> {
    Ok(descriptor.digest().to_string().parse()?)
}

/// One image of a docker-archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn from_docker(source: &Source, path: &Path, items: &[DockerItem]) -> Result<Vec<Candidate>, Error> {
    let unnamed = items.iter().filter(|item| item.repo_tags.as_ref().is_none_or(Vec::is_empty)).count();
    if unnamed > 1 {
        return Err(Error::Unnamed { count: unnamed });
    }
    if items.is_empty() {
        return Err(Error::NotAnImage { path: path.to_owned(), reason: "it holds no image".to_owned() });
    }
    items.iter().map(|item| from_docker_item(source, path, item)).collect()
}

fn from_docker_item(source: &Source, path: &Path, item: &DockerItem) -> Result<Candidate, Error> {
    let mut references = Vec::new();
    for tag in item.repo_tags.iter().flatten() {
        references.push(tag.parse()?);
    }
    if references.is_empty() {
        references.push(file_name(path)?);
    }
    let missing = || Error::MissingMember { member: item.config.clone() };
    let config = source.document(&item.config)?.ok_or_else(missing)?;
    let id = Digest::of(&config);
    check_config_name(&item.config, &id)?;
    let members = item.layers.iter().map(|layer| (layer.clone(), None)).collect();
    candidate(references, id, config, members)
}

/// The configuration's name is its digest: `<hex>.json`, or `blobs/sha256/<hex>`.
fn check_config_name(name: &str, actual: &Digest) -> Result<(), Error> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_suffix(".json").unwrap_or(last);
    match format!("sha256:{hex}").parse::<Digest>() {
        Ok(expected) if expected != *actual => {
            Err(Error::WrongDigest { what: name.to_owned(), expected, actual: actual.clone() })
        }
        _ => Ok(()),
    }
}

fn candidate(
    references: Vec<Reference>,
    id: Digest,
    config: Vec<u8>,
    members: Vec<(String, Option<(Digest, u64)>)>,
) -> Result<Candidate, Error> {
    let configuration: ImageConfiguration = parse(&format!("configuration {id}"), &config)?;
    let (os, architecture) = (configuration.os().to_string(), configuration.architecture().to_string());
    let name = references.first().map(Reference::to_string).unwrap_or_default();
    platform::check(&os, &architecture, &name)?;
    let diff_ids = configuration.rootfs().diff_ids();
    if members.len() != diff_ids.len() {
        return Err(Error::LayerCount { layers: members.len(), diff_ids: diff_ids.len() });
    }
    if members.len() > MAX_LAYERS {
        return Err(Error::TooManyLayers { count: members.len(), limit: MAX_LAYERS });
    }
    let (mut names, mut layers) = (Vec::new(), Vec::new());
    for ((member, blob), diff_id) in members.into_iter().zip(diff_ids) {
        names.push(member);
        layers.push(LayerSpec { diff_id: diff_id.parse()?, blob, form: Form::Tar });
    }
    let image = ImageSpec { references, manifests: Vec::new(), documents: Vec::new(), id, config, layers };
    Ok(Candidate { image, members: names })
}
