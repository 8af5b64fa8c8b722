//! What reaches the log of what a container writes; crashes at each step are simulated, real ones are in `tests/`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::pipe::fcntl_setpipe_size;

use super::super::read::{From, Reader};
use super::super::testing::Bench;
use super::*;

fn unlimited() -> Policy {
    Policy { max_size: None, max_files: 1 }
}

fn sized(max_size: u64, max_files: u32) -> Policy {
    Policy { max_size: NonZeroU64::new(max_size), max_files }
}

#[test]
fn an_unfinished_line_waits_for_its_end() {
    let mut bench = Bench::new(unlimited());
    assert_eq!(bench.say("a\nb").taken, 2);
    assert_eq!(bench.say("c").taken, 0);
    assert_eq!(bench.records(), ["stdout F a"]);
    assert_eq!(bench.say("\n").taken, 3);
    assert_eq!(bench.records(), ["stdout F a", "stdout F bc"]);
}

#[test]
fn the_end_of_the_container_writes_the_rest_as_a_part() {
    let mut bench = Bench::new(unlimited());
    bench.say("a\nb");
    assert_eq!(bench.finish().taken, 1);
    assert_eq!(bench.finish().taken, 0);
    assert_eq!(bench.records(), ["stdout F a", "stdout P b"]);
}

#[test]
fn a_long_line_is_cut_while_it_is_written() {
    let mut bench = Bench::new(unlimited());
    assert_eq!(bench.say(&"x".repeat(cri::MAX_PIECE)).taken, 0);
    assert_eq!(bench.say("y").taken, cri::MAX_PIECE);
    bench.say("\n");
    let expected = [format!("stdout P {}", "x".repeat(cri::MAX_PIECE)), "stdout F y".to_owned()];
    assert_eq!(bench.records(), expected);
}

#[test]
fn single_bytes_become_lines() {
    let mut bench = Bench::new(unlimited());
    for byte in "one\ntwo\n\n".chars() {
        bench.say(&byte.to_string());
    }
    assert_eq!(bench.records(), ["stdout F one", "stdout F two", "stdout F "]);
}

#[test]
fn the_budget_ends_a_call_and_more_says_so() {
    let mut bench = Bench::new(unlimited());
    bench.end.write_all("x\n".repeat(30_000).as_bytes()).expect("write");
    let pumped = bench.pump.pump(&bench.fifo, Stream::Stdout, &mut bench.log, 1).expect("pump");
    assert!(pumped.more && pumped.taken > 0 && pumped.taken < 60_000, "{pumped:?}");
    let rest = bench.pump();
    assert!(!rest.more);
    assert_eq!(pumped.taken + rest.taken, 60_000);
    assert_eq!(bench.records().len(), 30_000);
}

/// A writer each of whose writes becomes a packet.
fn packets(fifo: &Fifo) -> File {
    let end = fifo.container_end().expect("the container's end");
    // A FIFO refuses this flag when it is opened.
    rustix::fs::fcntl_setfl(&end, OFlags::RDWR | OFlags::DIRECT).expect("packet mode");
    File::from(end)
}

/// Each write of a pipe in packet mode takes a slot of its own: 16 bytes fill the pipe.
#[test]
fn a_pipe_full_of_an_unfinished_line_is_emptied() {
    let mut bench = Bench::new(unlimited());
    let mut packets = packets(&bench.fifo);
    for _ in 0..16 {
        assert_eq!(bench.pump().taken, 0);
        packets.write_all(b"x").expect("write");
    }
    assert_eq!(bench.pump().taken, 16);
    packets.write_all(b"y\n").expect("write");
    bench.pump();
    assert_eq!(bench.records(), ["stdout P xxxxxxxxxxxxxxxx", "stdout F y"]);
}

