//! The worker's loop and what it holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::begin;
use super::clean_images::CleanUp;
use super::clock;
use super::cni::Cni;
use super::deadlines::Deadlines;
use super::errands::{ErrandNumber, Errands};
use super::exec::{Begun, Execs};
use super::folders::Folders;
use super::host_ip::host_ips;
use super::image_folder::{ImageFolder, Look};
use super::images::Images;
use super::manifest_url::ManifestUrl;
use super::node_key::{KeyState, NodeKey};
use super::notes;
use super::output::Chatty;
use super::pod_network::Network;
use super::pod_run::{Events, Key, PodNumber, PodRun};
use super::poller::Poller;
use super::prepare::{Made, Prepared};
use super::pulls::{NotPulled, PullNumber, Pulls};
use super::resolver::NodeResolver;
use super::snapshot::{Handle, Request, Requests, Snapshot};
use super::sources::news_for_set;
use super::spare::Spares;
use super::start_journal::StartJournal;
use super::state::{self, Reign};
use super::storage::{Measured, Measuring};
use super::tasks::{OneAtATime, Tasks};
use crate::cgroup::Tree;
use crate::config::Config;
use crate::events::{self, Fresh, Recorder};
use crate::http::Url;
use crate::keeper;
use crate::keeper::link::{Link, Word};
use crate::logs::{Policy, Pump};
use crate::manifest::Uid;
use crate::network::Slot;
use crate::order;
use crate::pod::event::Index;
use crate::pod::machine::{Settings, is_routine};
use crate::pod::set::{Good, Origin, Set, SetEvent};
use crate::pod::shutdown::Shutdown;
use crate::pod::{BootTime, Command, Event, PodStatus};
use crate::source::{Answer, Source, UrlError};
use crate::sys::spawner::Spawner;

/// How long the disk waits for what was changed. A start takes a few milliseconds, and a thread that syncs meanwhile
/// takes processor and file system away from it.
const LATER: Duration = Duration::from_millis(50);

/// What `podkeep run` asks of the worker.
pub struct Options {
    pub folders: Folders,
    /// The folder of manifests, or one manifest.
    pub manifests: PathBuf,
    /// Where else manifests come from.
    pub manifest_url: Option<Url>,
    /// Where images are looked for (`--image-dir`).
    pub image_dir: Option<PathBuf>,
    /// Mirrors, certificates and the like of registries, a folder for each (`--hosts-dir`).
    pub hosts_dir: PathBuf,
    pub node_name: String,
    pub config: Config,
    /// The soft limit of open files that containers get; `None` for the worker's own.
    pub open_files: Option<u64>,
    /// Whether the configuration as it is now could be started with (SIGHUP).
    pub check_config: fn() -> Result<()>,
}

/// What came of slow work.
pub enum Done {
    Prepared {
        pod: PodNumber,
        result: Prepared,
    },
    /// The namespaces of a Pod that had lost them.
    NamespacesMade {
        pod: PodNumber,
        result: Result<Made, String>,
    },
    /// Whether a new version of a Pod could be prepared.
    Rehearsed {
        pod: PodNumber,
        result: Result<(), String>,
    },
    LookedIntoFolder(Look),
    /// The node's key was written.
    KeyMade(Result<NodeKey, String>),
    /// `stamp`: what it was before it was read.
    Imported {
        source: PathBuf,
        stamp: crate::image::Stamp,
        result: Result<usize, crate::image::Error>,
    },
    /// What was damaged of an image was made again, if it could be.
    Mended {
        reference: crate::image::Reference,
        result: Result<bool, crate::image::Error>,
    },
    /// A registry was asked whether an image of the store is current.
    Asked {
        pull: PullNumber,
        result: Result<bool, NotPulled>,
    },
    Pulled {
        pull: PullNumber,
        result: Result<(), NotPulled>,
    },
    /// `None`: there was no reason to.
    ImagesCleaned(Result<Option<crate::image::Cleaned>, String>),
    /// Plugins have undone what they had done for a Pod.
    Detached {
        pod: PodNumber,
        result: Result<(), String>,
    },
    /// What is wrong with the links that plugins have made, in their words.
    LinksChecked(Vec<(PodNumber, String)>),
    Released {
        pod: PodNumber,
        result: Result<(), String>,
    },
    /// The URL of manifests was asked.
    UrlAnswered(Result<Answer, UrlError>),
    /// A command was started in a container, or could not be.
    Exec(Box<Begun>),
    /// The address of a host that is to be probed.
    Found {
        errand: ErrandNumber,
        address: Result<SocketAddr, String>,
    },
    TrashEmptied(Result<(), String>),
    /// What Pods that have a limit take of the disk.
    StorageMeasured(Measured),
    /// Old logs were swept; the next sweep is due then, if one is.
    Swept(Result<Option<BootTime>, String>),
    /// The events up to a sequence are on disk.
    EventsWritten(Result<u64, events::Error>),
    /// Something was written or deleted; why not, if it was not.
    Finished(Result<(), String>),
}

