//! A command in a container that runs: a process beside its first one, with the same rights and no more.
//!
//! Cloning waits for a process that has to run in the container's cgroup, which may be frozen or out of CPU time: that is
//! done beside the loop. The process is the keeper's child, as every other, so it is reaped even if this worker dies; its
//! end comes the way of all ends.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};
use oci_spec::runtime::{BoxBuilder, Process, Spec};
use rustix::fs::{FileType, Mode, fchmod, fstat};
use rustix::net::RecvFlags;
use rustix::process::{Signal, pidfd_send_signal};

use super::errands::ErrandNumber;
use super::mounts;
use super::pod_run::{Key, PodNumber, PodRun};
use super::poller::{Interest, Registration};
use super::start::{self, Ingredients};
use super::state::SavedRun;
use super::tasks::Tasks;
use super::worker::{Done, Worker};
use crate::container::environment::Purpose;
use crate::container::{
    self, About, Beside, ExecSetting, Parent, Progress, SpawnError, StartError, Stdio, Target,
    seccomp::Program,
};
use crate::keeper::protocol::Exit as KeeperExit;
use crate::manifest::PodId;
use crate::pod::event::Index;

/// Threads that clone: each may wait for a container that gets no CPU time.
const THREADS: usize = 8;

/// Set in containers whose command has a terminal, where nobody else says it.
const TERM: &str = "TERM=xterm";

/// A command that shall run in a container.
pub struct ExecRequest {
    pub pod: PodId,
    pub container: String,
    pub command: Vec<String>,
    pub streams: ExecStreams,
    /// The connection of the one who asks: the command is hung up on when it closes.
    pub asker: OwnedFd,
    /// Told the exit code (128 and the signal, if one ended it), or why there is none.
    pub answer: Answer,
}

/// Called once.
pub type Answer = Box<dyn FnOnce(Result<u8, ExecError>) + Send>;

/// What the command reads from and writes to.
pub enum ExecStreams {
    /// Ends of pipes. Without `stdin`, the container's `/dev/null`.
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal, whose master is sent over this socket.
    Terminal { console: OwnedFd, size: Option<TerminalSize> },
}

#[derive(Clone, Copy, Debug)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// Why there is nothing to tell of a container.
#[derive(Debug, thiserror::Error)]
pub enum NotThere {
    #[error("there is no Pod {0}")]
    Pod(PodId),
    #[error("Pod {pod} has no container {container}")]
    Container { pod: PodId, container: String },
}

