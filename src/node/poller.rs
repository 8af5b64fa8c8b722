//! What the loop waits for: file descriptors, each with a key that says what its readiness means, and one deadline.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::pod::BootTime;

/// How many events one turn of the loop takes: what is behind them gets its turn after the rest has had one.
const EVENTS_PER_TURN: usize = 64;
/// The timer's token; no registration gets it.
const TIMER: u64 = 0;

/// When a file descriptor is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Whenever there is something to read.
    Readable,
    /// Once for each time that something more came: what was left unread does not wake the loop again.
    NewData,
    /// Each time that something more came, or that there is room again for what is to be sent.
    Progress,
    /// An exceptional state: how cgroup files tell of a change.
    Priority,
}

/// A place in the set of watched file descriptors. Its descriptor must be [removed](Poller::remove) before it is closed:
/// one that the keeper holds too would otherwise go on to report.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
pub struct Registration(u64);

/// An epoll set with a timer on `CLOCK_BOOTTIME`, which counts while the machine is suspended, as epoll's own does not.
#[derive(Debug)]
pub struct Poller<K> {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<BootTime>,
    keys: HashMap<u64, K>,
    last: u64,
}

impl<K: Clone> Poller<K> {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        Ok(Self { epoll, timer, armed: None, keys: HashMap::new(), last: TIMER })
    }

    /// Watches `fd` until it is removed.
    pub fn add(&mut self, fd: impl AsFd, interest: Interest, key: K) -> io::Result<Registration> {
        self.last += 1;
        let flags = match interest {
            Interest::Readable => epoll::EventFlags::IN,
            Interest::NewData => epoll::EventFlags::IN | epoll::EventFlags::ET,
            Interest::Progress => epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET,
            Interest::Priority => epoll::EventFlags::PRI,
        };
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(self.last), flags)?;
        self.keys.insert(self.last, key);
        Ok(Registration(self.last))
    }

    /// Watches `fd` no longer.
    pub fn remove(&mut self, fd: impl AsFd, registration: Registration) {
        // The only possible error is that it is not watched.
        let _ = epoll::delete(&self.epoll, fd);
        self.keys.remove(&registration.0);
    }

    /// Waits until something is ready or the deadline has come (at once if it is past), and says what is ready.
    pub fn wait(&mut self, deadline: Option<BootTime>) -> io::Result<Vec<K>> {
        self.arm(deadline)?;
        self.take(None)
    }

    /// What is ready now, without waiting.
    pub fn ready(&mut self) -> io::Result<Vec<K>> {
        self.take(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    fn take(&mut self, timeout: Option<&Timespec>) -> io::Result<Vec<K>> {
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_PER_TURN];
        let events = match epoll::wait(&self.epoll, &mut space[..], timeout) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut ready = Vec::with_capacity(events.len());
        for event in events {
            match event.data.u64() {
                TIMER => self.disarm()?,
                // An event of this turn may have removed what a later one is about.
                token => ready.extend(self.keys.get(&token).cloned()),
            }
        }
        Ok(ready)
    }

    fn arm(&mut self, deadline: Option<BootTime>) -> io::Result<()> {
        if deadline == self.armed {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // All zero would disarm the timer; a deadline at boot itself is one nanosecond late.
        let it_value = deadline.map_or(zero, |at| {
            let at = at.since_boot();
            let nanos = if at.is_zero() { 1 } else { at.subsec_nanos() };
            Timespec { tv_sec: at.as_secs() as i64, tv_nsec: i64::from(nanos) }
        });
        let setting = Itimerspec { it_interval: zero, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting)?;
        self.armed = deadline;
        Ok(())
    }

    fn disarm(&mut self) -> io::Result<()> {
        let mut count = [0; 8];
        match rustix::io::read(&self.timer, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        self.armed = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::clock;
    use std::time::Duration;

    #[test]
    fn a_past_deadline_is_due_at_once_and_a_ready_pipe_is_named() {
        let mut poller = Poller::new().unwrap();
        assert!(poller.wait(Some(BootTime::from_nanos(0))).unwrap().is_empty());
        let (read, write) = rustix::pipe::pipe().unwrap();
        let registration = poller.add(&read, Interest::NewData, "pipe").unwrap();
        rustix::io::write(&write, b"x").unwrap();
        assert_eq!(poller.wait(None).unwrap(), ["pipe"]);
        assert!(poller.ready().unwrap().is_empty(), "edge-triggered: told once");
        rustix::io::write(&write, b"y").unwrap();
        assert_eq!(poller.ready().unwrap(), ["pipe"]);
        poller.remove(&read, registration);
        rustix::io::write(&write, b"z").unwrap();
        assert!(poller.wait(Some(clock::now() + Duration::from_millis(1))).unwrap().is_empty());
    }
}
