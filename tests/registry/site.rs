//! A store to pull into, and images of the tests' own that a [`Server`] serves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use podkeep::http::Cancel;
use podkeep::image::{
    Credentials, Digest, Failure, Hosts, Image, Progress, PullError, PullOptions, Reference, Store, pull,
};
use serde_json::{Value, json};

use super::builder::{Layer, architecture, gzip};
use super::server::{Answer, Request};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A store in a folder of its own.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub hosts: Hosts,
    pub credentials: Credentials,
    pub cancel: Cancel,
    /// What was tried again, and why.
    pub waits: Mutex<Vec<String>>,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        std::fs::create_dir(dir.path().join("certs.d")).unwrap();
        let (credentials, cancel) = (Credentials::default(), Cancel::default());
        let hosts = Hosts::new(dir.path().join("certs.d"));
        Site { dir, store, hosts, credentials, cancel, waits: Mutex::default() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `certs.d/<registry>/hosts.toml`.
    pub fn hosts(&self, registry: &str, text: &str) {
        let folder = self.path("certs.d").join(registry);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("hosts.toml"), text).unwrap();
    }

    /// A user and password for a registry.
    pub fn log_in(&mut self, registry: &str, user: &str, password: &str) {
        let text = json!({"auths": {registry: {"username": user, "password": password}}}).to_string();
        self.credentials = Credentials::parse("test", text.as_bytes()).unwrap();
    }

    pub fn pull(&self, reference: &str) -> Result<Image, PullError> {
        self.pull_with(reference, &|_| ())
    }

    /// As a person asks for it, who wants all of it.
    pub fn pull_whole(&self, reference: &str) -> Result<Image, PullError> {
        self.pull_so(reference, true, &|_| ())
    }

    pub fn pull_with(
        &self,
        reference: &str,
        watch: &(dyn Fn(&Progress<'_>) + Sync),
    ) -> Result<Image, PullError> {
        self.pull_so(reference, false, watch)
    }

    fn pull_so(
        &self,
        reference: &str,
        with_spares: bool,
        watch: &(dyn Fn(&Progress<'_>) + Sync),
    ) -> Result<Image, PullError> {
        let progress = |progress: Progress<'_>| {
            watch(&progress);
            if let Progress::Waits(wait) = progress {
                self.waits.lock().unwrap().push(wait.why);
            }
        };
        let options = PullOptions {
            hosts: self.hosts.clone(),
            credentials: self.credentials.clone(),
            with_spares,
            progress: &progress,
            cancel: self.cancel.clone(),
        };
        pull(&self.store, &reference.parse::<Reference>().unwrap(), &options)
    }

    /// Pulls, which must fail, and leave no image and nothing half done.
    pub fn refused(&self, reference: &str) -> Failure {
        let error = self.pull(reference).unwrap_err();
        self.assert_empty();
        *error.failure
    }

    pub fn assert_empty(&self) {
        for folder in ["layers", "diffs", "configs", "refs", "manifests", "blobs", "tmp"] {
            assert_eq!(count(&self.path("store").join(folder)), 0, "{folder}");
        }
    }

    /// The content of a file of an image.
    pub fn read(&self, image: &Image, path: &str) -> String {
        String::from_utf8(self.store.read_file(image, path, 1 << 20).unwrap().unwrap()).unwrap()
    }
}

/// A text of so many bytes that compresses to four fifths; another one for each seed but 0.
pub fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed;
    let mut next = || {
        // xorshift
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(33 + (state % 90) as u8)
    };
    (0..bytes).map(|_| next()).collect()
}

pub fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// An image as a registry has it: documents and blobs by digest, tags by name.
#[derive(Clone, Default)]
pub struct Served {
    pub blobs: HashMap<String, Vec<u8>>,
    /// Media type and content, by tag or digest.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    /// Digests of the layers' blobs, the bottom one first.
    pub layers: Vec<String>,
}

impl Served {
    /// An image of one small layer, tagged `1`.
    pub fn small() -> Served {
        Served::of_layers(&[Layer::new().file("hello", "world\n").finish()])
    }

    /// An image whose layer has so many bytes, compressed, and a little more.
    pub fn large(bytes: usize) -> Served {
        let content = noise(1, bytes * 5 / 4);
        Served::of_layers(&[Layer::new().file("hello", "world\n").file("noise", &content).finish()])
    }

    pub fn of_layers(layers: &[Vec<u8>]) -> Served {
        let mut served = Served::default();
        let digest = served.add_image(layers, architecture());
        let manifest = served.manifests[&digest].clone();
        served.manifests.insert("1".to_owned(), manifest);
        served
    }

    /// Adds a manifest and what it names; returns its digest.
    pub fn add_image(&mut self, layers: &[Vec<u8>], architecture: &str) -> String {
        let blobs: Vec<_> = layers.iter().map(|layer| (gzip(layer), Digest::of(layer))).collect();
        self.add_image_of(blobs, architecture)
    }

    /// The same of layers' blobs, and their diff IDs.
    pub fn add_image_of(&mut self, layers: Vec<(Vec<u8>, Digest)>, architecture: &str) -> String {
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect();
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config =
            self.add_blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let blobs: Vec<_> = layers
            .into_iter()
            .map(|(blob, _)| self.add_blob("application/vnd.oci.image.layer.v1.tar", blob))
            .collect();
        self.layers = blobs.iter().map(|blob| blob["digest"].as_str().unwrap().to_owned()).collect();
        self.add_manifest(
            MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": blobs}),
        )
    }

    pub fn add_blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = Digest::of(&bytes).to_string();
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest, bytes);
        descriptor
    }

    pub fn add_manifest(&mut self, media_type: &str, document: &Value) -> String {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes).to_string();
        self.manifests.insert(digest.clone(), (media_type.to_owned(), bytes));
        digest
    }

    /// The blob of the first layer.
    pub fn layer(&self) -> &[u8] {
        &self.blobs[&self.layers[0]]
    }

    /// What an honest registry answers.
    pub fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        let name = path.rsplit('/').next().unwrap();
        if path.contains("/manifests/") {
            let Some((media_type, bytes)) = self.manifests.get(name) else { return missing() };
            let digest = Digest::of(bytes).to_string();
            let answer = Answer::ok(bytes.clone()).header("content-type", media_type);
            return answer.header("docker-content-digest", digest);
        }
        let Some(bytes) = self.blobs.get(name) else { return missing() };
        match request.from() {
            0 => Answer::ok(bytes.clone()),
            from => Answer::new(206, &bytes[from..])
                .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
        }
    }
}

pub fn missing() -> Answer {
    Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
}

/// Whether a request is for the blob with this digest.
pub fn is_for(request: &Request, digest: &str) -> bool {
    request.path.contains(&format!("/blobs/{digest}"))
}
