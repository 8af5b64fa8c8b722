//! Whatever happens to files and Pods, in whatever order: a random world around the set, and its laws.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podkeep::manifest::{Pod, PodId, Uid};
use podkeep::pod::set::{Good, Problem, Set, SetCommand, SetEvent};
use proptest::prelude::*;

use super::{FOLDER, broken, gone, id, listed, origin, plain, word, words};

/// The machine that carries out the commands, and the folder as far as it was told.
struct Machine {
    set: Set,
    max: usize,
    pods: Vec<OnMachine>,
    files: BTreeMap<usize, Vec<Arc<Pod>>>,
    /// What the disk has, by file.
    good: BTreeMap<String, Vec<Good>>,
}

struct OnMachine {
    pod: Arc<Pod>,
    /// It is not there yet, but for a rehearsal.
    rehearses: bool,
    ready: bool,
    ran: bool,
    stopping: bool,
}

impl Machine {
    fn new(max: Option<u32>) -> Machine {
        Machine {
            set: Set::new(&[FOLDER], max),
            max: max.map_or(usize::MAX, |max| max as usize),
            pods: Vec::new(),
            files: BTreeMap::new(),
            good: BTreeMap::new(),
        }
    }

    fn do_one(&mut self, deed: &Deed) {
        match deed {
            Deed::Read(file, pods) => drop(self.file_is(*file, asked(pods))),
            Deed::Break(file) => {
                self.files.entry(*file).or_default();
                let commands = self.tell(broken(&file.to_string()));
                let only_told = commands.iter().all(|command| matches!(command, SetCommand::Report(_)));
                assert!(only_told, "a broken file leads to {:?}", words(commands));
            }
            Deed::Remove(file) => drop(self.file_goes(*file)),
            Deed::Rename(from, to) => self.rename(*from, *to),
            Deed::PodGone(which) => drop(self.one_is_gone(*which)),
            Deed::Rehearsal(which, fails) => drop(self.one_is_rehearsed(*which, *fails)),
            Deed::TakesTime => drop(self.tell(SetEvent::TakesTime)),
            Deed::Began(which) => drop(self.one_began(*which)),
            Deed::Ready(which, ready) => drop(self.one_is_ready(*which, *ready)),
        }
    }

