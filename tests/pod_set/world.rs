//! Whatever happens to files and Pods, in whatever order: a random world around the set, and its laws.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podkeep::manifest::{Pod, PodId, Uid};
use podkeep::pod::set::{Problem, Set, SetCommand, SetEvent};
use proptest::prelude::*;

use super::{FOLDER, broken, gone, id, origin, plain, word, words};

/// The machine that carries out the commands, and the folder as far as it was told.
struct Machine {
    set: Set,
    max: usize,
    pods: Vec<OnMachine>,
    files: BTreeMap<usize, Vec<Arc<Pod>>>,
}

struct OnMachine {
    pod: Arc<Pod>,
    /// It is not there yet, but for a rehearsal.
    rehearses: bool,
    ready: bool,
    stopping: bool,
}

impl Machine {
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
                SetCommand::SaveGood { .. }
                | SetCommand::ForgetGood { .. }
                | SetCommand::ObjectChanged(_)
                | SetCommand::Report(_) => {}
            }
        }
        commands
    }

    fn add(&mut self, pod: &Arc<Pod>, rehearses: bool) {
        assert!(self.pods.iter().all(|one| one.pod.uid != pod.uid), "two of {}", word(&pod.uid));
        let is_twin = |one: &&OnMachine| one.pod.id == pod.id && one.rehearses == rehearses;
        assert_eq!(self.pods.iter().filter(is_twin).count(), 0, "two of {}", pod.id);
        self.pods.push(OnMachine { pod: Arc::clone(pod), rehearses, ready: false, stopping: false });
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
        let uid = self.pods.remove(at).pod.uid.clone();
        self.tell(SetEvent::PodGone { uid });
        true
    }

    fn one_is_rehearsed(&mut self, number: usize, fails: bool) -> bool {
        let Some(at) = self.choose(number, |one| one.rehearses && !one.stopping) else { return false };
        let uid = self.pods[at].pod.uid.clone();
        !self
            .tell(match fails {
                true => SetEvent::RehearsalFailed { uid, message: "no image".to_owned() },
                false => SetEvent::Rehearsed { uid },
            })
            .is_empty()
    }

    fn one_is_ready(&mut self, number: usize, ready: bool) -> bool {
        let changes = |one: &OnMachine| !one.rehearses && !one.stopping && one.ready != ready;
        let Some(at) = self.choose(number, changes) else { return false };
        self.pods[at].ready = ready;
        let pod = Arc::clone(&self.pods[at].pod);
        self.tell(SetEvent::Readiness { uid: pod.uid.clone(), id: pod.id.clone(), ready });
        true
    }

    /// Everything goes well and to its end.
    fn come_to_rest(&mut self) {
        loop {
            let goes_on = self.one_is_gone(0) || self.one_is_ready(0, true);
            let rehearsals = (0..self.pods.len()).any(|number| self.one_is_rehearsed(number, false));
            if !goes_on && !rehearsals {
                return;
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
        let mut machine = Machine {
            set: Set::new(&[FOLDER], max),
            max: max.map_or(usize::MAX, |max| max as usize),
            pods: Vec::new(),
            files: BTreeMap::new(),
        };
        for deed in &deeds {
            match deed {
                Deed::Read(file, pods) => drop(machine.file_is(*file, asked(pods))),
                Deed::Break(file) => {
                    machine.files.entry(*file).or_default();
                    let commands = machine.tell(broken(&file.to_string()));
                    prop_assert!(commands.iter().all(|command| matches!(command, SetCommand::Report(_))));
                }
                Deed::Remove(file) => drop(machine.file_goes(*file)),
                Deed::Rename(from, to) => machine.rename(*from, *to),
                Deed::PodGone(which) => drop(machine.one_is_gone(*which)),
                Deed::Rehearsal(which, fails) => drop(machine.one_is_rehearsed(*which, *fails)),
                Deed::Ready(which, ready) => drop(machine.one_is_ready(*which, *ready)),
            }
        }
        machine.come_to_rest();
        let names: BTreeSet<_> = machine.files.values().flatten().map(|pod| pod.id.clone()).collect();
        for one in &machine.pods {
            prop_assert!(!one.stopping, "{} does not end", one.pod.id);
            prop_assert!(names.contains(&one.pod.id), "{} stays without a file", one.pod.id);
        }
        let running = machine.pods.iter().filter(|one| !one.rehearses).count();
        let is_full = running == machine.max;
        for id in &names {
            let wanted = machine.wanted(id);
            let may_start = wanted.after.iter().all(|id| machine.running(id).is_some());
            let circle = machine.set.problems().into_iter().find_map(|problem| match problem {
                Problem::Circle { ids } if ids.contains(id) => Some(ids),
                _ => None,
            });
            if may_start && circle.is_none() {
                let is_there = |one: &OnMachine| one.pod.uid == wanted.uid;
                prop_assert!(machine.running(id).is_some_and(is_there) || is_full && machine.running(id).is_none(),
                    "{id} is not what its owner asks for");
            }
            if let Some(ids) = circle {
                prop_assert!(ids.iter().all(|id| !machine.wanted(id).after.is_empty()), "{ids:?} is no circle");
            }
        }
    }
}