/// Why a command was not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error(transparent)]
    NotThere(#[from] NotThere),
    #[error("container {0} does not run")]
    NotRunning(String),
    #[error("{0}")]
    Invalid(&'static str),
    /// The program is not there, or cannot be executed.
    #[error("{cause}")]
    Program { cause: StartError, found: bool },
    #[error("run a command in {container}: {cause:#}")]
    Failed { container: String, cause: anyhow::Error },
}

/// Every command that was begun and whose end is not known.
pub struct Execs {
    pub lane: Tasks<Done>,
    /// Containers that one is just being cloned into, as often as that is so.
    starting: Vec<(PodNumber, Index)>,
    running: HashMap<u32, Running>,
    /// Ends of unknown processes, kept while it is not known which ones are being cloned.
    unclaimed: Vec<KeeperExit>,
}

struct Running {
    /// `None` if it had ended before it was taken over.
    pidfd: Option<OwnedFd>,
    whose: Whose,
    watch: Option<Registration>,
}

/// Who wants to know what comes of a command.
pub enum Whose {
    Asker { asker: OwnedFd, answer: Answer },
    Errand(ErrandNumber),
}

/// What came of cloning.
pub struct Begun {
    pod: PodNumber,
    container: Index,
    name: String,
    whose: Whose,
    result: Result<(u32, OwnedFd), ExecError>,
}

impl Execs {
    pub fn new() -> io::Result<Execs> {
        Ok(Execs {
            lane: Tasks::new(THREADS)?,
            starting: Vec::new(),
            running: HashMap::new(),
            unclaimed: Vec::new(),
        })
    }

    pub fn is_starting(&self, pod: PodNumber, container: Index) -> bool {
        self.starting.contains(&(pod, container))
    }

    fn started(&mut self, pod: PodNumber, container: Index) {
        if let Some(place) = self.starting.iter().position(|one| *one == (pod, container)) {
            self.starting.swap_remove(place);
        }
    }

    /// Nobody wants to know of its end any more.
    pub fn forget(&mut self, pid: u32) {
        self.running.remove(&pid);
    }

    /// The end of a process that was just made known, if it came before that.
    fn claim(&mut self, pid: u32) -> Option<KeeperExit> {
        let place = self.unclaimed.iter().rposition(|exit| exit.pid == pid)?;
        Some(self.unclaimed.swap_remove(place))
    }
}

impl Worker {
    /// Begins to run a command in a container.
    pub fn exec(&mut self, request: ExecRequest) {
        let ExecRequest { pod, container, command, streams, asker, answer } = request;
        let prepared = self.running_container(&pod, &container).and_then(|(number, index)| {
            let name = format!("{pod}/{container}");
            let failed = |cause| ExecError::Failed { container: name.clone(), cause };
            check(&command, &streams)?;
            let ready = self.ready_to_join(number, index, command, streams).map_err(failed)?;
            Ok((number, index, name, ready))
        });
        match prepared {
            Ok((pod, container, name, ready)) => {
                self.join(pod, container, name, ready, Whose::Asker { asker, answer });
            }
            Err(error) => answer(Err(error)),
        }
    }

    /// Begins to run one of podkeep's own commands in a container.
    ///
    /// # Errors
    /// When the container does not run, or cannot be joined.
    pub fn exec_errand(
        &mut self,
        pod: PodNumber,
        container: Index,
        command: Vec<String>,
        streams: ExecStreams,
        errand: ErrandNumber,
    ) -> Result<(), ExecError> {
        let run = self.pods.get(&pod).filter(|run| is_running(run, container));
        let run = run.ok_or_else(|| ExecError::NotRunning(format!("{pod}/{container}")))?;
        let name = run.name_of(container);
        check(&command, &streams)?;
        let ready = self.ready_to_join(pod, container, command, streams);
        let ready = ready
            .map(|ready| Ready { adopt_orphans: true, ..ready })
            .map_err(|cause| ExecError::Failed { container: name.clone(), cause })?;
        self.join(pod, container, name, ready, Whose::Errand(errand));
        Ok(())
    }

    fn join(&mut self, pod: PodNumber, container: Index, name: String, ready: Ready, whose: Whose) {
        self.execs.starting.push((pod, container));
        self.execs.lane.add(move || {
            let result = ready.join(&name);
            Done::Exec(Box::new(Begun { pod, container, name, whose, result }))
        });
    }

    /// One of an earlier worker's that runs on, or has ended meanwhile. Where it is not the keeper's child, its pidfd tells.
    pub fn adopt_exec(
        &mut self,
        pid: u32,
        pidfd: Option<OwnedFd>,
        errand: ErrandNumber,
        is_child: bool,
    ) -> Result<()> {
        let watch = match &pidfd {
            Some(pidfd) if !is_child => Some(
                self.poller.add(pidfd, Interest::Readable, Key::AdoptedExec(pid)).context("watch a hook")?,
            ),
            _ => None,
        };
        self.execs.running.insert(pid, Running { pidfd, whose: Whose::Errand(errand), watch });
        Ok(())
    }

    /// One has ended that an earlier keeper started: its exit code went to whoever inherited it.
    pub fn adopted_exec_ended(&mut self, pid: u32) {
        let Some(running) = self.execs.running.remove(&pid) else { return };
        let code = running.pidfd.as_ref().and_then(|pidfd| crate::sys::pidfd::exit_status(pidfd.as_fd()));
        self.unwatch(&running);
        if let Whose::Errand(errand) = running.whose {
            self.command_ended(errand, code.map(code_of));
        }
    }

    fn unwatch(&mut self, running: &Running) {
        let Some(watch) = running.watch else { return };
        match (&running.whose, &running.pidfd) {
            (Whose::Asker { asker, .. }, _) => self.poller.remove(asker, watch),
            (Whose::Errand(_), Some(pidfd)) => self.poller.remove(pidfd, watch),
            (Whose::Errand(_), None) => {}
        }
    }

    /// A container by its names.
    pub fn container(&self, id: &PodId, container: &str) -> Result<(PodNumber, Index), NotThere> {
        let is_it = |run: &PodRun| run.pod().id == *id && run.machine.rehearsal().is_none();
        let found = self.pods.iter().find(|(_, run)| is_it(run));
        let (number, run) = found.ok_or_else(|| NotThere::Pod(id.clone()))?;
        let index = run.pod().containers.iter().position(|one| one.name == container);
        let missing = || NotThere::Container { pod: id.clone(), container: container.to_owned() };
        Ok((*number, index.ok_or_else(missing)?))
    }

    fn running_container(&self, id: &PodId, container: &str) -> Result<(PodNumber, Index), ExecError> {
        let (number, index) = self.container(id, container)?;
        let run = self.pods.get(&number).filter(|run| is_running(run, index));
        run.map(|_| (number, index)).ok_or_else(|| ExecError::NotRunning(format!("{id}/{container}")))
    }

    /// Everything that the process needs, from what the container was started from.
    fn ready_to_join(
        &mut self,
        number: PodNumber,
        container: Index,
        command: Vec<String>,
        streams: ExecStreams,
    ) -> Result<Ready> {
        let ingredients = self.ingredients_of_run(number, container, Purpose::Beside)?;
        let run = self.pods.get(&number).context("the Pod is gone")?;
        let c = &run.containers[container];
        let group = c.group.as_ref().context("the container has no cgroup")?;
        let first = c.process.as_ref().context("the container has no process")?;
        let pidfd = first.pidfd.as_ref().context("the container's process has ended")?;
        let attempt = first.run.attempt;
        let spec = self.container_spec(&ingredients, container, attempt, group.path(), Default::default())?;
        let seccomp = start::seccomp_program(
            &run.pod().containers[container],
            &self.options.config,
            &self.options.folders,
        )?;
        refuse_other_seccomp(&first.run, seccomp.as_deref())?;
        let process = process(&spec, command, &streams)?;
        let beside = Beside::new(group, first.run.pid).context("duplicate the cgroup's descriptor")?;
        let pidfd = pidfd.try_clone().context("duplicate the process's descriptor")?;
        let keyring = start::keyring(run.pod(), &run.pod().containers[container].name);
        let target = Target::new(pidfd, &spec)?.with_seccomp(seccomp);
        Ok(Ready { target, process, stdio: stdio(streams), beside, keyring, adopt_orphans: false })
    }

    /// Those of the run that is on, or comes next; with the values that its variables had at its start, as far as they are known.
    pub fn ingredients_of_run(
        &mut self,
        number: PodNumber,
        container: Index,
        purpose: Purpose,
    ) -> Result<Ingredients> {
        let run = self.pods.get(&number).context("the Pod is gone")?;
        let pod = Arc::clone(run.pod());
        let spec = &pod.containers[container];
        let image = match &run.containers[container].image {
            Some(image) => Arc::clone(image),
            // Taken over: the last worker knew it.
            None => {
                let id = run.machine.status().containers.swap_remove(container).image_id;
                Arc::new(self.images.of_run(spec, &id.context("nobody knows the container's image")?)?)
            }
        };
        let user = self.images.user(&image, spec)?;
        let started_with = run.containers[container].environment.as_ref();
        let environment = match started_with.filter(|_| purpose != Purpose::Show) {
            Some(environment) => Arc::clone(environment),
            None => Arc::new(self.environment(&pod, spec, purpose)?),
        };
        let sub_paths = match purpose {
            // Mounted already: what that depended on may be gone.
            Purpose::Beside => Vec::new(),
            _ => mounts::sub_paths(&pod, spec, &environment, &self.options.folders)?,
        };
        Ok(Ingredients { pod, image, user, environment, sub_paths })
    }

    /// The command runs, or could not be started.
    pub fn exec_begun(&mut self, begun: Begun) -> Result<()> {
        let Begun { pod, container, name, whose, result } = begun;
        self.execs.started(pod, container);
        match (result, whose) {
            (Err(error), Whose::Asker { answer, .. }) => answer(Err(error)),
            (Err(error), Whose::Errand(errand)) => self.command_failed(errand, &error),
            (Ok((pid, pidfd)), Whose::Asker { asker, answer }) => match self.execs.claim(pid) {
                Some(exit) => answer(Ok(code_of(exit.how))),
                None => {
                    log::info!("{name}: a command runs as PID {pid}");
                    let watch = self.poller.add(&asker, Interest::Readable, Key::ExecAsker(pid)).ok();
                    let whose = Whose::Asker { asker, answer };
                    self.execs.running.insert(pid, Running { pidfd: Some(pidfd), whose, watch });
                }
            },
            (Ok((pid, pidfd)), Whose::Errand(errand)) => match self.execs.claim(pid) {
                Some(exit) => self.command_ended(errand, Some(code_of(exit.how))),
                None if self.command_begun(errand, pid) => {
                    let whose = Whose::Errand(errand);
                    self.execs.running.insert(pid, Running { pidfd: Some(pidfd), whose, watch: None });
                }
                None => {}
            },
        }
        if self.execs.starting.is_empty() {
            self.execs.unclaimed.clear();
        }
        self.end_with_its_container(pod, container)
    }

    /// A container that ended meanwhile takes what came late with it.
    fn end_with_its_container(&mut self, pod: PodNumber, container: Index) -> Result<()> {
        let Some(c) = self.pods.get(&pod).and_then(|run| run.containers.get(container)) else {
            return Ok(());
        };
        if let (Some(group), Some(_)) = (&c.group, &c.emptying) {
            if let Err(error) = group.kill() {
                log::error!("{:#}", anyhow::Error::from(error));
            }
            return self.cgroup_changed(pod, container);
        }
        Ok(())
    }

    /// A process has ended that is no container's first one.
    pub fn exec_ended(&mut self, exit: KeeperExit) {
        match self.execs.running.remove(&exit.pid) {
            Some(running) => {
                self.unwatch(&running);
                match running.whose {
                    Whose::Asker { answer, .. } => answer(Ok(code_of(exit.how))),
                    Whose::Errand(errand) => self.command_ended(errand, Some(code_of(exit.how))),
                }
            }
            None if !self.execs.starting.is_empty() => self.execs.unclaimed.push(exit),
            None => {}
        }
    }

    /// Nobody has anything to say while the command runs: the asker has gone away, and the command is told so.
    pub fn exec_asker_spoke(&mut self, pid: u32) {
        let Some(running) = self.execs.running.get_mut(&pid) else { return };
        let Whose::Asker { asker, .. } = &running.whose else { return };
        let Some(watch) = running.watch.take() else { return };
        self.poller.remove(asker, watch);
        let mut byte = [0; 1];
        let peeked = rustix::net::recv(asker, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        if let (false, Some(pidfd)) = (matches!(peeked, Ok((1.., _))), &running.pidfd) {
            // It may have ended just now.
            let _ = pidfd_send_signal(pidfd, Signal::HUP);
        }
    }
}

fn is_running(run: &PodRun, container: Index) -> bool {
    let c = &run.containers[container];
    let has_process = c.process.as_ref().is_some_and(|process| process.pidfd.is_some());
    has_process && c.starting.is_none() && c.emptying.is_none()
}

fn code_of(how: crate::sys::wait::Ended) -> u8 {
    match how {
        crate::sys::wait::Ended::Code(code) => code,
        crate::sys::wait::Ended::Signal(signal) => 128 + signal,
    }
}

/// Only what cannot lead anywhere: a folder or a terminal of the host would be a way out of the container.
fn check(command: &[String], streams: &ExecStreams) -> Result<(), ExecError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(ExecError::Invalid("there is no command to run"));
    }
    let is = |fd: &OwnedFd, kind| fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == kind);
    let fits = match streams {
        ExecStreams::Terminal { console, .. } => is(console, FileType::Socket),
        ExecStreams::Pipes { stdin, stdout, stderr } => {
            stdin.iter().chain([stdout, stderr]).all(|fd| is(fd, FileType::Fifo))
        }
    };
    if fits { Ok(()) } else { Err(ExecError::Invalid("the streams must be pipes, the console a socket")) }
}

