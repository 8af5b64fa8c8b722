//! Images without end: the content of each follows from its number, so that a later boot knows what it must be.

use std::fs;
use std::ops::Range;
use std::sync::OnceLock;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::listing::{Listing, digest};
use crate::random::Random;

/// What a container of any of them can do: look at its own files, and wait.
const APPLETS: [&str; 5] = ["sh", "sha256sum", "dd", "sleep", "echo"];

/// Bytes of its files: nothing, less than a block, some blocks, and more than is written out at once.
const SIZES: [u64; 8] = [0, 1, 100, 4096, 5000, 10_000, 30_000, 100_000];

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One image, for a docker-archive or a registry.
pub struct MadeImage {
    pub number: u64,
    /// What it is called below a registry's name.
    pub reference: String,
    /// `sha256sum` reads it in the container; its path there is [`SUMS`].
    pub digest_of_sums: String,
    pub layers: Vec<MadeLayer>,
}

#[derive(Clone)]
pub struct MadeLayer {
    pub diff_id: String,
    pub listing: Listing,
    /// A tar that is not compressed: blob and content are one.
    pub bytes: Vec<u8>,
}

/// Those that are there from the beginning, so that the first boot has some to remove. The first of them stays.
pub const SET_UP: Range<u64> = 0..6;

/// Before the number, in every reference.
const NAME: &str = "made:";

pub const SUMS: &str = "/sums";

pub fn reference(number: u64) -> String {
    format!("{NAME}{number}")
}

/// What an archive calls it. Where one of them is removed, nothing goes but a name.
pub fn names(number: u64) -> [String; 2] {
    [reference(number), format!("again/{}", reference(number))]
}

/// Of one of these images, wherever it came from.
pub fn number(reference: &str) -> Option<u64> {
    let (registry, number) = reference.split_once(NAME)?;
    (registry.is_empty() || registry.ends_with('/')).then(|| number.parse().ok())?
}

/// Makes image `number`, always the same under the same number.
pub fn make(number: u64) -> MadeImage {
    let mut random = Random::new(number);
    let mut layers = vec![base().clone()];
    let mut sums = String::new();
    let count = 1 + random.below(3);
    for index in 0..count {
        let mut layer = LayerMaker::new();
        layer.fill(index, &mut random, &mut sums);
        if index + 1 == count {
            layer.file(&SUMS[1..], 0o644, sums.as_bytes());
        }
        layers.push(layer.finish());
    }
    MadeImage { number, reference: reference(number), digest_of_sums: digest(sums.as_bytes()), layers }
}

/// The layer that all of them share.
fn base() -> &'static MadeLayer {
    static BASE: OnceLock<MadeLayer> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut layer = LayerMaker::new();
        layer.folder("bin");
        layer.file("bin/busybox", 0o755, &fs::read("/bin/busybox").unwrap());
        APPLETS.iter().for_each(|applet| layer.link(&format!("bin/{applet}"), "busybox"));
        layer.finish()
    })
}

struct LayerMaker {
    tar: Builder<Vec<u8>>,
    listing: Listing,
}

impl LayerMaker {
    fn new() -> LayerMaker {
        LayerMaker { tar: Builder::new(Vec::new()), listing: Listing::default() }
    }

    /// A folder of its own with folders and files, of which `sums` learns the digests.
    fn fill(&mut self, index: u64, random: &mut Random, sums: &mut String) {
        let top = format!("layer-{index}");
        self.folder(&top);
        for folder in 0..1 + random.below(4) {
            let folder = format!("{top}/folder-{folder}");
            self.folder(&folder);
            for file in 0..1 + random.below(8) {
                let name = format!("{folder}/file-{file}");
                let size = random.pick(&SIZES);
                let content: Vec<u8> =
                    (0..size.div_ceil(8)).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect();
                self.file(&name, 0o640, &content);
                sums.push_str(&format!("{}  /{name}\n", digest(&content)));
            }
            self.link(&format!("{folder}/link"), "file-0");
        }
    }

    fn folder(&mut self, name: &str) {
        self.append(name, EntryType::Directory, 0o755, &[], "");
        self.listing.folder(name, 0o755);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.append(name, EntryType::Regular, mode, content, "");
        self.listing.file(name, mode, content);
    }

    fn link(&mut self, name: &str, target: &str) {
        self.append(name, EntryType::Symlink, 0o777, &[], target);
        self.listing.link(name, target);
    }

    fn append(&mut self, name: &str, kind: EntryType, mode: u32, content: &[u8], target: &str) {
        append(&mut self.tar, name, kind, mode, content, target);
    }

    fn finish(self) -> MadeLayer {
        let bytes = self.tar.into_inner().unwrap();
        MadeLayer { diff_id: digest(&bytes), listing: self.listing, bytes }
    }
}

fn append(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, mode: u32, content: &[u8], target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    if !target.is_empty() {
        header.set_link_name(target).unwrap();
    }
    tar.append_data(&mut header, name, content).unwrap();
}

impl MadeImage {
    pub fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<String> =
            self.layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [],
        });
        serde_json::to_vec(&config).unwrap()
    }

    pub fn manifest(&self) -> Vec<u8> {
        let descriptor = |kind: &str, bytes: &[u8]| {
            let digest = format!("sha256:{}", digest(bytes));
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let layers: Vec<_> = self.layers.iter().map(|layer| descriptor(LAYER, &layer.bytes)).collect();
        let config = descriptor(CONFIG, &self.config());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        serde_json::to_vec(&manifest).unwrap()
    }

    pub fn archive(&self) -> Vec<u8> {
        let config = self.config();
        let config_name = format!("{}.json", digest(&config));
        let names: Vec<String> = self.layers.iter().map(|layer| format!("{}.tar", layer.diff_id)).collect();
        let tags = self::names(self.number);
        let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
        let mut tar = Builder::new(Vec::new());
        let mut file =
            |name: &str, bytes: &[u8]| append(&mut tar, name, EntryType::Regular, 0o644, bytes, "");
        file("manifest.json", &serde_json::to_vec(&manifest).unwrap());
        file(&config_name, &config);
        names.iter().zip(&self.layers).for_each(|(name, layer)| file(name, &layer.bytes));
        tar.into_inner().unwrap()
    }
}
