//! Reading back what the pump wrote, and what it can never have written.

use std::fs;
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::Bench;
use super::super::{Policy, cri};
use super::*;

const TIME: &str = "2026-01-02T03:04:05.000000006+00:00";

const SECOND: Duration = Duration::from_secs(1);

/// Fails a test instead of hanging it.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

fn small() -> Policy {
    Policy { max_size: NonZeroU64::new(500), max_files: 100 }
}

fn texts(dir: &Path, restart: u32, from: From) -> Vec<String> {
    Reader::open(dir, restart, from)
        .expect("open")
        .map(|entry| String::from_utf8(entry.expect("read").bytes).expect("UTF-8"))
        .collect()
}

/// Writes records such as `oF1`: stream, tag, text.
fn write_records(dir: &Path, name: &str, records: &[&str]) {
    let mut out = Vec::new();
    for record in records {
        let stream = if record.starts_with('o') { Stream::Stdout } else { Stream::Stderr };
        cri::record(TIME, stream, &record[1..2] == "F", &record.as_bytes()[2..], &mut out);
    }
    fs::write(dir.join(name), out).expect("write");
}

#[test]
fn lines_come_back_over_rotations_in_order() {
    let mut bench = Bench::new(small());
    let written: Vec<String> = (0..100).map(|i| format!("line {i}")).collect();
    for line in &written {
        bench.say(&format!("{line}\n"));
    }
    assert!(bench.files().len() > 5, "{:?}", bench.files());
    assert_eq!(texts(bench.dir(), 0, From::Start), written);
}

#[test]
fn the_last_lines_are_found_over_rotations() {
    let mut bench = Bench::new(small());
    let written: Vec<String> = (0..50).map(|i| format!("line {i}")).collect();
    for line in &written {
        bench.say(&format!("{line}\n"));
    }
    for wanted in [0, 1, 7, 8, 9, 49, 50, 51, usize::MAX] {
        let expected = &written[written.len().saturating_sub(wanted)..];
        assert_eq!(texts(bench.dir(), 0, From::Tail(wanted)), expected, "{wanted}");
    }
}

#[test]
fn the_last_lines_are_whole_even_if_their_parts_lie_between_others() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    write_records(dir, "0.log", &["oFfirst", "eFold", "oPa", "oPb", "eF1", "eF2", "oFc", "ePtail"]);
    assert_eq!(texts(dir, 0, From::Start), ["first", "old", "1", "2", "abc", "tail"]);
    assert_eq!(texts(dir, 0, From::Tail(1)), ["tail"]);
    assert_eq!(texts(dir, 0, From::Tail(2)), ["abc", "tail"]);
    assert_eq!(texts(dir, 0, From::Tail(3)), ["2", "abc", "tail"]);
    assert_eq!(texts(dir, 0, From::Tail(5)), ["old", "1", "2", "abc", "tail"]);
}

#[test]
fn an_unended_line_is_said_to_be_one() {
    let mut bench = Bench::new(small());
    bench.say("whole\nnot");
    bench.finish();
    let entries: Vec<Entry> =
        Reader::open(bench.dir(), 0, From::Start).expect("open").map(|e| e.expect("read")).collect();
    let seen: Vec<_> = entries.iter().map(|e| (e.bytes.as_slice(), e.terminated)).collect();
    assert_eq!(seen, [(&b"whole"[..], true), (&b"not"[..], false)]);
}

#[test]
fn an_endless_line_comes_in_pieces() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut out = Vec::new();
    let part = vec![b'x'; cri::MAX_PIECE];
    for _ in 0..130 {
        cri::record(TIME, Stream::Stdout, false, &part, &mut out);
    }
    fs::write(dir.path().join("0.log"), out).expect("write");
    let sizes: Vec<usize> = Reader::open(dir.path(), 0, From::Start)
        .expect("open")
        .map(|e| e.expect("read").bytes.len())
        .collect();
    assert_eq!(sizes, [1 << 20, 1 << 20, 2 * cri::MAX_PIECE]);
}

