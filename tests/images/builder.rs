//! Builds layers, layouts and archives byte by byte, good and bad ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use podkeep::image::{Digest, Error, Image, Imported, Reference, Store};
use serde_json::{Value, json};
use tar::{EntryType, Header};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A tar file under construction; names are written as they are, however bad.
#[derive(Default)]
pub struct Layer {
    bytes: Vec<u8>,
}

impl Layer {
    pub fn new() -> Layer {
        Layer::default()
    }

    pub fn file(self, name: &str, content: &str) -> Layer {
        self.entry(EntryType::Regular, name, "", 0o644, content.as_bytes())
    }

    pub fn folder(self, name: &str) -> Layer {
        self.entry(EntryType::Directory, name, "", 0o755, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Layer {
        self.entry(EntryType::Symlink, name, target, 0o777, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Layer {
        self.entry(EntryType::Link, name, target, 0o644, b"")
    }

    pub fn entry(self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        self.raw(header, content)
    }

    /// An entry of root's, with the size of its content.
    pub fn raw(self, header: Header, content: &[u8]) -> Layer {
        let mut layer = self.claiming(header, content.len() as u64);
        layer.bytes.extend_from_slice(content);
        layer.bytes.resize(layer.bytes.len().next_multiple_of(512), 0);
        layer
    }

    /// A header that says its content has `size` bytes, and no content.
    pub fn claiming(mut self, mut header: Header, size: u64) -> Layer {
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self
    }

    /// An extended header for the entry that follows.
    pub fn pax(self, records: &[(&str, impl AsRef<[u8]>)]) -> Layer {
        let mut content = Vec::new();
        for (key, value) in records {
            let value = value.as_ref();
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.entry(EntryType::XHeader, "PaxHeaders/x", "", 0o644, &content)
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A folder with a store in it, and room for sources.
pub struct World {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        World { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn layout(&self, name: &str) -> Layout {
        Layout::at(&self.path(name))
    }

    /// Imports an image of these uncompressed layers, called `web:1`.
    pub fn import_layers(&self, layers: &[Vec<u8>]) -> Result<Vec<Imported>, Error> {
        let mut layout = self.layout("source");
        let blobs: Vec<_> = layers.iter().map(|layer| (layer.clone(), layer.clone())).collect();
        let manifest = layout.image(&blobs, json!({"Cmd": ["sh"]}));
        layout.name("web:1", manifest);
        self.store.import(&layout.write())
    }

    pub fn find(&self, reference: &str) -> Option<Image> {
        self.store.find(&reference.parse::<Reference>().unwrap()).unwrap()
    }

    /// The folder of the one layer that was imported.
    pub fn unpacked(&self, layer: Layer) -> PathBuf {
        self.import_layers(&[layer.finish()]).unwrap();
        self.store.layers_dir().join(&self.find("web:1").unwrap().layers[0])
    }
}

/// An OCI layout under construction.
pub struct Layout {
    pub root: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    pub fn at(root: &Path) -> Layout {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { root: root.to_owned(), manifests: Vec::new() }
    }

    /// Writes a blob and returns its descriptor without a media type.
    pub fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.root.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"digest": digest.to_string(), "size": bytes.len()})
    }

    pub fn typed_blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let mut descriptor = self.blob(bytes);
        descriptor["mediaType"] = json!(media_type);
        descriptor
    }

    /// Writes an image of layers `(blob, uncompressed)` and returns its manifest's descriptor.
    pub fn image(&self, layers: &[(Vec<u8>, Vec<u8>)], config: Value) -> Value {
        self.image_for(layers, config, architecture())
    }

    pub fn image_for(&self, layers: &[(Vec<u8>, Vec<u8>)], config: Value, architecture: &str) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|(_, plain)| Digest::of(plain).to_string()).collect();
        let configuration = json!({"architecture": architecture, "os": "linux", "config": config,
            "created": "2024-05-06T07:08:09Z", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.typed_blob(
            "application/vnd.oci.image.config.v1+json",
            &serde_json::to_vec(&configuration).unwrap(),
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|(blob, _)| self.typed_blob("application/vnd.oci.image.layer.v1.tar", blob))
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.typed_blob(MANIFEST, &serde_json::to_vec(&manifest).unwrap())
    }

    pub fn name(&mut self, name: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.manifests.push(descriptor);
    }

    pub fn unnamed(&mut self, descriptor: Value) {
        self.manifests.push(descriptor);
    }

    pub fn write(self) -> PathBuf {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        fs::write(self.root.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
        self.root
    }
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A tar file of a folder's content.
pub fn archive_of(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).unwrap();
    builder.into_inner().unwrap()
}

/// An error and all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
