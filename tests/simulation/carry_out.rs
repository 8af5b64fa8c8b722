//! The world's side of the machine's commands: what they do, and what comes of them.

use std::sync::Arc;
use std::time::Duration;

use podkeep::pod::{Command, Event, Hook, ImageProblem, Outcome, PrepareProblem, ProbeKind, StartFailure};

use super::world::{Run, World};

impl World {
    /// Says whether the worker is still alive.
    pub fn carry_out_one(&mut self, command: Command) -> bool {
        match command {
            Command::Rehearse => self.find_out(),
            Command::Prepare => self.prepare(),
            Command::FindImage { container } => self.find_image(container),
            Command::Start { container, attempt } => return self.start(container, attempt),
            Command::RunHook { container, attempt, hook } => self.run_hook(container, attempt, hook),
            Command::Probe { container, attempt, probe } => self.probe(container, attempt, probe),
            Command::Signal { container } => self.signal(container),
            Command::Kill { container } => self.kill(container),
            Command::Clear { container } => self.clear(container),
            Command::Diagnose { container } => self.diagnose(container),
            Command::Release => self.release(),
        }
        true
    }

    fn answer(&mut self, seconds: u64, event: Event) {
        let at = self.soon(seconds);
        self.answers.push((at, event));
    }

    /// Whether the Pod could be prepared.
    fn find_out(&mut self) {
        let message = "no such directory".into();
        let fails = self.goes_wrong(2);
        self.answer(2, if fails { Event::RehearsalFailed { message } } else { Event::Rehearsed });
    }

    fn prepare(&mut self) {
        self.held = true;
        let message = "no space".into();
        let fails = if self.full_disk { !self.random.one_in(16) } else { self.goes_wrong(4) };
        let event = if fails {
            Event::PrepareFailed { problem: PrepareProblem::Other, message }
        } else {
            Event::Prepared
        };
        self.answer(2, event);
    }

    fn find_image(&mut self, container: usize) {
        let problems = [ImageProblem::Missing, ImageProblem::NeverPull, ImageProblem::Unreadable];
        let event = if self.goes_wrong(5) {
            let problem = self.random.pick(&problems);
            Event::ImageMissing { container, problem, message: "not there".into() }
        } else {
            Event::ImageReady { container, image_id: "sha256:0".into() }
        };
        self.answer(2, event);
    }

    fn start(&mut self, container: usize, attempt: u32) -> bool {
        let refused =
            |failure, message: &str| Event::StartFailed { container, failure, message: message.into() };
        if self.machine.is_ending() {
            // The command of a machine that was saved while it started, and is stopping by now.
            self.answer(0, refused(StartFailure::Create, "the Pod is stopping"));
            return true;
        }
        // Broken by an `exited` that does not wait for the clearing: found.
        assert!(self.groups[container].is_none(), "a container never runs twice at once");
        // Released by a worker that died before it wrote that down: there is no folder to start in.
        if !self.held || self.goes_wrong(6) {
            let failure = self.random.pick(&[StartFailure::Config, StartFailure::Create]);
            self.answer(1, refused(failure, "refused"));
            return true;
        }
        let next = self.made[container].map_or(0, |latest| latest + 1);
        assert_eq!(attempt, next, "the world and the ledger count the same");
        let exec_fails = self.make_process(container, attempt);
        let run = self.groups[container].as_ref().map(|group| group.run);
        if self.goes_wrong(20) {
            // Killed between clone and the saved state: only the kernel has written down the PID.
            return false;
        }
        self.records[container] = run;
        self.save();
        let event = match run {
            Some(Run { pid, .. }) if !exec_fails => Event::Started { container, pid },
            _ => refused(StartFailure::Exec, "no such file"),
        };
        self.answer(1, event);
        true
    }

    /// Chance that comes to an end when the world is calm.
    pub fn goes_wrong(&mut self, one_in: u64) -> bool {
        !self.calm && self.random.one_in(one_in)
    }

    /// Some hooks hang for ever.
    fn run_hook(&mut self, container: usize, attempt: u32, hook: Hook) {
        let worker = self.worker;
        if hook == Hook::PreStop {
            self.check_may_end(container);
        }
        let Some(group) = self.groups[container].as_mut().filter(|group| group.run.attempt == attempt) else {
            return;
        };
        let before = group.hooks[hook as usize].replace(worker);
        assert!(before != Some(worker), "{hook:?} runs once");
        if self.goes_wrong(5) {
            return;
        }
        let error = self.goes_wrong(4).then(|| "it failed".to_owned());
        self.answer(30, Event::HookEnded { container, attempt, hook, error });
    }

