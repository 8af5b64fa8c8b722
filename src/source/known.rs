//! What is known of one file: what was read and told of it last, and what it is waiting for.

use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::file::Stamp;
use super::{Change, FileError, REMOVAL_DELAY, SETTLE_TIME};

/// A file that stays open for writing is tried again after this time, then after twice as long, up to the rescan:
/// a writer on another mount of a network file system gives no event when it is done.
const WRITER_RETRY: Duration = Duration::from_secs(1);

/// The file is reported as held open after so many tries: 7 seconds.
const TRIES_BEFORE_REPORT: u32 = 3;

/// What is known of one file.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// As it was when it was last read.
    pub(super) stamp: Option<Stamp>,
    /// The hash of the content that was handed out last; none after trouble was reported.
    sent: Option<[u8; 32]>,
    /// The error that was reported last, and still holds.
    trouble: Option<String>,
    /// Whether the other side has heard of this file.
    pub(super) told: bool,
    /// A stamp that is watched for changes, and since when.
    resting: Option<(Stamp, Duration)>,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum State {
    #[default]
    Quiet,
    /// To be read once it is whole; tried again `at`.
    Waiting { at: Duration, tries: u32, stamp: Stamp },
    /// Not there; gone `at`.
    Missing { at: Duration },
}

impl State {
    pub(super) fn due(&self) -> Option<Duration> {
        match *self {
            State::Quiet => None,
            State::Waiting { at, .. } | State::Missing { at } => Some(at),
        }
    }
}

impl Known {
    pub(super) fn is_as_read(&self, stamp: Stamp) -> bool {
        let waiting = matches!(self.state, State::Waiting { .. });
        self.stamp == Some(stamp) && self.trouble.is_none() && !waiting
    }

    /// The stamp that has not changed for [`SETTLE_TIME`].
    pub(super) fn rested(&self, now: Duration) -> Option<Stamp> {
        self.resting.filter(|(_, since)| now >= *since + SETTLE_TIME).map(|(stamp, _)| stamp)
    }

    pub(super) fn is_missing(&mut self, now: Duration) {
        if !matches!(self.state, State::Missing { .. }) {
            self.state = State::Missing { at: now + REMOVAL_DELAY };
        }
    }

    pub(super) fn is_whole(
        &mut self,
        bytes: Vec<u8>,
        stamp: Stamp,
        path: impl Fn() -> PathBuf,
    ) -> Option<Change> {
        let hash = Sha256::digest(&bytes).into();
        self.stamp = Some(stamp);
        self.state = State::Quiet;
        self.resting = None;
        self.trouble = None;
        self.told = true;
        (self.sent.replace(hash) != Some(hash)).then(|| Change::Read { file: path(), bytes })
    }

    pub(super) fn is_unsettled(&mut self, stamp: Stamp, now: Duration) {
        let since = match self.resting {
            Some((resting, since)) if resting == stamp => since,
            _ => now,
        };
        self.resting = Some((stamp, since));
        self.state = State::Waiting { at: since + SETTLE_TIME, tries: 0, stamp };
    }

    pub(super) fn is_being_written(
        &mut self,
        stamp: Stamp,
        now: Duration,
        longest: Duration,
        path: impl Fn() -> PathBuf,
    ) -> Option<Change> {
        let tries = match self.state {
            // An event or a rescan in between does not bring the next try forward, nor put it off.
            State::Waiting { at, tries, .. } if tries > 0 && at > now => {
                self.state = State::Waiting { at, tries, stamp };
                return None;
            }
            State::Waiting { tries, .. } => tries,
            State::Quiet | State::Missing { .. } => 0,
        };
        let pause = WRITER_RETRY.saturating_mul(1 << tries.min(16)).min(longest);
        self.state = State::Waiting { at: now + pause, tries: tries + 1, stamp };
        (tries >= TRIES_BEFORE_REPORT)
            .then(|| self.report(FileError::OpenForWriting { file: path() }, path))?
    }

    pub(super) fn has_failed(&mut self, error: FileError, path: impl Fn() -> PathBuf) -> Option<Change> {
        self.state = State::Quiet;
        self.report(error, path)
    }

    /// The folder cannot be listed: nothing is due until all files are compared again. What was to be read is read then
    /// whatever its stamp says.
    pub(super) fn is_out_of_sight(&mut self) {
        if let State::Waiting { .. } = self.state {
            self.stamp = None;
        }
        self.state = State::Quiet;
    }

    /// Says what is wrong, unless it was said before.
    fn report(&mut self, error: FileError, path: impl Fn() -> PathBuf) -> Option<Change> {
        self.sent = None;
        self.told = true;
        let text = error.to_string();
        (self.trouble.replace(text.clone()) != Some(text)).then(|| Change::Unreadable { file: path(), error })
    }
}