/// A file, the configuration or podkeep may have changed since the container was started: what comes into it now must not be
/// confined less. Where nobody knows by what it is confined, the kernel knows whether.
fn refuse_other_seccomp(first: &SavedRun, program: Option<&Program>) -> Result<()> {
    let confined = match &first.seccomp {
        Some(digest) => program.map(Program::digest) != Some(digest),
        None => crate::sys::process::has_seccomp_filter(first.pid)
            .with_context(|| format!("read /proc/{}/status", first.pid))?,
    };
    anyhow::ensure!(
        !confined,
        "the container's seccomp profile has changed since it was started, so a command would not be confined as it is: restart it"
    );
    Ok(())
}

/// The container's own process, with another command.
fn process(spec: &Spec, command: Vec<String>, streams: &ExecStreams) -> Result<Process> {
    let mut process = spec.process().clone().context("the container's description has no process")?;
    process.set_args(Some(command));
    let ExecStreams::Terminal { size, .. } = streams else { return Ok(process) };
    process.set_terminal(Some(true));
    if let Some(size) = size {
        let console = BoxBuilder::default().height(u64::from(size.rows)).width(u64::from(size.columns));
        process.set_console_size(Some(console.build()?));
    }
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|variable| variable.starts_with("TERM=")) {
        environment.push(TERM.to_owned());
    }
    process.set_env(Some(environment));
    Ok(process)
}