/// Everything the worker holds.
pub struct Worker {
    pub options: Options,
    pub link: Link,
    pub poller: Poller<Key>,
    pub source: Source,
    /// The URL of manifests, where there is one.
    pub url: Option<ManifestUrl>,
    pub set: Set,
    pub pods: BTreeMap<PodNumber, PodRun>,
    pub numbers: HashMap<Uid, PodNumber>,
    pub deadlines: Deadlines,
    /// Their state has changed since it was last saved.
    pub unsaved: BTreeSet<PodNumber>,
    /// Last good versions that have changed since they were written down; `None` where their file is gone.
    pub unsaved_good: BTreeMap<Origin, Option<Vec<Good>>>,
    /// Something has begun to be rehearsed in this turn.
    pub rehearses: bool,
    pub last_number: u32,
    pub events: Events,
    /// What machines that were just added asked for first, and starts that had to wait.
    pub begun: VecDeque<(PodNumber, Command)>,
    /// First processes of containers that are the keeper's children.
    pub processes: HashMap<u32, (PodNumber, Index)>,
    pub cgroups: Tree,
    /// Of Pods that are not on the host's, unless they are to have none.
    pub network: Option<Arc<Network>>,
    /// Whether the poller has what tells of changes to its links, and to its firewall.
    pub watches_network: [bool; 2],
    /// Networks that plugins make.
    pub cni: Arc<Cni>,
    pub resolver: NodeResolver,
    /// The one that was given to a Pod last.
    pub last_slot: Slot,
    /// Commands in containers, beside their first processes.
    pub execs: Execs,
    pub errands: Errands,
    pub images: Images,
    pub pulls: Pulls,
    pub clean_up: CleanUp,
    pub measuring: Measuring,
    pub pump: Pump,
    pub policy: Policy,
    pub chatty: Chatty,
    pub start_journal: StartJournal,
    pub spawner: Spawner,
    pub settings: Settings,
    pub reign: Reign,
    pub requests: Requests,
    /// Once it was needed.
    pub node_key: KeyState,
    pub recorder: Arc<Recorder>,
    pub fresh_events: Fresh,
    /// Preparing Pods. One that hangs (a hostPath on a dead server) must not keep the others from it.
    pub work: Tasks<Done>,
    /// Deleting what was thrown away.
    pub trash: Tasks<Done>,
    pub emptying_trash: OneAtATime,
    /// Their volumes show an object that has changed.
    pub stale_files: BTreeSet<PodNumber>,
    /// Imports, apart from the rest: no Pod waits for another one's image.
    pub imports: Tasks<Done>,
    /// Looks into the image folder, one by one: no import that takes its time counts as a folder that does not answer.
    pub looks: Tasks<Done>,
    /// Writes to disk, one by one and in order.
    pub disk: Tasks<Done>,
    pub spares: Spares,
    pub spares_taken: bool,
    /// When what can wait (`disk`, `trash`) is done: never on the way from a change to what it starts.
    pub later_at: Option<BootTime>,
    pub not_enforced: Vec<String>,
    /// The highest exit that was taken in and is not acknowledged.
    pub unacknowledged: Option<u64>,
    pub sweep_at: Option<BootTime>,
    pub sweeping: OneAtATime,
    pub ending: Option<Ending>,
    /// The order in which all Pods end, once they shall.
    pub shutdown: Option<Shutdown>,
    /// Locked: the next worker waits for the end of this one.
    pub _only_one: std::fs::File,
}

/// How the worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// When every Pod is gone.
    Stop,
    /// Now; containers run on, and whoever comes next takes them over.
    Leave,
}