    /// All Pods are gone, and what was saved comes back before the files are read.
    fn lose_power(&mut self) {
        let files = std::mem::take(&mut self.files);
        let Machine { good, .. } = std::mem::replace(self, Machine::new(None));
        self.good.clone_from(&good);
        for (file, pods) in good {
            self.tell(SetEvent::Restored { origin: origin(&file), pods });
        }
        let names: Vec<_> = files.keys().map(usize::to_string).collect();
        for (file, pods) in files {
            self.file_is(file, pods);
        }
        self.tell(listed(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    }

    fn tell(&mut self, event: SetEvent) -> Vec<SetCommand> {
        let commands = self.set.step(event);
        for command in &commands {
            match command {
                SetCommand::Start(pod) => {
                    self.add(pod, false);
                    self.check_start(pod);
                }
                SetCommand::Rehearse(pod) => self.add(pod, true),
                SetCommand::Proceed { uid } => {
                    let one = self.find(uid);
                    assert!(one.rehearses && !one.stopping, "proceeds with what was not rehearsed");
                    one.rehearses = false;
                    let pod = Arc::clone(&one.pod);
                    self.check_start(&pod);
                }
                SetCommand::Stop { uid, .. } => {
                    let one = self.find(uid);
                    assert!(!one.stopping, "stopped twice");
                    one.stopping = true;
                }
                SetCommand::SaveGood { origin, pods } => {
                    self.good.insert(origin.file.display().to_string(), pods.clone());
                }
                SetCommand::ForgetGood { origin } => {
                    self.good.remove(&origin.file.display().to_string());
                }
                SetCommand::Discard { .. } | SetCommand::ObjectChanged(_) | SetCommand::Report(_) => {}
            }
        }
        commands
    }

    fn add(&mut self, pod: &Arc<Pod>, rehearses: bool) {
        assert!(self.pods.iter().all(|one| one.pod.uid != pod.uid), "two of {}", word(&pod.uid));
        let is_twin = |one: &&OnMachine| one.pod.id == pod.id && one.rehearses == rehearses;
        assert_eq!(self.pods.iter().filter(is_twin).count(), 0, "two of {}", pod.id);
        let pod = Arc::clone(pod);
        self.pods.push(OnMachine { pod, rehearses, ready: false, ran: false, stopping: false });
    }

    fn check_start(&self, pod: &Pod) {
        let running = || self.pods.iter().filter(|one| !one.rehearses);
        assert_eq!(running().filter(|one| one.pod.id == pod.id).count(), 1, "two of {}", pod.id);
        assert!(running().count() <= self.max, "more than {}", self.max);
        let is_ready = |id: &PodId| running().any(|one| one.pod.id == *id && one.ready);
        assert!(pod.after.iter().all(is_ready), "{} starts too early", pod.id);
    }

    fn find(&mut self, uid: &Uid) -> &mut OnMachine {
        self.pods.iter_mut().find(|one| one.pod.uid == *uid).expect("stops or starts what is there")
    }

    fn running(&self, id: &PodId) -> Option<&OnMachine> {
        self.pods.iter().find(|one| one.pod.id == *id && !one.rehearses)
    }

    fn file_is(&mut self, file: usize, pods: Vec<Arc<Pod>>) -> Vec<SetCommand> {
        self.files.insert(file, pods.clone());
        self.tell(SetEvent::FileRead { origin: origin(&file.to_string()), pods, objects: Vec::new() })
    }

    fn file_goes(&mut self, file: usize) -> Vec<SetCommand> {
        self.files.remove(&file);
        self.tell(gone(&file.to_string()))
    }

    /// One of those for which `which` holds.
    fn choose(&self, number: usize, which: impl Fn(&OnMachine) -> bool) -> Option<usize> {
        let chosen: Vec<_> = (0..self.pods.len()).filter(|at| which(&self.pods[*at])).collect();
        chosen.get(number % chosen.len().max(1)).copied()
    }

    fn one_is_gone(&mut self, number: usize) -> bool {
        let Some(at) = self.choose(number, |one| one.stopping) else { return false };
        let gone = self.pods.remove(at).pod;
        self.tell(SetEvent::PodGone { uid: gone.uid.clone(), id: gone.id.clone() });
        true
    }

    fn one_is_rehearsed(&mut self, number: usize, fails: bool) -> bool {
        let Some(at) = self.choose(number, |one| one.rehearses && !one.stopping) else { return false };
        let (uid, id) = (self.pods[at].pod.uid.clone(), self.pods[at].pod.id.clone());
        !self
            .tell(match fails {
                true => SetEvent::RehearsalFailed { uid, id, message: "no image".to_owned() },
                false => SetEvent::Rehearsed { uid, id },
            })
            .is_empty()
    }

    fn one_began(&mut self, number: usize) -> bool {
        let begins = |one: &OnMachine| !one.rehearses && !one.stopping && !one.ran;
        let Some(at) = self.choose(number, begins) else { return false };
        self.pods[at].ran = true;
        let pod = Arc::clone(&self.pods[at].pod);
        self.tell(SetEvent::Began { uid: pod.uid.clone(), id: pod.id.clone() });
        true
    }

    fn one_is_ready(&mut self, number: usize, ready: bool) -> bool {
        // What is Ready has begun.
        while ready && self.one_began(0) {}
        let changes = |one: &OnMachine| !one.rehearses && !one.stopping && one.ready != ready;
        let Some(at) = self.choose(number, changes) else { return false };
        self.pods[at].ready = ready;
        let pod = Arc::clone(&self.pods[at].pod);
        self.tell(SetEvent::Readiness { uid: pod.uid.clone(), id: pod.id.clone(), ready });
        true
    }

    /// Everything goes well and to its end, but for rehearsals if they fail.
    fn come_to_rest(&mut self, rehearsals_fail: bool) {
        loop {
            let goes_on = self.one_is_gone(0) || self.one_is_ready(0, true);
            let rehearsals =
                (0..self.pods.len()).any(|number| self.one_is_rehearsed(number, rehearsals_fail));
            if !goes_on && !rehearsals {
                return;
            }
        }
    }

    /// What must hold when everything has gone well and to its end.
    fn check_rest(&self) {
        let names: BTreeSet<_> = self.files.values().flatten().map(|pod| pod.id.clone()).collect();
        for one in &self.pods {
            assert!(!one.stopping, "{} does not end", one.pod.id);
            assert!(names.contains(&one.pod.id), "{} stays without a file", one.pod.id);
        }
        let running = self.pods.iter().filter(|one| !one.rehearses).count();
        let is_full = running == self.max;
        for id in &names {
            let wanted = self.wanted(id);
            let may_start = wanted.after.iter().all(|id| self.running(id).is_some());
            let circle = self.set.problems().into_iter().find_map(|problem| match problem {
                Problem::Circle { ids } if ids.contains(id) => Some(ids),
                _ => None,
            });
            if may_start && circle.is_none() {
                let is_there = |one: &OnMachine| one.pod.uid == wanted.uid;
                assert!(
                    self.running(id).is_some_and(is_there) || is_full && self.running(id).is_none(),
                    "{id} is not what its owner asks for"
                );
            }
            if let Some(ids) = circle {
                assert!(ids.iter().all(|id| !self.wanted(id).after.is_empty()), "{ids:?} is no circle");
            }
        }
    }

    /// What the owner of a name asks for.
    fn wanted(&self, id: &PodId) -> &Arc<Pod> {
        let owner = self.set.origin(id).expect("owned");
        let file: usize = owner.file.to_str().unwrap().parse().unwrap();
        self.files[&file].iter().find(|pod| pod.id == *id).expect("asked for by its owner")
    }

    /// Does nothing when another file holds something under the new name.
    fn rename(&mut self, from: usize, to: usize) {
        if from == to || self.files.contains_key(&to) {
            return;
        }
        let Some(pods) = self.files.get(&from).cloned() else { return };
        // The name of what waits or is rehearsed goes to the next file that asks for it.
        let runs = |pod: &Arc<Pod>| self.running(&pod.id).is_some_and(|one| one.pod.uid == pod.uid);
        let all_run = pods.iter().all(runs);
        let mut commands = self.file_is(to, pods);
        commands.extend(self.file_goes(from));
        let touched =
            commands.iter().any(|command| matches!(command, SetCommand::Start(_) | SetCommand::Stop { .. }));
        assert!(!touched || !all_run, "a rename leads to {:?}", words(commands));
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Read(usize, Vec<(usize, usize)>),
    Break(usize),
    Remove(usize),
    Rename(usize, usize),
    PodGone(usize),
    Rehearsal(usize, bool),
    TakesTime,
    Began(usize),
    Ready(usize, bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    let asked = prop::collection::vec((0..4usize, 0..5usize), 0..4);
    prop_oneof![
        4 => (0..4usize, asked).prop_map(|(file, asked)| Deed::Read(file, asked)),
        1 => (0..4usize).prop_map(Deed::Break),
        2 => (0..4usize).prop_map(Deed::Remove),
        2 => (0..4usize, 0..4usize).prop_map(|(from, to)| Deed::Rename(from, to)),
        3 => (0..4usize).prop_map(Deed::PodGone),
        3 => (0..4usize, prop::bool::ANY).prop_map(|(which, fails)| Deed::Rehearsal(which, fails)),
        1 => Just(Deed::TakesTime),
        3 => (0..4usize).prop_map(Deed::Began),
        3 => (0..4usize, prop::bool::weighted(0.7)).prop_map(|(which, ready)| Deed::Ready(which, ready)),
    ]
}

const NAMES: [&str; 4] = ["web", "db", "log", "zoo"];

/// Some versions come after the next Pod in a ring, so that there are chains and circles; some after the first one.
fn version(name: usize, content: usize) -> Arc<Pod> {
    let others: &[&str] = match (name, content) {
        (_, 3) => &[NAMES[(name + 1) % NAMES.len()]],
        (1.., 4) => &[NAMES[0]],
        _ => &[],
    };
    let after = others.iter().map(|name| id(name)).collect();
    Arc::new(Pod {
        recreate: content.is_multiple_of(2),
        after,
        ..plain(&format!("{}{content}", NAMES[name]))
    })
}

/// No name twice in one file, as the manifest promises.
fn asked(asked: &[(usize, usize)]) -> Vec<Arc<Pod>> {
    let by_name: BTreeMap<_, _> = asked.iter().copied().collect();
    by_name.iter().map(|(name, content)| version(*name, *content)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_ends_with_what_the_files_ask_for(
        max in prop::option::of(1..4u32),
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        let mut machine = Machine::new(max);
        deeds.iter().for_each(|deed| machine.do_one(deed));
        machine.come_to_rest(false);
        machine.check_rest();
    }

    #[test]
    fn what_ran_comes_back_after_a_power_cut_whatever_can_be_prepared(
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        let mut machine = Machine::new(None);
        deeds.iter().for_each(|deed| machine.do_one(deed));
        let owner = |machine: &Machine, id: &PodId| machine.set.origin(id).cloned();
        // What ends when those have gone that come after it does not stay either.
        let is_last = |one: &OnMachine| !machine.pods.iter().any(|other| other.pod.after.contains(&one.pod.id));
        let none_stops = machine.pods.iter().all(|one| !one.stopping);
        let stays = |one: &&OnMachine| {
            one.ran && !one.rehearses && !one.stopping && (none_stops || is_last(one))
        };
        let ran: Vec<_> = machine.pods.iter().filter(stays).map(|one| Arc::clone(&one.pod)).collect();
        let ran: Vec<_> = ran.into_iter().map(|pod| (owner(&machine, &pod.id), pod)).collect();
        machine.lose_power();
        machine.come_to_rest(true);
        for (file, pod) in &ran {
            // Of two files the other one may have the name now, and the kubelet's way asks for no rehearsal.
            let is_same = owner(&machine, &pod.id) == *file && file.is_some();
            let asks_for_other = is_same && {
                let wanted = machine.wanted(&pod.id);
                wanted.uid != pod.uid && wanted.recreate
            };
            if is_same && !asks_for_other && pod.after.iter().all(|id| machine.running(id).is_some()) {
                let is_back = machine.running(&pod.id).is_some_and(|one| one.pod.uid == pod.uid);
                prop_assert!(is_back, "{} does not come back", word(&pod.uid));
            }
        }
        machine.come_to_rest(false);
        machine.check_rest();
    }
}
