//! What an image may demand of this machine. Each bound lies far above every real image and far below what does harm.

/// Bytes of an index, manifest or configuration: registries refuse larger manifests.
pub(super) const MAX_JSON: u64 = 4 << 20;
/// Layers of one image: Docker's own limit is 127, and the names of 120 fit into one page of mount options with room for the rest.
pub(super) const MAX_LAYERS: usize = 120;
/// Indexes above a manifest: tools nest two at most.
pub(super) const MAX_INDEX_DEPTH: usize = 4;
/// Symlinks from one member of an archive to the next: `docker save` once wrote one for a shared layer.
pub(super) const MAX_MEMBER_LINKS: usize = 8;

/// Files of an archive: one for each layer and document of its images.
pub(super) const MAX_MEMBERS: usize = 100_000;
/// Bytes of their names, which are held in memory: a blob's has 77.
pub(super) const MAX_MEMBER_NAMES: usize = 8 << 20;

/// Bounds on unpacking one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Inodes are shared by the whole machine; the largest layers of language toolchains have some 300,000 files.
    pub(super) entries: u64,
    /// Bytes after decompression, and bytes of all files with their holes: what stops a compression bomb.
    pub(super) bytes: u64,
    /// Bytes that any blob may decompress to.
    pub(super) unsuspected: u64,
    /// How many times its own size a blob may decompress to beyond that: texts come to some 20 times, and a bomb of zeros to 1,000 times with
    /// gzip, to far more with zstd.
    pub(super) expansion: u64,
    /// Bytes between two entries' contents: extended headers and long names are held in memory.
    pub(super) header_bytes: u64,
    /// The kernel's PATH_MAX.
    pub(super) path_bytes: usize,
    /// Names of a path: the folders above an entry, and its own.
    pub(super) depth: usize,
}

impl Limits {
    /// Bytes that so many compressed ones may become.
    pub(super) fn bytes_of(&self, compressed: u64) -> u64 {
        self.bytes.min(self.unsuspected.max(compressed.saturating_mul(self.expansion)))
    }
}

pub(super) const LIMITS: Limits = Limits {
    entries: 1_000_000,
    bytes: 64 << 30,
    unsuspected: 1 << 30,
    expansion: 256,
    header_bytes: 2 << 20,
    path_bytes: 4096,
    depth: 256,
};
