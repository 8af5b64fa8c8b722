//! `podkeep logs`: a container's output from disk, as `kubectl logs` prints it: both streams on stdout, content
//! untouched, no time stamps.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::logs::read::{self, Entry, Followed, Follower, From, Reader, Run, Which};
use crate::logs::{folders_of, pod_log_dir};
use crate::manifest::{PodId, Uid};

/// How often `-f` asks whether the Pod is still there, when nothing is written.
const ALIVE_CHECK: Duration = Duration::from_secs(1);

/// What to print.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The folder of all logs (`podLogsDir`).
    pub root: &'a Path,
    pub pod: &'a PodId,
    /// `None` if the node is down: then the Pod of this name whose logs were written to last.
    pub uid: Option<&'a Uid>,
    /// `None`: the only one.
    pub container: Option<&'a str>,
    pub previous: bool,
    /// Lines from the end; `None`: all.
    pub tail: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no logs of Pod {pod} in {}", root.display())]
    NoPod { pod: PodId, root: PathBuf },
    #[error("no logs of container {container} of Pod {pod} in {}", root.display())]
    NoContainer { pod: PodId, container: String, root: PathBuf },
    #[error("no logs of a previous run of container {container} of Pod {pod}")]
    NoPrevious { pod: PodId, container: String },
    #[error("Pod {pod} has several containers, choose one with -c: {}", names.join(", "))]
    WhichContainer { pod: PodId, names: Vec<String> },
    #[error(transparent)]
    Logs(#[from] crate::logs::Error),
    #[error("write log lines: {0}")]
    Output(#[source] io::Error),
}

/// Prints what is there.
///
/// # Errors
/// Any of [`Error`]'s; that the reader of our output went away is none.
pub fn print(request: &Request<'_>, out: impl Write) -> Result<(), Error> {
    let run = request.run()?;
    let mut terminal = Terminal::new(out);
    for entry in Reader::open(&run.dir, run.restart, request.from())? {
        if !arrived(terminal.print(&entry?))? {
            return Ok(());
        }
    }
    arrived(terminal.out.flush()).map(drop)
}

/// Prints what is there and then what comes, over restarts, until the Pod's logs are gone or it is not `alive`.
///
/// # Errors
/// As [`print`].
pub fn follow(request: &Request<'_>, out: impl Write, mut alive: impl FnMut() -> bool) -> Result<(), Error> {
    let run = request.run()?;
    let mut follower = Follower::open(&run.dir, run.restart, request.from())?;
    let mut terminal = Terminal::new(out);
    // Flushed only when nothing more is there at once.
    let (mut quiet, mut ended) = (false, false);
    loop {
        let wait = if quiet { ALIVE_CHECK } else { Duration::ZERO };
        let reading = match follower.next(Some(wait))? {
            Followed::Entry(entry) => {
                quiet = false;
                arrived(terminal.print(&entry))?
            }
            Followed::Idle if !quiet => {
                quiet = true;
                arrived(terminal.out.flush())?
            }
            // One look after the Pod's end: its last lines may have come since the look before.
            Followed::Idle if !ended => {
                ended = !alive();
                true
            }
            Followed::Idle | Followed::Gone => return arrived(terminal.out.flush()).map(drop),
        };
        if !reading {
            return Ok(());
        }
    }
}

impl Request<'_> {
    fn run(&self) -> Result<Run, Error> {
        let container = self.container()?;
        let which = if self.previous { Which::Previous } else { Which::Latest };
        let found = read::find(self.root, self.pod, self.uid, &container, which)?;
        let pod = || self.pod.clone();
        found.ok_or_else(|| match which {
            Which::Latest => Error::NoContainer { pod: pod(), container, root: self.root.to_owned() },
            Which::Previous => Error::NoPrevious { pod: pod(), container },
        })
    }

    fn container(&self) -> Result<String, Error> {
        if let Some(name) = self.container {
            return Ok(name.to_owned());
        }
        let (pod, root) = (self.pod.clone(), self.root.to_owned());
        let mut names = read::containers(&self.pod_folder()?)?;
        match names.pop() {
            None => Err(Error::NoPod { pod, root }),
            Some(name) if names.is_empty() => Ok(name),
            Some(name) => {
                names.push(name);
                Err(Error::WhichContainer { pod, names })
            }
        }
    }

    /// The Pod's own folder if it is known and there, else that of the last Pod of its name.
    fn pod_folder(&self) -> Result<PathBuf, Error> {
        let PodId { namespace, name } = self.pod;
        let own = self.uid.map(|uid| pod_log_dir(self.root, namespace, name, uid));
        if let Some(own) = own.filter(|own| own.exists()) {
            return Ok(own);
        }
        let newest = folders_of(self.root, namespace, name)?.into_iter().next();
        let missing = || Error::NoPod { pod: self.pod.clone(), root: self.root.to_owned() };
        newest.map(|folder| folder.path).ok_or_else(missing)
    }

    fn from(&self) -> From {
        self.tail.map_or(From::Start, From::Tail)
    }
}