/// Works until the keeper says that it is over. `serve` starts what answers askers, with their end of the channel.
pub fn work(options: Options, serve: impl FnOnce(&Folders, Handle) -> Result<()>) -> Result<ExitCode> {
    let (handle, mut worker) = begin::begin(options)?;
    serve(&worker.options.folders, handle)?;
    worker.link.up().context("report to the keeper")?;
    while !worker.is_done() {
        worker.turn()?;
    }
    worker.end()
}

impl Worker {
    fn turn(&mut self) -> Result<()> {
        let ready = match self.chatty.is_empty() && self.stale_files.is_empty() {
            true => self.poller.wait(self.deadline()),
            false => self.poller.ready(),
        };
        for key in ready.context("wait for events")? {
            self.handle(key)?;
        }
        self.pump_chatty()?;
        self.renew_files();
        self.pass_time();
        self.settle()
    }

    /// Lets the machines take in every event and carries out what they ask for, then writes down how things stand.
    pub fn settle(&mut self) -> Result<()> {
        loop {
            if let Some((number, command)) = self.begun.pop_front() {
                self.carry_out(number, command)?;
            } else if let Some((number, event)) = self.events.pop_front() {
                self.take_in(number, event)?;
            } else if std::mem::take(&mut self.rehearses) {
                self.tell_set(SetEvent::TakesTime);
            } else if !self.connect() {
                break;
            }
        }
        if !self.save_states() {
            // Nothing is acknowledged that a new worker could not know: it is told again, and saved with the next turn.
            return Ok(());
        }
        self.start_journal.clear();
        self.keep_events();
        if let Some(seq) = self.unacknowledged.take() {
            self.link.acknowledge(seq).context("acknowledge exits")?;
        }
        Ok(())
    }

    fn handle(&mut self, key: Key) -> Result<()> {
        match key {
            Key::Keeper => self.heed_keeper()?,
            Key::Source => self.read_source(),
            Key::Requests => self.answer_requests(),
            Key::Results => self.take_results()?,
            Key::Store => self.images_arrived(),
            Key::ImageFolder => self.image_folder_changed(),
            Key::Report(number, container) => self.read_report(number, container)?,
            Key::Output(number, container, stream) => self.pump(number, container, stream)?,
            Key::Emptied(number, container) => self.cgroup_changed(number, container)?,
            Key::PauseEmptied(number) => self.pause_group_changed(number)?,
            Key::Adopted(number, container) => self.adopted_process_ended(number, container),
            Key::ExecAsker(pid) => self.exec_asker_spoke(pid),
            Key::AdoptedExec(pid) => self.adopted_exec_ended(pid),
            Key::Errand(errand) => self.errand_ready(errand),
            Key::Firewall => self.firewall_changed(),
            Key::Links => self.links_changed(),
            Key::Resolver => self.resolve(),
        }
        Ok(())
    }

    fn heed_keeper(&mut self) -> Result<()> {
        while let Some(word) = self.link.next().context("hear the keeper")? {
            match word {
                Word::Exit(exit) => self.process_ended(exit)?,
                Word::Stop => self.stop_everything(),
                Word::Reload => self.reload(),
                Word::Detach => self.ending = Some(Ending::Leave),
            }
        }
        Ok(())
    }

    fn stop_everything(&mut self) {
        log::info!("stopping all Pods");
        self.ending = Some(Ending::Stop);
        // What is only rehearsed has nothing that could be ended.
        let (rehearsed, others): (Vec<_>, Vec<_>) =
            self.pods.iter().partition(|(_, run)| run.machine.rehearsal().is_some());
        self.events.extend(rehearsed.iter().map(|(number, _)| (**number, Event::Stop { within: None })));
        let pods = others.iter().map(|(_, run)| Arc::clone(run.pod())).collect();
        self.shutdown = Some(Shutdown::new(pods, &self.options.config.shutdown.periods()));
        self.go_on_shutting_down(None);
    }

    /// Stops the Pods whose turn it is.
    fn go_on_shutting_down(&mut self, gone: Option<&Uid>) {
        let Some(shutdown) = &mut self.shutdown else { return };
        for (uid, within) in shutdown.step(gone, clock::now()) {
            if let Some(&number) = self.numbers.get(&uid) {
                self.tell(number, Event::Stop { within });
            }
        }
    }