fn stdio(streams: ExecStreams) -> Stdio {
    match streams {
        ExecStreams::Terminal { console, .. } => Stdio::Terminal { console },
        ExecStreams::Pipes { stdin, stdout, stderr } => {
            // `/dev/stdout` opens the pipe anew, as whatever user the container has; nobody else can reach it.
            for fd in stdin.iter().chain([&stdout, &stderr]) {
                let _ = fchmod(fd, Mode::from_raw_mode(0o666));
            }
            Stdio::Streams { stdin, stdout, stderr }
        }
    }
}

/// All that it takes to join a container.
struct Ready {
    target: Target,
    process: Process,
    stdio: Stdio,
    beside: Beside,
    keyring: String,
    adopt_orphans: bool,
}

impl Ready {
    /// Clones the process and waits until it has become the command.
    fn join(self, name: &str) -> Result<(u32, OwnedFd), ExecError> {
        let failed = |cause: anyhow::Error| ExecError::Failed { container: name.to_owned(), cause };
        let Ready { target, process, stdio, beside, keyring, adopt_orphans } = self;
        let setting = ExecSetting { stdio, preserve_fds: 0, keyring: Some(keyring), adopt_orphans };
        let plan = container::exec_plan(&process, &target, setting).map_err(|error| failed(error.into()))?;
        let spawned = match beside.spawn(&plan, Parent::CallersParent) {
            Ok(spawned) => spawned,
            Err(SpawnError::Start(cause)) => return Err(explain(cause, failed)),
            Err(error) => return Err(failed(error.into())),
        };
        match spawned.report.next(&plan) {
            Ok(Progress::Executed) => Ok((spawned.pid, spawned.pidfd)),
            Ok(_) => Err(failed(anyhow::anyhow!("the process waits for something that nobody gives it"))),
            Err(cause) => Err(explain(cause, failed)),
        }
    }
}

fn explain(cause: StartError, failed: impl Fn(anyhow::Error) -> ExecError) -> ExecError {
    match cause {
        StartError::Step { errno, about: About::Program, .. } => {
            let found = errno != nix::errno::Errno::ENOENT;
            ExecError::Program { cause, found }
        }
        cause => failed(cause.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pipes_and_sockets_come_into_a_container() {
        let pipe = || rustix::pipe::pipe().unwrap().1;
        let folder = || OwnedFd::from(std::fs::File::open("/").unwrap());
        let command = ["sh".to_owned()];
        let with = |stdin: Option<OwnedFd>, stdout| ExecStreams::Pipes { stdin, stdout, stderr: pipe() };
        assert!(check(&command, &with(Some(pipe()), pipe())).is_ok());
        assert!(check(&command, &with(Some(folder()), pipe())).is_err());
        assert!(check(&command, &with(None, folder())).is_err());
        assert!(check(&command, &ExecStreams::Terminal { console: folder(), size: None }).is_err());
        assert!(check(&[], &with(None, pipe())).is_err());
    }
}
