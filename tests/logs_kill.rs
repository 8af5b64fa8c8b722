//! A worker that pumps logs is killed by SIGKILL again and again; its lines arrive all the same: each once, in order.
//!
//! Needs no privileges. The worker is this test binary, started anew for [`the_worker`] alone.

use std::env;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use podkeep::logs::read::{From, Reader};
use podkeep::logs::{ContainerLog, Fifo, Holding, Policy, Pump, Stream};
use rustix::event::{EventfdFlags, PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};

/// Set for the worker: the test's folder.
const FOLDER: &str = "PODKEEP_TEST_LOG_FOLDER";
/// Set for the worker: the ends of the holding pipe, as paths below the parent's `/proc/PID/fd`.
const HOLDING: &str = "PODKEEP_TEST_LOG_HOLDING";

const CONTAINERS: usize = 3;
const KILLS: usize = 300;

/// Small enough that rotation happens between any two kills, and no file is ever removed.
const POLICY: Policy = Policy { max_size: std::num::NonZeroU64::new(64 * 1024), max_files: u32::MAX };

const STREAMS: [(Stream, &str); 2] = [(Stream::Stdout, "out"), (Stream::Stderr, "err")];

/// What [`killed_at_any_moment`] starts: pumps until the file `stop` is there and everything is read, then finishes.
#[test]
fn the_worker() {
    let (Ok(folder), Ok(holding)) = (env::var(FOLDER), env::var(HOLDING)) else { return };
    let folder = Path::new(&folder);
    let (read, write) = holding.split_once(',').expect("two paths");
    let open = |path: &str, flags| -> OwnedFd {
        rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .expect("open holding")
    };
    let holding = Holding { read: open(read, OFlags::RDONLY), write: open(write, OFlags::WRONLY) };
    let (mut pump, _) = Pump::open(&folder.join("journal"), holding).expect("open pump");
    let mut logs: Vec<ContainerLog> =
        (0..CONTAINERS).map(|i| pump.open_log(&log_dir(folder, i), 0, POLICY).expect("open log")).collect();
    let fifos: Vec<(usize, Stream, Fifo)> = each_stream()
        .map(|(i, stream, name)| (i, stream, Fifo::open(&fifo_path(folder, i, name)).expect("open FIFO")))
        .collect();
    loop {
        // Looked at first: what was written before the file was made is read below.
        let stop = folder.join("stop").exists();
        let mut taken = 0;
        for (i, stream, fifo) in &fifos {
            taken += pump.pump(fifo, *stream, &mut logs[*i], 100_000).expect("pump").taken;
            if stop {
                taken += pump.finish(fifo, *stream, &mut logs[*i]).expect("finish").taken;
            }
        }
        if stop && taken == 0 {
            return;
        }
        if taken == 0 {
            wait_readable(&fifos);
        }
    }
}

/// Waits a moment at most: an unfinished line keeps its FIFO readable, and `stop` must be seen.
fn wait_readable(fifos: &[(usize, Stream, Fifo)]) {
    let mut fds: Vec<PollFd<'_>> =
        fifos.iter().map(|(_, _, fifo)| PollFd::new(fifo, PollFlags::IN)).collect();
    poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 })).expect("poll");
}

#[test]
fn killed_at_any_moment() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let holding = Holding::new().expect("holding pipe");
    let fifos: Vec<Fifo> = each_stream()
        .map(|(i, _, name)| {
            let path = fifo_path(folder, i, name);
            Fifo::create(&path, rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
                .expect("make FIFO")
        })
        .collect();
    let done = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd");
    let writers: Vec<_> = fifos
        .iter()
        .enumerate()
        .map(|(number, fifo)| {
            let end = fs::File::from(fifo.container_end().expect("the container's end"));
            let done = done.try_clone().expect("dup");
            thread::spawn(move || write_lines(end, number as u64, &done))
        })
        .collect();

    let mut random = Random(0x5eed);
    for _ in 0..KILLS {
        let mut worker = start_worker(folder, &holding);
        thread::sleep(Duration::from_micros(3_000 + random.below(12_000)));
        worker.kill().expect("kill the worker");
        worker.wait().expect("reap the worker");
    }
    rustix::io::write(&done, &1u64.to_ne_bytes()).expect("tell the writers");
    // The last worker empties the FIFOs, which lets the writers end; then it is told that this was all.
    let mut worker = start_worker(folder, &holding);
    let expected: Vec<Vec<u8>> = writers.into_iter().map(|writer| writer.join().expect("writer")).collect();
    fs::write(folder.join("stop"), "").expect("write");
    assert!(worker.wait().expect("reap the worker").success());

    let mut lines = 0;
    for ((i, stream, name), expected) in each_stream().zip(expected) {
        let mut read = Vec::new();
        for entry in Reader::open(&log_dir(folder, i), 0, From::Start).expect("open") {
            let entry = entry.expect("read");
            if entry.stream == stream {
                read.extend_from_slice(&entry.bytes);
                if entry.terminated {
                    read.push(b'\n');
                    lines += 1;
                }
            }
        }
        let differs = read.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!((differs, read.len()), (None, expected.len()), "container {i}, {name}");
    }
    println!("{lines} lines over {KILLS} kills");
    assert!(lines > KILLS, "the workers got something done: {lines} lines");
}

/// Lines of all sizes, in writes that do not end where lines do, until told to stop; what was written is returned.
fn write_lines(mut end: fs::File, seed: u64, done: &OwnedFd) -> Vec<u8> {
    let mut random = Random(seed + 1);
    let mut all = Vec::new();
    let mut pending = Vec::new();
    let began = Instant::now();
    for number in 0u64.. {
        let size = match random.below(200) {
            0 => 40_000,
            1..10 => 5_000,
            _ => 60,
        };
        pending.extend_from_slice(format!("{seed} {number} ").as_bytes());
        pending.resize(pending.len() + random.below(size) as usize, b'a' + (number % 26) as u8);
        pending.push(b'\n');
        let write = random.below(pending.len() as u64) as usize;
        end.write_all(&pending[..write]).expect("write to the FIFO");
        all.extend(pending.drain(..write));
        if random.below(8) == 0 {
            // Sets the pace: some 10 MB/s in all, so that a run fits into memory.
            thread::sleep(Duration::from_micros(500));
        }
        let mut fds = [PollFd::new(done, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut fds, Some(&now)).expect("poll") > 0 || began.elapsed() > Duration::from_secs(120) {
            break;
        }
    }
    // The last line is never ended.
    all
}

fn start_worker(folder: &Path, holding: &Holding) -> Child {
    let path = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "the_worker", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(HOLDING, format!("{},{}", path(&holding.read), path(&holding.write)))
        .stdout(Stdio::null())
        .spawn()
        .expect("start the worker")
}

fn each_stream() -> impl Iterator<Item = (usize, Stream, &'static str)> {
    (0..CONTAINERS).flat_map(|i| STREAMS.into_iter().map(move |(stream, name)| (i, stream, name)))
}

fn fifo_path(folder: &Path, container: usize, name: &str) -> PathBuf {
    folder.join(format!("{container}.{name}"))
}

fn log_dir(folder: &Path, container: usize) -> PathBuf {
    folder.join(format!("logs/c{container}"))
}

/// A small generator (SplitMix64): the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}
