//! From a machine's command to the place that carries it out.

use anyhow::Result;
use rustix::process::{Signal, pidfd_send_signal};

use super::pod_run::PodNumber;
use super::worker::Worker;
use crate::pod::event::Index;
use crate::pod::{Command, Event, StartFailure};
use crate::sys;

/// Why a start failed, and how far it came.
pub type Failed = (StartFailure, String);

impl Worker {
    /// Does what a machine asks for. What comes of it goes into the queue of events.
    pub fn carry_out(&mut self, number: PodNumber, command: Command) -> Result<()> {
        match command {
            Command::Rehearse => self.rehearse(number),
            Command::Prepare => self.prepare(number)?,
            Command::FindImage { container } => self.find_image(number, container),
            // The command of a machine that was saved while it started, and is stopping by now.
            Command::Start { container, .. } if self.is_stopping(number) => {
                let (failure, message) = (StartFailure::Create, "the Pod is stopping".to_owned());
                self.tell(number, Event::StartFailed { container, failure, message });
            }
            Command::Start { container, attempt } => {
                if let Err((failure, message)) = self.start(number, container, attempt)? {
                    self.tell(number, Event::StartFailed { container, failure, message });
                }
            }
            Command::RunHook { container, attempt, hook } => self.run_hook(number, container, attempt, hook),
            Command::Probe { container, attempt, probe } => self.probe(number, container, attempt, probe),
            Command::Signal { container } => self.signal(number, container),
            Command::Kill { container } => self.kill(number, container),
            Command::Clear { container } => {
                self.give_up_errands(number, container);
                self.clear(number, container)?;
            }
            Command::Diagnose { container } => self.diagnose(number, container),
            Command::Release => self.release(number)?,
        }
        Ok(())
    }

    fn is_stopping(&self, number: PodNumber) -> bool {
        self.pods.get(&number).is_some_and(|run| run.machine.is_ending())
    }

    /// Queues what happened to a Pod.
    pub fn tell(&mut self, number: PodNumber, event: Event) {
        self.events.push_back((number, event));
    }

    /// Sends the container's own stop signal, else its image's, SIGTERM where that names none, to the container's first process.
    fn signal(&mut self, number: PodNumber, container: Index) {
        let Some(run) = self.pods.get(&number) else { return };
        let Some(process) = run.containers.get(container).and_then(|c| c.process.as_ref()) else { return };
        let Some(pidfd) = &process.pidfd else { return };
        let own = run.pod().containers.get(container).and_then(|spec| spec.lifecycle.stop_signal);
        let signal =
            own.or(process.run.stop_signal.as_deref()).and_then(sys::signal::parse).unwrap_or(Signal::TERM);
        match pidfd_send_signal(pidfd, signal) {
            // It has ended by itself: its exit is on the way.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => log::error!("{}: send {signal:?}: {errno}", run.name_of(container)),
        }
    }

    /// SIGKILL to everything in the container's cgroup.
    pub fn kill(&mut self, number: PodNumber, container: Index) {
        let Some(run) = self.pods.get(&number) else { return };
        let Some(group) = run.containers.get(container).and_then(|c| c.group.as_ref()) else { return };
        if let Err(error) = group.kill() {
            log::error!("{}: {:#}", run.name_of(container), anyhow::Error::from(error));
        }
    }
}
