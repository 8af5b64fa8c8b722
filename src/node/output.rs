//! Containers' output, from their pipes to their log files, with a share of each turn for each of them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::clock;
use super::pod_run::PodNumber;
use super::worker::{Done, Worker};
use crate::logs::{self, Stream, retain};
use crate::manifest::Uid;
use crate::pod::event::Index;

/// What one pipe may give in one turn of the loop: `yes` in one container must not slow another's restart. Bytes.
const BUDGET: usize = 256 << 10;

/// Pipes whose budget ended before they did. They get their next share without waiting.
pub type Chatty = BTreeSet<(PodNumber, Index, bool)>;

/// The keeper's key of a container's pipe.
pub fn fifo_key(uid: &Uid, container: Index, stream: Stream) -> String {
    format!("{uid}/{container}/{}", stream.as_str())
}

impl Worker {
    /// Moves what a container has written, up to the pipe's share of a turn.
    pub fn pump(&mut self, number: PodNumber, container: Index, stream: Stream) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let name = run.name_of(container);
        let Some(output) = run.containers.get_mut(container).and_then(|c| c.output.as_mut()) else {
            return Ok(());
        };
        let fifo = match stream {
            Stream::Stdout => &output.stdout.inner,
            Stream::Stderr => &output.stderr.inner,
        };
        let pumped = self.pump.pump(fifo, stream, &mut output.log, BUDGET).with_context(|| name.clone())?;
        if let Some(lost) = pumped.lost {
            log::error!("{name}: {} log lines lost: {}", lost.lines, lost.cause.desc());
        }
        if pumped.more {
            self.chatty.insert((number, container, stream == Stream::Stderr));
        }
        Ok(())
    }

    /// Gives those that had more to say their next share.
    pub fn pump_chatty(&mut self) -> Result<()> {
        for (number, container, is_stderr) in std::mem::take(&mut self.chatty) {
            self.pump(number, container, if is_stderr { Stream::Stderr } else { Stream::Stdout })?;
        }
        Ok(())
    }

    /// Writes all that a container has left in its pipes.
    pub fn finish_output(&mut self, number: PodNumber, container: Index) -> Result<()> {
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let name = run.name_of(container);
        let Some(output) = run.containers.get_mut(container).and_then(|c| c.output.as_mut()) else {
            return Ok(());
        };
        for (stream, fifo) in [(Stream::Stdout, &output.stdout.inner), (Stream::Stderr, &output.stderr.inner)]
        {
            let pumped = self.pump.finish(fifo, stream, &mut output.log).with_context(|| name.clone())?;
            if let Some(lost) = pumped.lost {
                log::error!("{name}: {} log lines lost: {}", lost.lines, lost.cause.desc());
            }
        }
        Ok(())
    }

    /// Removes logs of Pods that are gone, where they are too old or too many, beside the loop.
    pub fn sweep_logs(&mut self) {
        self.sweep_at = None;
        let root = self.options.folders.logs.clone();
        let alive: BTreeSet<Uid> = self.numbers.keys().cloned().collect();
        self.disk.add(move || {
            let (now, wall) = (clock::now(), SystemTime::now());
            let is_alive = |uid: &Uid| alive.contains(uid);
            match logs::sweep(&root, &is_alive, retain::MAX_AGE, retain::MAX_BYTES, wall) {
                Ok(swept) => {
                    swept.failed.iter().for_each(|error| log::warn!("{error}"));
                    // A minute more, so that the clock's grain never makes it a second try.
                    let wait = |at: SystemTime| {
                        at.duration_since(wall).unwrap_or_default() + Duration::from_secs(60)
                    };
                    Done::Swept { next: swept.next.map(|at| now + wait(at)) }
                }
                Err(error) => Done::Finished(Err(error.to_string())),
            }
        });
    }
}