/// `tee` shows 16 slots of such a pipe, and the newline stands in the 18th.
#[test]
fn a_newline_behind_what_can_be_seen_is_not_waited_for() {
    let mut bench = Bench::new(unlimited());
    fcntl_setpipe_size(&bench.fifo, 4 * pipes::BATCH).expect("a larger pipe");
    let mut packets = packets(&bench.fifo);
    for _ in 0..17 {
        packets.write_all(b"x").expect("write");
    }
    packets.write_all(b"\n").expect("write");
    assert_eq!(bench.pump().taken, 18);
    assert_eq!(bench.records(), ["stdout P xxxxxxxxxxxxxxxx", "stdout F x"]);
}

#[test]
fn no_file_grows_beyond_the_limit_and_old_ones_go() {
    let mut bench = Bench::new(sized(1000, 3));
    for i in 0..100 {
        bench.say(&format!("line {i}\n").repeat(3));
    }
    let files = bench.files();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let length = fs::metadata(&file.path).expect("stat").len();
        assert!(length <= 1000 && length > 0, "{length}");
    }
    let last = bench.records();
    assert_eq!(last.last().map(String::as_str), Some("stdout F line 99"));
}

#[test]
fn a_file_that_is_exactly_full_is_not_rotated_before_the_next_line() {
    let record = "2026-01-02T03:04:05.000000006+00:00 stdout F abc\n".len() as u64;
    let mut bench = Bench::new(sized(2 * record, 5));
    bench.say("abc\nabc\n");
    assert_eq!(bench.files().len(), 1);
    bench.say("abc\n");
    assert_eq!(bench.files().len(), 2);
    assert_eq!(bench.records(), ["stdout F abc"]);
}

#[test]
fn a_line_larger_than_a_file_gets_one_of_its_own() {
    let mut bench = Bench::new(sized(100, 5));
    bench.say(&format!("a\n{}\nb\n", "x".repeat(500)));
    assert_eq!(bench.files().len(), 3);
    assert_eq!(bench.records(), ["stdout F b"]);
}

#[test]
fn a_log_emptied_or_removed_by_hand_goes_on() {
    let mut bench = Bench::new(unlimited());
    bench.say("a\n");
    File::create(bench.log.path()).expect("empty it");
    bench.say("b\n");
    assert_eq!(bench.records(), ["stdout F b"]);
    fs::remove_dir_all(bench.dir()).expect("remove");
    bench.say("c\n");
    assert_eq!(bench.records(), ["stdout F c"]);
}

#[test]
fn a_record_torn_by_a_power_cut_is_cut_off() {
    let mut bench = Bench::new(unlimited());
    bench.say("a\n");
    let mut file = OpenOptions::new().append(true).open(bench.log.path()).expect("open");
    file.write_all(b"2026-01-02T03:04:05+00:00 stdout F to").expect("write");
    bench.log = bench.pump.open_log(bench.dir(), 0, unlimited()).expect("open");
    bench.say("b\n");
    assert_eq!(bench.records(), ["stdout F a", "stdout F b"]);
}

#[test]
fn a_full_disk_drops_lines_and_the_log_says_how_many() {
    let mut bench = Bench::new(unlimited());
    bench.say("before\n");
    bench.log.write_to("/dev/full");
    let first = bench.say("lost\nlost too\nun");
    let lost = |lines| Some(Lost { lines, cause: Errno::ENOSPC });
    assert_eq!((first.taken, first.lost), (14, lost(2)));
    assert_eq!(bench.say("finished\n").lost, lost(1));
    bench.log = {
        let mut log = bench.pump.open_log(bench.dir(), 0, unlimited()).expect("open");
        log.lost = bench.log.lost;
        log
    };
    assert_eq!(bench.say("after\n").lost, None);
    bench.say("later\n");
    let notice = "stderr F podkeep: 3 lines lost: No space left on device";
    assert_eq!(bench.records(), ["stdout F before", notice, "stdout F after", "stdout F later"]);
}