    /// A new worker reads everything anew; but not one that could not start.
    fn reload(&mut self) {
        match (self.options.check_config)() {
            Ok(()) => self.ending = self.ending.or(Some(Ending::Leave)),
            Err(error) => log::error!("not reading the configuration again: {error:#}"),
        }
    }

    fn answer_requests(&mut self) {
        for request in self.requests.take() {
            match request {
                // An asker who has gone away needs no answer.
                Request::Snapshot(answer) => drop(answer.send(self.snapshot())),
                Request::Exec(request) => self.exec(*request),
                Request::Inspect(request) => self.inspect(*request),
            }
        }
    }

    /// Everything that works beside the loop.
    pub fn lanes(&self) -> [&Tasks<Done>; 9] {
        let Pulls { asking, fetching, .. } = &self.pulls;
        let (execs, measuring) = (&self.execs.lane, &self.measuring.lane);
        let Worker { work, imports, looks, trash, disk, .. } = self;
        [work, imports, looks, asking, fetching, trash, disk, execs, measuring]
    }

    fn take_results(&mut self) -> Result<()> {
        let url = self.url.as_ref().map(|url| &url.lane);
        let results: Vec<Done> = self.lanes().into_iter().chain(url).flat_map(Tasks::results).collect();
        for done in results {
            match done {
                Done::Prepared { pod, result } => self.pod_prepared(pod, result)?,
                Done::NamespacesMade { pod, result } => self.namespaces_made(pod, result)?,
                Done::Rehearsed { pod, result } => self.rehearsed(pod, result),
                Done::LookedIntoFolder(look) => self.image_folder_looked_into(look),
                Done::Imported { source, stamp, result } => self.imported(&source, stamp, result),
                Done::Mended { reference, result } => self.image_mended(reference, result),
                Done::Asked { pull, result } => self.registry_asked(pull, result),
                Done::Pulled { pull, result } => self.pull_ended(pull, result),
                Done::ImagesCleaned(result) => self.images_cleaned(result),
                Done::Detached { pod, result } => self.detached(pod, result)?,
                Done::LinksChecked(wrong) => self.links_checked(wrong),
                Done::Released { pod, result } => self.released(pod, result),
                Done::UrlAnswered(answer) => self.url_answered(answer),
                Done::Exec(begun) => self.exec_begun(*begun)?,
                Done::Found { errand, address } => self.host_found(errand, address),
                Done::TrashEmptied(result) => self.trash_emptied(result),
                Done::Swept(result) => self.logs_swept(result),
                Done::StorageMeasured(measured) => self.storage_measured(measured),
                Done::EventsWritten(result) => self.events_written(result),
                Done::KeyMade(result) => self.key_made(result),
                Done::Finished(Ok(())) => {}
                Done::Finished(Err(message)) => log::error!("{message}"),
            }
        }
        Ok(())
    }

    fn deadline(&self) -> Option<BootTime> {
        let url = self.url.as_ref().and_then(ManifestUrl::deadline);
        let sources = url.into_iter().chain([BootTime::from(self.source.deadline())]);
        let sources = sources.chain(self.images.folder.as_ref().and_then(ImageFolder::deadline));
        let sources = sources.filter(|_| self.ending.is_none()).min();
        let shutdown = self.shutdown.as_ref().and_then(Shutdown::deadline);
        let slow = [self.errands.deadline(), self.pulls.deadline(), self.measuring.deadline()];
        let slow = slow.into_iter().chain([self.resolver.deadline()]);
        let others = [sources, shutdown, self.sweep_at, self.later_at].into_iter().chain(slow).flatten();
        self.deadlines.first().into_iter().chain(others).min()
    }

