//! `podkeep save`: images as an OCI archive, with the blobs and manifests that they came with.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageManifest};
use serde_json::{Value, json};

use super::compression;
use super::digest::HashingReader;
use super::manifest::digest_of;
use super::record::{BlobRecord, read_small};
use super::source::blob_name;
use super::{Digest, Error, Reference, Store};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Store {
    /// Writes the images as an OCI archive. One that came from a docker-archive gets a manifest now; all others keep their digests.
    ///
    /// # Errors
    /// Also when a layer's blob is not kept any more. What was written until then is no archive.
    pub fn save(&self, references: &[Reference], out: impl Write) -> Result<(), Error> {
        let mut archive = Archive { tar: tar::Builder::new(out), written: HashSet::new() };
        let mut manifests = Vec::new();
        for reference in references {
            manifests.push(self.save_image(reference, &mut archive)?);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": manifests});
        archive.add("index.json", index.to_string().as_bytes())?;
        archive.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        archive.tar.into_inner().and_then(|mut out| out.flush()).map_err(cannot_write)
    }

    /// Returns the descriptor of its manifest, or of the index that this was chosen from: whoever knows the image by that digest finds it. Of
    /// what else the index names nothing is there.
    fn save_image<W: Write>(&self, reference: &Reference, archive: &mut Archive<W>) -> Result<Value, Error> {
        let missing = || Error::NoImage { reference: reference.clone() };
        let record = self.record_of(reference)?.ok_or_else(missing)?;
        if self.load(reference.clone(), &record.id).is_ok_and(|image| image.is_artifact) {
            let reason = "podkeep cannot save those: copy it from its registry".to_owned();
            return Err(Error::Artifact { what: reference.to_string(), reason });
        }
        let config = read_small(&self.config_file(&record.id))?.ok_or_else(missing)?;
        let mut documents = Vec::new();
        for digest in &record.manifests {
            let gone = || Error::NoManifest { digest: digest.clone() };
            documents.push(self.manifest_bytes(digest)?.ok_or_else(gone)?);
        }
        let named = documents.last().map(|manifest| blobs_of(manifest)).transpose()?;
        let mut layers = Vec::new();
        for (place, diff_id) in self.diff_ids(&record.id)?.into_iter().enumerate() {
            let gone = || Error::NoBlob { diff_id: diff_id.clone() };
            let blob = match &named {
                // Of several blobs of one layer, the manifest means this one.
                Some(named) => named.get(place).cloned(),
                None => self.any_blob(&diff_id)?,
            };
            let blob = blob.ok_or_else(gone)?;
            let path = self.blob_file(&blob.digest);
            let file = File::open(&path).map_err(|_| gone())?;
            layers.push(layer_descriptor(&blob, &file).map_err(Error::io("read", &path))?);
            archive.add_blob(&blob, file, &path)?;
        }
        archive.add_document(&config)?;
        if documents.is_empty() {
            documents.push(new_manifest(&config, &layers));
        }
        documents.iter().try_for_each(|document| archive.add_document(document))?;
        Ok(descriptor(&record.reference, &documents[0]))
    }

    /// One of a layer's blobs that is there.
    fn any_blob(&self, diff_id: &Digest) -> Result<Option<BlobRecord>, Error> {
        let record = self.layer(diff_id)?;
        let is_there = |blob: &&BlobRecord| self.blob_file(&blob.digest).exists();
        Ok(record.and_then(|record| record.blobs().find(is_there).cloned()))
    }
}

/// The blobs of an image's layers, the bottom one first.
fn blobs_of(manifest: &[u8]) -> Result<Vec<BlobRecord>, Error> {
    let json = |source| Error::Json { what: "the image's manifest".to_owned(), source };
    let manifest: ImageManifest = serde_json::from_slice(manifest).map_err(json)?;
    let blob = |layer: &Descriptor| Ok(BlobRecord { digest: digest_of(layer)?, size: layer.size() });
    manifest.layers().iter().map(blob).collect()
}

fn new_manifest(config: &[u8], layers: &[Value]) -> Vec<u8> {
    let config = json!({"mediaType": CONFIG, "digest": Digest::of(config).to_string(), "size": config.len()});
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).to_string().into()
}

fn layer_descriptor(blob: &BlobRecord, file: &File) -> io::Result<Value> {
    let media_type = match compression::name_of_file(file)? {
        Some(compression) => format!("{LAYER}+{compression}"),
        None => LAYER.to_owned(),
    };
    Ok(json!({"mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.size}))
}

fn descriptor(reference: &Reference, document: &[u8]) -> Value {
    let said: Value = serde_json::from_slice(document).unwrap_or_default();
    // What came as Docker's stays Docker's; OCI's documents need not say what they are.
    let media_type = match said["mediaType"].as_str() {
        Some(named) => named,
        None if said["manifests"].is_array() => INDEX,
        None => MANIFEST,
    };
    let name = reference.canonical();
    json!({"mediaType": media_type, "digest": Digest::of(document).to_string(), "size": document.len(),
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}})
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
    written: HashSet<Digest>,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.append(name, bytes.len() as u64, bytes)
    }

    fn add_document(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let digest = Digest::of(bytes);
        if !self.written.insert(digest.clone()) {
            return Ok(());
        }
        self.add(&blob_name(&digest), bytes)
    }

    /// Checks the blob while it is copied: an archive with another content is none.
    fn add_blob(&mut self, blob: &BlobRecord, file: File, path: &Path) -> Result<(), Error> {
        if !self.written.insert(blob.digest.clone()) {
            return Ok(());
        }
        let mut reader = HashingReader::new(file);
        self.append(&blob_name(&blob.digest), blob.size, (&mut reader).take(blob.size))?;
        let (actual, size) = reader.finish().map_err(Error::io("read", path))?;
        if (&actual, size) != (&blob.digest, blob.size) {
            return Err(Error::BadBlob { path: path.to_owned() });
        }
        Ok(())
    }

    fn append(&mut self, name: &str, size: u64, content: impl Read) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, content).map_err(cannot_write)
    }
}

fn cannot_write(source: io::Error) -> Error {
    Error::Write { source }
}