#[test]
fn a_folder_that_cannot_be_made_blocks_nobody() {
    let mut bench = Bench::new(unlimited());
    let file = bench.journal();
    bench.log = bench.pump.open_log(&file.join("below"), 0, unlimited()).expect("open");
    let pumped = bench.say("a\nb\n");
    assert_eq!((pumped.taken, pumped.lost), (4, Some(Lost { lines: 2, cause: Errno::ENOTDIR })));
    assert_eq!(bench.pump().taken, 0);
}

/// Goes through steps 4 and 5 and a part of 6, then lets a new worker recover.
fn killed_while_writing(written: &[u8], committed: bool) -> (Bench, Option<Recovered>) {
    let mut bench = Bench::new(unlimited());
    bench.say("before\n");
    bench.end.write_all(b"one\ntwo\n").expect("write");
    let end = bench.log.end().expect("end");
    let target = Target {
        path: bench.log.path().to_owned(),
        inode: end.inode,
        offset: end.offset,
        stream: Stream::Stdout,
        lost: None,
    };
    bench.pump.journal.begin(&target);
    bench.pump.pipes.hold(&bench.fifo, 8).expect("hold");
    let mut file = OpenOptions::new().append(true).open(bench.log.path()).expect("open");
    file.write_all(written).expect("write");
    if committed {
        bench.pump.journal.commit();
    }
    let copy = |fd: &OwnedFd| fd.as_fd().try_clone_to_owned().expect("dup");
    let holding =
        Holding { read: copy(&bench.pump.pipes.holding.read), write: copy(&bench.pump.pipes.holding.write) };
    let (pump, recovered) = Pump::open(&bench.journal(), holding).expect("open again");
    bench.pump = pump;
    bench.log = bench.pump.open_log(bench.dir(), 0, unlimited()).expect("open");
    (bench, recovered)
}

const WRITTEN: &[u8] = b"T stdout F one\nT stdout F two\n";

#[test]
fn a_batch_written_in_part_is_written_again() {
    for part in [0, 1, 15, 16, WRITTEN.len()] {
        let (mut bench, recovered) = killed_while_writing(&WRITTEN[..part], false);
        let path = Some(bench.log.path().to_owned());
        assert_eq!(recovered, Some(Recovered { path, bytes: 8, lost: None }), "{part}");
        bench.say("after\n");
        let expected = ["stdout F before", "stdout F one", "stdout F two", "stdout F after"];
        assert_eq!(bench.records(), expected, "{part}");
    }
}

#[test]
fn a_committed_batch_is_not_written_again() {
    let (mut bench, recovered) = killed_while_writing(WRITTEN, true);
    assert_eq!(recovered, Some(Recovered { path: None, bytes: 8, lost: None }));
    bench.say("after\n");
    assert_eq!(bench.records(), ["stdout F before", "stdout F one", "stdout F two", "stdout F after"]);
}

#[test]
fn a_container_that_reads_its_own_output_harms_only_itself() {
    let mut bench = Bench::new(unlimited());
    bench.end.write_all(b"one\ntwo\n").expect("write");
    bench.pump.pipes.peek(&bench.fifo).expect("peek");
    let mut thief = bench.end.try_clone().expect("dup");
    thief.read_exact(&mut [0; 4]).expect("read");
    let end = bench.log.end().expect("end");
    let now = bench.pump.clock.now();
    let formatted = bench.pump.format(Stream::Stdout, None, &now, usize::MAX);
    assert_eq!(formatted.taken, 8);
    let pumped = bench
        .pump
        .write_batch(&bench.fifo, Stream::Stdout, &mut bench.log, &now, end, formatted)
        .expect("write");
    assert_eq!(pumped.taken, 4);
    assert_eq!(bench.records(), ["stdout F two"]);
}

#[test]
fn bytes_that_are_no_text_pass_through() {
    let mut bench = Bench::new(unlimited());
    bench.end.write_all(b"\0\xff\xfe \r\n").expect("write");
    bench.pump();
    let entries: Vec<_> = Reader::open(bench.dir(), 0, From::Start).expect("open").collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].as_ref().expect("read").bytes, b"\0\xff\xfe \r");
}
