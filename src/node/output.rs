//! Containers' output, from their pipes to their log files, with a share of each turn for each of them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::clock;
use super::pod_run::{Output, PodNumber};
use super::worker::{Done, Worker};
use crate::logs::{self, Lost, Stream, retain};
use crate::manifest::Uid;
use crate::order;
use crate::pod::BootTime;
use crate::pod::event::Index;

/// What one pipe may give in one turn of the loop: `yes` in one container must not slow another's restart. Bytes.
const BUDGET: usize = 256 << 10;

/// How often one container's lost lines are worth a line of ours: a full disk must not fill the journal too.
const LOST_AGAIN: Duration = Duration::from_secs(60);

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
        say_lost(&name, output, pumped.lost);
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
        let mut lost = None;
        for (stream, fifo) in [(Stream::Stdout, &output.stdout.inner), (Stream::Stderr, &output.stderr.inner)]
        {
            let pumped = self.pump.finish(fifo, stream, &mut output.log).with_context(|| name.clone())?;
            lost = pumped.lost.or(lost);
        }
        say_lost(&name, output, lost);
        Ok(())
    }

    /// Removes logs of Pods that are gone, where they are too old or too many, beside the loop.
    pub fn sweep_logs(&mut self) {
        self.sweep_at = None;
        // Where a thousand Pods go at once, not each of them has all logs looked through.
        if !self.sweeping.may_begin() {
            return;
        }
        let root = self.options.folders.logs.clone();
        let alive: BTreeSet<Uid> = order::set(self.numbers.keys().cloned());
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
                    Done::Swept(Ok(swept.next.map(|at| now + wait(at))))
                }
                Err(error) => Done::Swept(Err(error.to_string())),
            }
        });
    }

    pub fn logs_swept(&mut self, result: Result<Option<BootTime>, String>) {
        match result {
            Ok(next) => self.sweep_at = next,
            Err(message) => log::error!("{message}"),
        }
        if self.sweeping.ended() {
            self.sweep_logs();
        }
    }
}

/// Says how many lines a container has lost: the first time at once, then once in a while.
fn say_lost(name: &str, output: &mut Output, lost: Option<Lost>) {
    let Some(lost) = lost else { return };
    output.lost += lost.lines;
    let now = clock::now();
    if output.lost_said_at.is_none_or(|said| now - said >= LOST_AGAIN) {
        log::error!("{name}: {} log lines lost: {}", output.lost, lost.cause.desc());
        output.lost = 0;
        output.lost_said_at = Some(now);
    }
}
