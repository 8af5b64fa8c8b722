//! What a layer may demand, with smaller bounds than the real ones.

use std::fs;
use std::os::fd::OwnedFd;

use super::super::limits::LIMITS;
use super::*;

const MIB: usize = 1 << 20;

/// A tar of these files.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Unpacks a blob of this tar within these bounds; how many bytes its files have.
fn unpacked(tar: &[u8], blob: &[u8], limits: Limits) -> Result<u64, LayerError> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    let root = OwnedFd::from(File::open(dir.path().join("tree")).unwrap());
    let listing = File::create(dir.path().join("listing")).unwrap();
    let known = (Digest::of(blob), blob.len() as u64);
    let expected = Expected { blob: Some(&known), diff_id: &Digest::of(tar), form: &Form::Tar };
    let target = Target { root, listing: &listing };
    unpack(&mut &*blob, None, &expected, target, &limits).map(|unpacked| unpacked.size)
}

fn refused(tar: &[u8], blob: &[u8], limits: Limits) -> String {
    let error = unpacked(tar, blob, limits).unwrap_err();
    let source = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn a_decompression_bomb_is_refused_and_what_is_large_by_itself_is_not() {
    let limits = Limits { unsuspected: MIB as u64, expansion: 16, ..LIMITS };
    let bomb = tar_of(&[("zeros", &vec![0; 3 * MIB])]);
    let blob = zstd(&bomb);
    assert!(blob.len() < MIB / 16);
    let expected = "it unpacks to more than 1048576 bytes, and to more than 16 times its blob";
    assert_eq!(refused(&bomb, &blob, limits), expected);
    assert_eq!(unpacked(&bomb, &bomb, limits).unwrap(), 3 * MIB as u64, "uncompressed");
    let small = tar_of(&[("zeros", &vec![0; MIB / 2])]);
    assert_eq!(unpacked(&small, &zstd(&small), limits).unwrap(), MIB as u64 / 2);
    // Zeros that follow the end of the archive are decompressed, too.
    let behind = [tar_of(&[]), vec![0; 3 * MIB]].concat();
    assert_eq!(refused(&behind, &zstd(&behind), limits), expected);
}

#[test]
fn more_bytes_than_a_layer_may_have_are_refused_however_they_come() {
    let limits = Limits { bytes: MIB as u64, ..LIMITS };
    let half = vec![b'x'; MIB / 2];
    let layer = tar_of(&[("a", &half), ("b", &half), ("c", &half)]);
    assert_eq!(refused(&layer, &layer, limits), "it unpacks to more than 1048576 bytes");
    let behind = [tar_of(&[]), vec![0; MIB]].concat();
    assert_eq!(refused(&behind, &behind, limits), "it unpacks to more than 1048576 bytes");
}

#[test]
fn more_entries_than_a_layer_may_have_are_refused() {
    let limits = Limits { entries: 3, ..LIMITS };
    let files: Vec<(&str, &[u8])> = ["a", "b", "c", "d"].map(|name| (name, &b"x"[..])).to_vec();
    let (few, many) = (tar_of(&files[..3]), tar_of(&files));
    assert_eq!(unpacked(&few, &few, limits).unwrap(), 3);
    assert_eq!(refused(&many, &many, limits), "it holds more than 3 entries");
}

#[test]
fn paths_that_are_too_deep_or_too_long_are_refused_by_name() {
    let limits = Limits { depth: 3, path_bytes: 20, ..LIMITS };
    let refused = |path: &str| {
        let layer = tar_of(&[(path, b"")]);
        refused(&layer, &layer, limits)
    };
    let why = "its path is longer than 20 bytes or deeper than 3 folders";
    for path in ["a/b/c/d", "a/b/aaaaaaaaaaaaaaaaa"] {
        assert_eq!(refused(path), format!("entry {path:?}: {why}"));
    }
    let layer = tar_of(&[("a/b/aaaaaaaaaaaaaaaa", b"x")]);
    assert_eq!(unpacked(&layer, &layer, limits).unwrap(), 1);
}

/// What is too large to be decompressed while it comes, after what is not, with the first bytes here already.
#[test]
fn a_blob_that_has_to_come_whole_first_goes_on_from_the_file_that_keeps_it() {
    let tar = tar_of(&[("one", &[1; 3 * MIB]), ("two", &[2; 3 * MIB])]);
    let frame = |bytes: &[u8], window_log| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(window_log)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let blob = [frame(&tar[..4 * MIB], 20), frame(&tar[4 * MIB..], 25)].concat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part");
    fs::write(&path, &blob[..100]).unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    let root = OwnedFd::from(File::open(dir.path().join("tree")).unwrap());
    let listing = File::create(dir.path().join("listing")).unwrap();
    let writer = File::options().append(true).open(&path).unwrap();
    let keep = Keep::of_download(writer, 100, File::open(&path).unwrap());
    let known = (Digest::of(&blob), blob.len() as u64);
    let expected = Expected { blob: Some(&known), diff_id: &Digest::of(&tar), form: &Form::Tar };
    let target = Target { root, listing: &listing };
    let unpacked = unpack(&mut &*blob, Some(keep), &expected, target, &LIMITS).unwrap();
    assert_eq!((unpacked.size, unpacked.blob), (6 * MIB as u64, known));
    assert!(fs::read(dir.path().join("tree/two")).unwrap() == [2; 3 * MIB]);
    assert!(fs::read(&path).unwrap() == blob);
}
