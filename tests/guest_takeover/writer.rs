//! A Pod that writes numbered lines to both of its outputs, and a look at whether each of them arrived once and in order.

use std::fs;

use crate::harness::{Node, wait_until};
use crate::told::{Told, lines, log_folder};

/// Writes until the file `/told/end` is there, then says how many lines there were.
const SCRIPT: &str = "\
i=0
while [ ! -e /told/end ]; do
  n=0
  while [ $n -lt 20 ]; do i=$((i+1)); n=$((n+1)); echo $i; echo $i >&2; done
  sleep 0.3
done
echo end $i; echo end $i >&2
exec sleep 100000";

pub fn pod(told: &Told, name: &str) -> String {
    told.pod(name, "Always", SCRIPT)
}

/// Bytes in its log files.
fn written(node: &Node, name: &str) -> u64 {
    let files = fs::read_dir(log_folder(node, name).join("main")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Waits until more is in its log than there was: the worker is at work.
pub fn wait_for_more(node: &Node, name: &str) {
    let before = written(node, name);
    wait_until("log lines are written", || (written(node, name) > before + 1000).then_some(()));
}

/// Tells all writers to end.
pub fn end(told: &Told) {
    fs::write(told.path("end"), "").unwrap();
}

/// Waits until its last line is in its log, and checks that no line is missing, double or out of order.
pub fn assert_every_line_once(node: &Node, name: &str) {
    for stream in ["stdout", "stderr"] {
        let of_stream = || -> Vec<String> {
            let all = lines(&log_folder(node, name)).into_iter();
            all.filter(|(of, _)| of == stream).map(|(_, text)| text).collect()
        };
        let ended = wait_until("the writer has ended", || {
            let texts = of_stream();
            texts.last().is_some_and(|last| last.starts_with("end ")).then_some(texts)
        });
        let (last, numbers) = ended.split_last().unwrap();
        println!("{name}: {} lines on {stream}", numbers.len());
        assert_eq!(*last, format!("end {}", numbers.len()), "{name} {stream}");
        for (place, number) in numbers.iter().enumerate() {
            assert_eq!(*number, (place + 1).to_string(), "{name} {stream}, line {}", place + 1);
        }
    }
}