    fn pass_time(&mut self) {
        let now = clock::now();
        self.events.extend(self.deadlines.due(now).map(|number| (number, Event::Tick)));
        if self.ending.is_none() && BootTime::from(self.source.deadline()) <= now {
            self.read_source();
        }
        if self.ending.is_none() {
            self.ask_url(now);
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_logs();
        }
        if self.shutdown.as_ref().and_then(Shutdown::deadline).is_some_and(|at| at <= now) {
            self.go_on_shutting_down(None);
        }
        self.pass_time_of_errands(now);
        self.pass_time_of_resolver(now);
        self.give_up_asking(now);
        self.clean_images(now);
        self.measure_storage(now);
        if self.ending.is_none() {
            self.pass_time_of_image_folder(now);
        }
        if self.later_at.is_some_and(|at| at <= now) {
            self.later_at = None;
            self.spawner.collect();
            self.write_events();
            if std::mem::take(&mut self.spares_taken) {
                let spares = self.spares.clone();
                self.trash.add_for_later(move || {
                    Done::Finished(spares.fill().map_err(|error| format!("{error:#}")))
                });
            }
            self.save_good_manifests();
            self.disk.go();
            self.trash.go();
        }
    }

    /// Lets one machine take in one event, and carries out what it asks for.
    fn take_in(&mut self, number: PodNumber, event: Event) -> Result<()> {
        if let Event::Stop { .. } = event {
            self.pulls.leave(number);
            self.kill_what_has_not_begun(number)?;
        }
        let Some(run) = self.pods.get_mut(&number) else { return Ok(()) };
        let (stood, rehearsal) = ([run.machine.has_run(), run.machine.is_ready()], run.machine.rehearsal());
        let (is_tick, old_news) = (event == Event::Tick, run.machine.is_old_news(&event));
        let note = notes::of_event(run, &event);
        let ends = matches!(event, Event::Cleared { .. });
        let now = clock::now();
        let commands = run.machine.step(event, now);
        if run.storage_limited {
            self.measuring.set(number, run.machine.can_fail(), now);
        }
        let notes = note.into_iter().chain(ends.then(|| notes::of_backoff(run)).into_iter().flatten());
        let notes: Vec<_> = notes.chain(commands.iter().filter_map(|c| notes::of_command(run, *c))).collect();
        if !is_routine(is_tick, old_news, &commands) {
            self.unsaved.insert(number);
        }
        self.deadlines.set(number, run.machine.deadline());
        let gone = run.machine.is_gone();
        let survives_otherwise = !gone && !run.machine.survives_as(&run.survival);
        let news = news_for_set(&run.machine, stood, rehearsal);
        if survives_otherwise {
            self.save_survival(number);
        }
        if news.iter().any(|event| matches!(event, SetEvent::Readiness { .. })) {
            self.name_pod(number);
        }
        self.record(number, notes);
        for command in commands {
            self.carry_out(number, command)?;
        }
        if gone {
            self.forget(number);
        } else {
            news.into_iter().for_each(|event| self.tell_set(event));
        }
        Ok(())
    }

    /// The Pod has left no trace but its logs: its name is free.
    fn forget(&mut self, number: PodNumber) {
        let Some(run) = self.pods.remove(&number) else { return };
        self.note_last_use(run.image_ids().collect());
        let pod = Arc::clone(run.pod());
        let (uid, id) = (pod.uid.clone(), pod.id.clone());
        log::info!("{id}: gone");
        self.numbers.remove(&uid);
        self.deadlines.set(number, None);
        self.unsaved.remove(&number);
        self.weigh_class(run.qos);
        self.sweep_logs();
        self.go_on_shutting_down(Some(&uid));
        let commands = self.set.step(SetEvent::PodGone { uid, id });
        // Its manifest still asks for a Pod that is stopped with all others.
        if self.ending != Some(Ending::Stop) {
            self.heed_set(commands);
            self.offer_host_ports_of(&pod);
        }
    }

    /// What the last worker wrote down for the next boot may be of a step that it did not live to save.
    pub fn renew_survival(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get(&number) else { return };
        let written = state::load_survival(&self.options.folders, run.uid());
        if !written.is_some_and(|written| written.is_same(&run.machine.survival())) {
            self.save_survival(number);
        }
    }

    fn save_survival(&mut self, number: PodNumber) {
        let Some(run) = self.pods.get_mut(&number) else { return };
        run.survival = run.machine.survival();
        let survival = run.survival.clone();
        let (folders, uid) = (self.options.folders.clone(), run.uid().clone());
        let boot_wall = clock::wall(BootTime::from_nanos(0)).duration_since(SystemTime::UNIX_EPOCH);
        let survival = survival.dated(boot_wall.map_or(0, |wall| BootTime::from(wall).as_nanos()));
        self.disk.add_for_later(move || {
            Done::Finished(state::save_survival(&folders, &uid, &survival).map_err(|error| error.to_string()))
        });
        self.not_now();
    }