#[test]
fn the_run_before_may_be_one_of_the_pod_before() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let [old, new, coming] = [0, 1, 2].map(|i| Uid::parse(&i.to_string().repeat(32)).expect("a uid"));
    let folder = |uid| container_log_dir(&pod_log_dir(root.path(), "ns", "web", uid), "app");
    for (uid, restarts) in [(&old, &[0, 1][..]), (&new, &[4])] {
        fs::create_dir_all(folder(uid)).expect("make");
        for restart in restarts {
            write_records(&folder(uid), &format!("{restart}.log"), &["oFx"]);
        }
    }
    let pod = PodId { namespace: "ns".into(), name: "web".into() };
    let found = |uid, which| find(root.path(), &pod, uid, "app", which).expect("list");
    let run = |uid, restart| Some(Run { dir: folder(uid), restart });
    assert_eq!(found(Some(&new), Which::Latest), run(&new, 4));
    assert_eq!(found(Some(&new), Which::Previous), run(&old, 1));
    assert_eq!(found(Some(&old), Which::Previous), run(&old, 0));
    assert_eq!(found(Some(&coming), Which::Latest), None);
    assert!(found(Some(&coming), Which::Previous).is_some());
    fs::File::open(folder(&old))
        .and_then(|dir| dir.set_modified(SystemTime::now() + 9 * SECOND))
        .expect("set");
    assert_eq!(found(None, Which::Latest), run(&old, 1));
    assert_eq!(containers(folder(&old).parent().expect("a parent")).expect("list"), ["app"]);
}

#[test]
fn a_follower_goes_over_rotations_and_into_the_next_run_until_the_folder_goes() {
    let mut bench = Bench::new(small());
    bench.say("early\n");
    let mut follower = Follower::open(bench.dir(), 0, From::Tail(0)).expect("open");
    let expected: Vec<String> = (0..60).map(|i| format!("line {i}")).collect();
    let writer = {
        let lines = expected.clone();
        thread::spawn(move || {
            for (i, line) in lines.iter().enumerate() {
                if i == 30 {
                    bench.restart();
                }
                bench.say(&format!("{line}\n"));
            }
            bench
        })
    };
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        match follower.next(PATIENCE).expect("follow") {
            Followed::Entry(entry) => seen.push(String::from_utf8(entry.bytes).expect("UTF-8")),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(follower.next(Some(Duration::ZERO)).expect("follow"), Followed::Idle);
    let bench = writer.join().expect("writer");
    fs::remove_dir_all(bench.dir()).expect("remove");
    assert_eq!(follower.next(PATIENCE).expect("follow"), Followed::Gone);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_without_panic_and_the_tail_is_a_suffix(
        lines in prop::collection::vec(
            prop_oneof![
                "[ -~]{0,40}".prop_map(String::into_bytes),
                ("(stdout|stderr)", "[FP]", "[a-z]{0,9}")
                    .prop_map(|(s, t, c)| format!("{TIME} {s} {t} {c}").into_bytes()),
                prop::collection::vec(any::<u8>(), 0..40),
            ],
            0..30,
        ),
        wanted in 0usize..20,
    ) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let half = lines.len() / 2;
        fs::write(dir.path().join("0.log.20260101-000000"), [lines[..half].join(&b'\n'), b"\n".to_vec()].concat())
            .expect("write");
        fs::write(dir.path().join("0.log"), lines[half..].join(&b'\n')).expect("write");
        let read = |from| -> Vec<Entry> {
            Reader::open(dir.path(), 0, from).expect("open").map(|entry| entry.expect("read")).collect()
        };
        let all = read(From::Start);
        let tail = read(From::Tail(wanted));
        prop_assert!(tail.len() <= wanted);
        let ended = |entries: &[Entry]| entries.iter().filter(|e| e.terminated).cloned().collect::<Vec<_>>();
        prop_assert!(ended(&all).ends_with(&ended(&tail)));
    }
}

#[test]
fn the_last_output_is_bounded_by_lines_and_by_bytes_over_rotations() {
    let mut bench = Bench::new(small());
    let written: Vec<String> = (0..50).map(|i| format!("line {i}\n")).collect();
    for line in &written {
        bench.say(line);
    }
    let last = |lines, bytes| String::from_utf8(last_output(bench.dir(), 0, lines, bytes).unwrap()).unwrap();
    let (all, end) = (written.concat(), written[20..].concat());
    assert_eq!(last(30, usize::MAX), end);
    assert_eq!(last(1000, usize::MAX), all);
    assert_eq!(last(30, 100), end[end.len() - 100..]);
    assert_eq!(last(0, 100), "");
    assert_eq!(last_output(bench.dir(), 1, 9, 9).unwrap(), b"", "a run without a log");
}

#[test]
fn the_last_output_has_both_streams_and_what_was_not_ended() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_records(dir.path(), "0.log", &["oFout", "eFerr", "oPa", "oFb", "ePtail"]);
    assert_eq!(last_output(dir.path(), 0, 80, 2048).unwrap(), b"out\nerr\nab\ntail");
}
