//! The disk of the power cuts itself: what it keeps, what it may lose, and that QEMU's own tools understand it.

#[path = "powercut/disk.rs"]
mod disk;
#[path = "powercut/nbd.rs"]
mod nbd;
#[path = "simulation/random.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod random;
#[path = "powercut/supply.rs"]
mod supply;

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;

use disk::{Content, Disk, Loss, Mercy, SECTOR};
use random::Random;
use supply::{Supply, When};

const MIB: u64 = 1 << 20;

/// A mebibyte of `b`.
fn base() -> File {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &vec![b'b'; MIB as usize]).unwrap();
    file
}

fn write(disk: &mut Disk, offset: u64, byte: u8, length: usize) {
    disk.write(offset, Content::Bytes(vec![byte; length]), false).unwrap();
}

fn read(disk: &Disk, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    disk.read(offset, &mut bytes).unwrap();
    bytes
}

const NOTHING: Mercy = Mercy { kept: 0, torn: 0 };
const HALF: Mercy = Mercy { kept: 50, torn: 0 };
const TORN: Mercy = Mercy { kept: 0, torn: 100 };

#[test]
fn what_was_written_is_read_over_the_base_at_any_offset() {
    let mut disk = Disk::new(base()).unwrap();
    write(&mut disk, 4000, b'x', 200);
    disk.write(8192, Content::Zeroes(512), false).unwrap();
    assert_eq!(read(&disk, 3999, 202), [vec![b'b'], vec![b'x'; 200], vec![b'b']].concat());
    assert_eq!(read(&disk, 8190, 516), [vec![b'b'; 2], vec![0; 512], vec![b'b'; 2]].concat());
    assert!(disk.has(MIB - 1, 1) && !disk.has(MIB - 1, 2) && !disk.has(u64::MAX, 2));
}

#[test]
fn what_was_flushed_lasts_and_what_was_not_is_lost() {
    let mut disk = Disk::new(base()).unwrap();
    write(&mut disk, 0, b'1', 4096);
    disk.flush();
    write(&mut disk, 0, b'2', 512);
    disk.write(4096, Content::Bytes(vec![b'f'; 512]), true).unwrap();
    let loss = disk.cut(NOTHING, &mut Random::new(1)).unwrap();
    assert_eq!(loss, Loss { kept: 1, torn: 0, lost: 1 });
    assert_eq!(read(&disk, 0, 4096), vec![b'1'; 4096]);
    assert_eq!(read(&disk, 4096, 1024), [vec![b'f'; 512], vec![b'b'; 512]].concat());
}

#[test]
fn a_later_write_may_last_where_an_earlier_one_is_lost_but_never_lies_under_it() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut disk = Disk::new(base()).unwrap();
        write(&mut disk, 0, b'1', SECTOR);
        write(&mut disk, 0, b'2', SECTOR);
        write(&mut disk, SECTOR as u64, b'3', SECTOR);
        disk.cut(HALF, &mut Random::new(seed)).unwrap();
        seen.insert((read(&disk, 0, 1)[0], read(&disk, SECTOR as u64, 1)[0]));
    }
    let all = [b'b', b'1', b'2'].into_iter().flat_map(|first| [(first, b'b'), (first, b'3')]);
    assert_eq!(seen, all.collect());
    let mut disk = Disk::new(base()).unwrap();
    write(&mut disk, 0, b'1', 512);
    write(&mut disk, 0, b'2', 512);
    disk.cut(Mercy { kept: 100, torn: 0 }, &mut Random::new(1)).unwrap();
    assert_eq!(read(&disk, 0, 1), b"2");
}

#[test]
fn an_earlier_write_never_comes_back_over_one_that_was_made_to_last() {
    let mut disk = Disk::new(base()).unwrap();
    write(&mut disk, 0, b'1', 512);
    disk.write(0, Content::Bytes(vec![b'2'; 512]), true).unwrap();
    disk.cut(Mercy { kept: 100, torn: 0 }, &mut Random::new(1)).unwrap();
    assert_eq!(read(&disk, 0, 1), b"2");
}

