//! The last words of a container's run (`terminationMessagePath`), read when nothing of it runs any more.
//!
//! The container may have made anything of the file, and with a hostPath put anything in its place: it is neither followed
//! nor waited for, and only its end is read.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::folders::LAST_WORDS;
use super::pod_run::PodNumber;
use super::worker::Worker;
use crate::logs::read::last_output;
use crate::pod::event::Index;
use crate::sys::regular_file;

/// What counts of the file (`pkg/kubelet/container/runtime.go:MaxContainerTerminationMessageLength`). Bytes.
const MAX_BYTES: u64 = 4096;
/// What counts of the log, where that is asked (`MaxContainerTerminationMessageLogLines` and `…LogLength` there).
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;

impl Worker {
    /// What a container that has ended left as its last words; what is wrong with them, in the kubelet's words, if they cannot
    /// be read.
    pub fn last_words(&self, number: PodNumber, container: Index) -> Option<String> {
        let run = self.pods.get(&number)?;
        let end = run.machine.end_of(container).filter(|end| end.start_error.is_none())?;
        let (spec, attempt) = (run.pod().containers.get(container)?, run.machine.attempt(container));
        let file = self.options.folders.container_run(run.uid(), &spec.name, attempt).join(LAST_WORDS);
        let mut words = match end_of_file(&file) {
            Ok(words) => words,
            Err(error) => {
                return Some(format!("Error on reading termination log {}: {error}", file.display()));
            }
        };
        if words.is_empty() && spec.termination_message.or_logs && !end.succeeded() {
            let log = run.containers.get(container)?.output.as_ref()?.log.dir();
            words = match last_output(log, attempt, LOG_LINES, LOG_BYTES) {
                Ok(words) => words,
                Err(error) => {
                    return Some(format!("Error on reading termination message from logs: {error}"));
                }
            };
        }
        (!words.is_empty()).then(|| String::from_utf8_lossy(&words).into_owned())
    }
}

/// The end of a regular file; nothing if there is none.
fn end_of_file(path: &Path) -> io::Result<Vec<u8>> {
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path);
    let found = match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    // A lease on it may outlive its container in another one of the Pod.
    let mut file = regular_file::open_again(&found)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_BYTES)))?;
    let mut words = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut words)?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};
    use std::{fs, thread};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use std::fs::File;

    use super::*;

    #[test]
    fn of_a_huge_file_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        assert_eq!(end_of_file(&path).unwrap(), b"");
        fs::write(&path, "bye").unwrap();
        assert_eq!(end_of_file(&path).unwrap(), b"bye");
        // Holes: no disk of this machine is as large.
        File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(end_of_file(&path).unwrap(), [0; 4096]);
    }

    #[test]
    fn a_file_with_a_lease_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        // Written there: a process that another test begins meanwhile would have a file of ours open until it executes, and there
        // is no lease of what others have open.
        let script = "import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1], 'w+')
print('bye', end='', file=file, flush=True)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('leased', flush=True)
sys.stdin.read()";
        let mut holder = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Python writes the end of the line apart. Who cannot write it would end, and the lease with it.
        let mut said = [0; 6];
        let mut out = holder.stdout.take().unwrap();
        out.read_exact(&mut said).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        thread::spawn(move || answer.send(end_of_file(&path)));
        let error = answered.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits");
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }

    #[test]
    fn what_is_no_file_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name| dir.path().join(name);
        fs::write(place("secret"), "of the host").unwrap();
        symlink(place("secret"), place("link")).unwrap();
        mknodat(CWD, place("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        fs::create_dir(place("folder")).unwrap();
        let _socket = UnixListener::bind(place("socket")).unwrap();
        // On a thread: one that waits for the FIFO's writer fails the test, and does not hang it.
        let paths = ["link", "fifo", "folder", "socket"].map(place).into_iter().chain(["/dev/null".into()]);
        for path in paths {
            let (answer, answered) = std::sync::mpsc::channel();
            let shown = path.display().to_string();
            thread::spawn(move || answer.send(end_of_file(&path)));
            let error = answered.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits");
            assert_eq!(error.expect_err(&shown).to_string(), "it is no regular file", "{shown}");
        }
    }
}