/// Prints entries, keeping lines apart that were never ended.
struct Terminal<W: Write> {
    out: io::BufWriter<W>,
    /// The last entry had no end: only what goes on with it may follow on its line.
    unended: Option<(u32, crate::logs::Stream)>,
}

impl<W: Write> Terminal<W> {
    fn new(out: W) -> Terminal<W> {
        Terminal { out: io::BufWriter::with_capacity(64 * 1024, out), unended: None }
    }

    fn print(&mut self, entry: &Entry) -> io::Result<()> {
        let of = (entry.restart, entry.stream);
        if self.unended.is_some_and(|unended| unended != of) {
            self.out.write_all(b"\n")?;
        }
        self.out.write_all(&entry.bytes)?;
        if entry.terminated {
            self.out.write_all(b"\n")?;
        }
        self.unended = (!entry.terminated).then_some(of);
        Ok(())
    }
}

/// False if whoever read our output went away (`podkeep logs web | head`).
fn arrived(result: io::Result<()>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Output(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TIME: &str = "2026-01-02T03:04:05.000000006+00:00";

    struct Logs {
        root: tempfile::TempDir,
        pod: PodId,
        uid: Uid,
    }

    impl Logs {
        /// Each file is given as its name and its records without times.
        fn new(files: &[(&str, &[&str])]) -> Logs {
            let root = tempfile::tempdir().expect("a temporary folder");
            let pod = PodId { namespace: "default".into(), name: "web-edge7".into() };
            let uid = Uid::parse(&"a".repeat(32)).expect("a uid");
            let folder = pod_log_dir(root.path(), &pod.namespace, &pod.name, &uid);
            for (name, records) in files {
                let path = folder.join(name);
                fs::create_dir_all(path.parent().unwrap_or(&folder)).expect("make");
                let text: String = records.iter().map(|record| format!("{TIME} {record}\n")).collect();
                fs::write(path, text).expect("write");
            }
            Logs { root, pod, uid }
        }

        fn request(&self) -> Request<'_> {
            Request {
                root: self.root.path(),
                pod: &self.pod,
                uid: Some(&self.uid),
                container: None,
                previous: false,
                tail: None,
            }
        }
    }

    fn printed(request: &Request<'_>) -> String {
        let mut out = Vec::new();
        print(request, &mut out).expect("print");
        String::from_utf8(out).expect("UTF-8")
    }

    const TWO_RUNS: &[(&str, &[&str])] = &[
        ("app/0.log", &["stdout F first", "stderr P died of"]),
        ("app/1.log", &["stdout P sec", "stdout F ond", "stderr F third"]),
    ];

    #[test]
    fn both_streams_go_to_the_output_with_parts_joined() {
        let logs = Logs::new(TWO_RUNS);
        let request = logs.request();
        assert_eq!(printed(&request), "second\nthird\n");
        assert_eq!(printed(&Request { tail: Some(1), ..request.clone() }), "third\n");
        assert_eq!(printed(&Request { previous: true, ..request.clone() }), "first\ndied of");
        assert_eq!(printed(&Request { uid: None, ..request }), "second\nthird\n");
    }

    #[test]
    fn following_goes_on_into_the_next_run_and_ends_with_the_pod() {
        let logs = Logs::new(TWO_RUNS);
        let mut out = Vec::new();
        let request = Request { previous: true, ..logs.request() };
        follow(&request, &mut out, || false).expect("follow");
        assert_eq!(String::from_utf8_lossy(&out), "first\ndied of\nsecond\nthird\n");
    }

    #[test]
    fn what_is_missing_is_named() {
        let logs = Logs::new(&[("app/0.log", &["stdout F x"]), ("side/0.log", &["stdout F y"])]);
        let fails =
            |request: &Request<'_>| print(request, io::sink()).expect_err("nothing to print").to_string();
        let request = logs.request();
        assert_eq!(
            fails(&request),
            "Pod default/web-edge7 has several containers, choose one with -c: app, side"
        );
        let side = Request { container: Some("side"), ..request.clone() };
        assert_eq!(printed(&side), "y\n");
        let previous = fails(&Request { previous: true, ..side });
        assert_eq!(previous, "no logs of a previous run of container side of Pod default/web-edge7");
        assert!(
            fails(&Request { container: Some("x"), ..request.clone() }).starts_with("no logs of container x")
        );
        let other = PodId { namespace: "default".into(), name: "db".into() };
        assert!(fails(&Request { pod: &other, ..request }).starts_with("no logs of Pod default/db in /"));
    }

    #[test]
    fn a_reader_that_goes_away_ends_it_quietly() {
        let logs = Logs::new(TWO_RUNS);
        let (read, write) = io::pipe().expect("pipe");
        drop(read);
        print(&logs.request(), write.try_clone().expect("dup")).expect("print");
        follow(&logs.request(), write, || true).expect("follow");
    }
}