#[test]
fn a_write_is_torn_between_sectors_and_never_within_one() {
    let mut disk = Disk::new(base()).unwrap();
    write(&mut disk, 0, b'x', 64 * SECTOR);
    let loss = disk.cut(TORN, &mut Random::new(7)).unwrap();
    assert_eq!(loss, Loss { kept: 0, torn: 1, lost: 0 });
    let after = read(&disk, 0, 64 * SECTOR);
    let sectors: Vec<&[u8]> = after.chunks(SECTOR).collect();
    assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    assert!(sectors.iter().any(|sector| sector[0] == b'x'));
    assert!(sectors.iter().any(|sector| sector[0] == b'b'));
}

#[test]
fn a_restored_disk_is_as_it_was() {
    let mut disk = Disk::new(base()).unwrap();
    write(&mut disk, 0, b'1', 512);
    disk.flush();
    let snapshot = disk.snapshot();
    write(&mut disk, 0, b'2', 512);
    disk.flush();
    disk.restore(&snapshot);
    assert_eq!(read(&disk, 0, 1), b"1");
    disk.cut(Mercy { kept: 100, torn: 0 }, &mut Random::new(1)).unwrap();
    assert_eq!(read(&disk, 0, 1), b"1");
}

/// `qemu-io` with these commands on a supply, without a cache of its own; what it printed.
fn qemu_io(socket: &std::path::Path, commands: &[&str]) -> (bool, String) {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw", "-t", "writeback"]);
    command.args(commands.iter().flat_map(|line| ["-c", line]));
    let output = command.arg(format!("nbd+unix:///?socket={}", socket.display())).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn qemu_writes_flushes_and_reads_it_over_nbd() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("disk");
    let supply = Supply::new(base(), &socket).unwrap();
    let write = ["write -P 1 0 64k", "write -z 64k 4k", "discard 68k 4k", "flush", "write -f -P 2 128k 4k"];
    let (ok, text) = qemu_io(&socket, &write);
    assert!(ok, "{text}");
    let reads = ["read -P 1 0 64k", "read -P 0 64k 8k", "read -P 98 72k 4k", "read -P 2 128k 4k"];
    let (ok, text) = qemu_io(&socket, &reads);
    assert!(ok && !text.contains("failed"), "{text}");
    supply.restart(NOTHING, &mut Random::new(1)).unwrap();
    let (ok, text) = qemu_io(&socket, &reads);
    assert!(ok && !text.contains("failed"), "{text}");
}

#[test]
fn when_the_power_is_off_there_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("disk");
    let supply = Supply::new(base(), &socket).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    supply.cut_at(When { requests: 2, unflushed: 1 }, move || sender.send(()).unwrap());
    let address = format!("nbd+unix:///?socket={}", socket.display());
    let mut client = Command::new("qemu-io")
        .args(["-f", "raw", "-t", "writeback", "-c", "write -P 1 0 4k", "-c", "flush", &address])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    receiver.recv().unwrap();
    assert!(client.try_wait().unwrap().is_none(), "it waits for the flush");
    client.kill().unwrap();
    client.wait().unwrap();
    let loss = supply.restart(NOTHING, &mut Random::new(1)).unwrap();
    assert_eq!(loss, Loss { kept: 0, torn: 0, lost: 1 });
    let (ok, text) = qemu_io(&socket, &["read -P 98 0 4k"]);
    assert!(ok && !text.contains("failed"), "{text}");
}

#[test]
fn with_the_power_comes_back_what_was_kept_and_a_copy_is_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("disk");
    let supply = Supply::new(base(), &socket).unwrap();
    let before = supply.snapshot();
    assert!(qemu_io(&socket, &["write -P 1 0 4k", "flush"]).0);
    supply.cut_now();
    let loss = supply.restart(NOTHING, &mut Random::new(1)).unwrap();
    assert_eq!(loss, Loss::default());
    let copy = base();
    supply.snapshot().write_over(&copy).unwrap();
    let mut start = [0; 4097];
    std::os::unix::fs::FileExt::read_exact_at(&copy, &mut start, 0).unwrap();
    assert_eq!(start[..], [vec![1; 4096], vec![b'b']].concat());
    supply.restore(&before);
    let (ok, text) = qemu_io(&socket, &["read -P 98 0 4k"]);
    assert!(ok && !text.contains("failed"), "{text}");
}
