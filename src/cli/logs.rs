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
        match terminal.print(&entry?) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(Error::Output)?,
        }
    }
    ignore_broken_pipe(terminal.out.flush())
}

/// Prints what is there and then what comes, over restarts, until the Pod's logs are gone or it is not `alive`.
///
/// # Errors
/// As [`print`].
pub fn follow(request: &Request<'_>, out: impl Write, mut alive: impl FnMut() -> bool) -> Result<(), Error> {
    let run = request.run()?;
    let mut follower = Follower::open(&run.dir, run.restart, request.from())?;
    let mut terminal = Terminal::new(out);
    let mut gone = false;
    loop {
        let printed = match follower.next(Some(Duration::ZERO))? {
            Followed::Entry(entry) => terminal.print(&entry),
            Followed::Gone => return ignore_broken_pipe(terminal.out.flush()),
            Followed::Idle if gone => return ignore_broken_pipe(terminal.out.flush()),
            Followed::Idle => match terminal.out.flush() {
                Ok(()) => match follower.next(Some(ALIVE_CHECK))? {
                    Followed::Entry(entry) => terminal.print(&entry),
                    Followed::Gone => return Ok(()),
                    // Looked at once more afterwards: its last lines may have come since.
                    Followed::Idle => {
                        gone = !alive();
                        Ok(())
                    }
                },
                error => error,
            },
        };
        match printed {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(Error::Output)?,
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

fn ignore_broken_pipe(result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::Output),
    }
}
