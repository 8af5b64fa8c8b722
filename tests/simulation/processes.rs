//! The processes of the containers: how they come, end and are cleared away, whether or not a worker is there.

use std::time::Duration;

use podkeep::manifest::pod::Role;
use podkeep::pod::{BootTime, Event, Exit};

use super::laws::check_asked_about;
use super::world::{Run, World};

/// A container's cgroup with what runs in it: there from the start to the clearing.
pub struct Group {
    pub run: Run,
    /// How the first process ended.
    pub exit: Option<Exit>,
    pub exec_fails: bool,
    pub signalled: Option<BootTime>,
    /// When it was killed: it may resist for a while.
    pub killed: Option<BootTime>,
    /// By hook and by probe: the worker that asked for it last, or has it under way.
    pub hooks: [Option<u32>; 2],
    pub probes: [Option<u32>; 3],
    /// Somebody has asked which process resists, or a worker's death explains why nobody has.
    pub asked_about: bool,
    /// The kernel is ending it together with the first process of its PID namespace.
    pub doomed: bool,
    /// The machine has been told so while it knew that this runs.
    pub told_of_doom: bool,
    /// The kernel has killed in it for want of memory: seen only until the cgroup is gone.
    pub out_of_memory: bool,
    pub is_removed: bool,
}

pub fn pause_ended() -> Event {
    Event::PauseEnded { message: "its first process has ended".into() }
}

impl World {
    /// Says whether it will fail at exec.
    pub fn make_process(&mut self, container: usize, attempt: u32) -> bool {
        let run = Run { attempt, pid: self.next_pid };
        self.next_pid += 1;
        self.made[container] = Some(attempt);
        self.journal = Some((container, run));
        let exec_fails = self.goes_wrong(8);
        let is_init = self.pod.containers[container].role == Role::Init;
        let longest = self.random.pick(if is_init { &[0, 1, 30] } else { &[0, 1, 30, 900, 2000] });
        let life = if exec_fails { Duration::ZERO } else { self.random.up_to(longest) };
        if is_init || exec_fails || !self.calm {
            self.ends.push((self.now + life, container, run.pid));
        }
        self.groups[container] = Some(Group {
            run,
            exit: None,
            exec_fails,
            signalled: None,
            hooks: [None; 2],
            probes: [None; 3],
            killed: None,
            asked_about: false,
            doomed: false,
            told_of_doom: false,
            out_of_memory: self.random.one_in(10),
            is_removed: false,
        });
        exec_fails
    }

    /// The first process of the PID namespace that all containers share ends.
    pub fn pause_ends(&mut self) {
        for container in 0..self.groups.len() {
            let end = self.soon(5);
            let Some(group) = &mut self.groups[container] else { continue };
            if !group.doomed && group.exit.is_none() {
                self.ends.push((end, container, group.run.pid));
            }
            // Also what had just been killed and nobody has heard of: nobody can tell that apart.
            group.doomed = true;
        }
        self.happens(pause_ended());
    }

    /// The first process of a container ends while a worker is there.
    pub fn end_process(&mut self, at: BootTime) {
        let first = self.ends.iter().position(|(end, ..)| *end == at).expect("it is the minimum");
        let (_, container, pid) = self.ends.remove(first);
        let Some(exit) = self.ends_now(container, pid) else { return };
        // What it reported before it ended comes first.
        let is_report = |event: &Event| match event {
            Event::Started { container: of, .. } | Event::StartFailed { container: of, .. } => {
                *of == container
            }
            _ => false,
        };
        if let Some(report) = self.answers.iter().position(|(_, event)| is_report(event)) {
            let (_, event) = self.answers.remove(report);
            self.answers.push((self.now, Event::Exited { container, exit }));
            return self.happens(event);
        }
        self.happens(Event::Exited { container, exit });
    }

    /// A process ends, whether or not a worker is there to see it. `None` if it was gone already.
    pub fn ends_now(&mut self, container: usize, pid: u32) -> Option<Exit> {
        let is_init = self.pod.containers[container].role == Role::Init;
        let by_itself = if self.calm && is_init { Exit::Code(0) } else { self.random.exit() };
        let group = self.groups[container].as_mut().filter(|group| group.run.pid == pid)?;
        if group.exit.is_some() {
            return None;
        }
        check_asked_about(group, self.now);
        let exit = match group.killed {
            Some(_) => Exit::Signal(9),
            None if group.doomed => Exit::Signal(9),
            None if group.exec_fails => Exit::Code(1),
            None => by_itself,
        };
        group.exit = Some(exit);
        self.unacknowledged.push((group.run, exit));
        Some(exit)
    }

    /// The last process of the cgroup is gone, and so is everything else of the run.
    pub fn is_cleared(&mut self, container: usize) {
        if let Some(group) = self.groups[container].take() {
            check_asked_about(&group, self.now);
            if group.exit.is_none() {
                self.unacknowledged.push((group.run, Exit::Code(1)));
            }
        }
        self.records[container] = None;
    }
}