    /// Folders that were made ahead are made again soon.
    pub fn fill_spares(&mut self) {
        self.spares_taken = true;
        self.not_now();
    }

    /// What was queued for later is done soon.
    pub fn not_now(&mut self) {
        self.later_at.get_or_insert_with(|| clock::now() + LATER);
    }

    /// Says whether everything is written down.
    fn save_states(&mut self) -> bool {
        let unsaved: Vec<_> = self.unsaved.iter().copied().collect();
        // Every one is tried, whatever became of those before it.
        unsaved.into_iter().filter(|number| !self.save_state_of(*number)).count() == 0
    }

    /// Writes down how one Pod stands; says whether that is done.
    pub fn save_state_of(&mut self, number: PodNumber) -> bool {
        let Some(run) = self.pods.get(&number) else { return false };
        // A new worker rehearses it anew.
        if run.machine.rehearsal().is_some() {
            self.unsaved.remove(&number);
            return true;
        }
        match state::save_state(&self.options.folders, run.uid(), &run.saved()) {
            Ok(()) => {
                self.unsaved.remove(&number);
                true
            }
            Err(error) => {
                log::error!("{}: a new worker could not take it over: {error}", run.pod().id);
                false
            }
        }
    }

    fn is_done(&self) -> bool {
        match self.ending {
            Some(Ending::Leave) => true,
            Some(Ending::Stop) => self.pods.is_empty(),
            None => false,
        }
    }

    /// Leaves everything whole, and nothing at all after a stop.
    fn end(mut self) -> Result<ExitCode> {
        if let Some(url) = &self.url {
            url.cancel();
        }
        // Not the imports: one that is cut off leaves nothing but a folder that the next start removes.
        self.work.finish();
        self.write_events();
        self.save_good_manifests();
        self.disk.finish();
        self.take_results()?;
        if self.ending != Some(Ending::Stop) {
            return Ok(ExitCode::from(keeper::LEFT));
        }
        // It may be deleting, or making folders ahead.
        self.trash.finish();
        self.leave_nothing();
        Ok(ExitCode::SUCCESS)
    }

    fn status_of(&self, run: &PodRun) -> PodStatus {
        let mut status = run.machine.status();
        let why = self.set.not_replaced(&run.pod().id).filter(|_| status.message.is_none());
        status.message =
            why.map(|why| format!("its new version cannot be prepared: {why}")).or(status.message);
        status
    }

    pub fn snapshot(&self) -> Snapshot {
        // What is only rehearsed is no Pod yet.
        let pods = self.pods.values().filter(|run| run.machine.rehearsal().is_none()).map(|run| {
            let file = self.set.origin(&run.pod().id).map(|origin| origin.file.clone());
            let pod = super::snapshot::pod_snapshot(
                Arc::clone(run.pod()),
                self.status_of(run),
                file,
                &self.options.folders,
                run.group.as_ref().map(|group| group.path().to_owned()),
                self.cgroups.missing_controllers(),
                self.options.config.pod_pids_limit,
            );
            let (images, addresses) = (run.image_ids().collect(), self.addresses_of_pod(run));
            let network = self.network.as_ref();
            let troubles = network.map(|network| network.troubles_of(run)).unwrap_or_default();
            let rules = network.map(|network| network.rules_of(run)).unwrap_or_default();
            let troubles = troubles.into_iter().chain(super::cni::unlimited(run));
            let not_enforced = pod.not_enforced.into_iter().chain(troubles).collect();
            let cni_network = run.cni.as_ref().map(|link| link.network.clone());
            super::snapshot::PodSnapshot { images, addresses, cni_network, rules, not_enforced, ..pod }
        });
        let mut pods: Vec<_> = pods.collect();
        order::sort_by(&mut pods, |a, b| a.pod.id.cmp(&b.pod.id));
        Snapshot {
            node_name: self.options.node_name.clone(),
            keeper_pid: self.reign.keeper.pid,
            host_ips: host_ips(),
            pods,
            problems: self.set.problems().iter().map(super::sources::describe).collect(),
            not_enforced: self.not_enforced.clone(),
            taken_at: clock::now(),
            taken_at_wall: std::time::SystemTime::now(),
        }
    }
}