    /// Probes flap: one that passes does so again in most cases.
    fn probe(&mut self, container: usize, attempt: u32, probe: ProbeKind) {
        let spec = Arc::clone(&self.pod);
        let spec = &spec.containers[container];
        let timeout = match probe {
            ProbeKind::Startup => &spec.probes.startup,
            ProbeKind::Liveness => &spec.probes.liveness,
            ProbeKind::Readiness => &spec.probes.readiness,
        };
        let timeout = timeout.as_ref().expect("only what the manifest has is asked for").timeout;
        let ending = self.whole.stop_by.is_some() || self.ledgers[container].facts.kill_by.is_some();
        self.ledgers[container].facts.asked_probe(spec, probe, ending, self.now);
        let worker = self.worker;
        let Some(group) = self.groups[container].as_mut().filter(|group| group.run.attempt == attempt) else {
            return;
        };
        assert!(group.probes[probe as usize].replace(worker) != Some(worker), "no probe joins another");
        let outcome = match self.random.below(10) {
            _ if self.calm => Outcome::Success,
            0 => Outcome::Broken("no socket".into()),
            1..4 => Outcome::Failure("refused".into()),
            _ => Outcome::Success,
        };
        self.answer(timeout.as_secs(), Event::ProbeResult { container, attempt, probe, outcome });
    }

    fn signal(&mut self, container: usize) {
        let heeded = (self.calm || self.random.one_in(2)).then(|| self.soon(20));
        self.check_may_end(container);
        self.check_may_signal(container);
        let Some(group) = &mut self.groups[container] else { return };
        group.signalled.get_or_insert(self.now);
        if let Some(end) = heeded {
            self.ends.push((end, container, group.run.pid));
        }
    }

    fn kill(&mut self, container: usize) {
        // Now and then in an uninterruptible sleep.
        let resists = if self.goes_wrong(5) { 60 } else { 0 };
        let end = self.soon(resists);
        let by = self.end_by(container);
        let restarting = self.whole.restart_at.is_some();
        let Some(group) = &mut self.groups[container] else { return };
        let is_due = by.is_some_and(|by| self.now >= by) || restarting || group.killed.is_some();
        assert!(is_due || group.exit.is_some(), "no SIGKILL before the grace is over");
        if group.killed.is_none() && group.exit.is_none() {
            group.killed = Some(self.now);
            self.ends.push((end, container, group.run.pid));
        }
    }

    fn clear(&mut self, container: usize) {
        let resists = if self.goes_wrong(8) { 60 } else { 0 };
        // Nobody waits for its hooks and probes any more.
        let is_its = |event: &Event| match event {
            Event::HookEnded { container: of, .. } | Event::ProbeResult { container: of, .. } => {
                *of == container
            }
            _ => false,
        };
        self.answers.retain(|(_, event)| !is_its(event));
        let at = self.soon(resists);
        if let Some(group) = &mut self.groups[container] {
            // Broken by a `started` that clears away at once what starts while the Pod is stopping: found.
            assert!(group.exit.is_some() || group.exec_fails, "what is cleared away has ended");
            group.killed = Some(self.now);
        }
        self.answers.push((at, Event::Cleared { container }));
    }

    fn diagnose(&mut self, container: usize) {
        let Some(group) = &mut self.groups[container] else { return };
        let Some(killed) = group.killed else { return };
        // Broken by a `STUCK_AFTER` of one second: found.
        assert!(group.asked_about || self.now - killed >= Duration::from_secs(2), "a process has 2 s to end");
        group.asked_about = true;
        self.answers
            .push((self.now, Event::Stuck { container, processes: format!("{} (D)", group.run.pid) }));
    }

    fn release(&mut self) {
        // Broken by a `settle` that takes `Clearing` for an end: found.
        assert!(self.groups.iter().all(Option::is_none), "what still runs is not released");
        let event = if self.goes_wrong(4) {
            Event::ReleaseFailed { message: "busy".into() }
        } else {
            self.held = false;
            Event::Released
        };
        self.answer(2, event);
    }
}
