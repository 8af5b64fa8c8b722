//! A worker's first moments: everything is opened, what was there before is taken over, what is missing is made.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{self, DirBuilder, File};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::clean_images::CleanUp;
use super::cni::Cni;
use super::deadlines::Deadlines;
use super::errands::Errands;
use super::exec::Execs;
use super::folders::{Folders, WRITABLE};
use super::images::Images;
use super::manifest_url::ManifestUrl;
use super::node_key::KeyState;
use super::pod_network::Network;
use super::pod_run::Key;
use super::poller::{Interest, Poller};
use super::pulls::Pulls;
use super::resolver::NodeResolver;
use super::snapshot::{Handle, request_channel};
use super::sources::{FILES, URL};
use super::spare::Spares;
use super::start_journal::StartJournal;
use super::state::{self, KeeperId, Reign};
use super::storage::Measuring;
use super::take_over::Held;
use super::tasks::{OneAtATime, Tasks};
use super::worker::{Options, Worker};
use super::{clock, good_manifests, pod_network};
use crate::cgroup::{Controller, Tree};
use crate::config::{Config, PodNetwork};
use crate::events::{self, Fresh, Recorder};
use crate::keeper::link::Link;
use crate::logs::{Holding, Policy, Pump};
use crate::network::{NODE, Ranges};
use crate::pod::backoff::Pace;
use crate::pod::machine::Settings;
use crate::pod::set::{Set, SetEvent};
use crate::source::Source;
use crate::sys::spawner::Spawner;
use crate::volume;

/// Threads that unpack images: one for each core of the machines this is for. More only fight for the disk.
const IMPORT_THREADS: usize = 2;

/// Threads that prepare Pods: each may wait for a file system that does not answer.
const PREPARE_THREADS: usize = 16;

/// The keeper's keys of the pipe that holds log lines while they are being written.
const HOLDING: [&str; 2] = ["logs/holding-read", "logs/holding-write"];

/// Opens everything and takes over what an earlier worker left.
pub fn begin(mut options: Options) -> Result<(Handle, Worker)> {
    block_signals()?;
    let link = Link::from_stdin().context("find the keeper: a worker is started by `podkeep run`")?;
    let legacy = link.legacy().context("hear what the last worker left")?;
    make_folders(&options.folders)?;
    let only_one = wait_for_last_worker(&options.folders)?;
    let reign = establish_reign(&mut options)?;
    let mut held = legacy.held;
    let (pump, policy) = open_pump(&options, &link, &mut held)?;
    let cgroups = Tree::open(options.config.cgroup_root.as_deref())?;
    let on_disk = events::read(&options.folders.events()).unwrap_or_else(|error| {
        log::warn!("what happened before is not known: {error}");
        Vec::new()
    });
    let (fresh_events, fresh) = Fresh::open(options.folders.fresh_events())?;
    let recorder = Arc::new(Recorder::new(on_disk, fresh));
    let (handle, requests) = request_channel(Arc::clone(&recorder)).context("make the channel for askers")?;
    let now = clock::now();
    let source = Source::open(&options.manifests, options.config.file_check_frequency, now.since_boot())?;
    let url = ManifestUrl::open(&mut options, now).context("make the tasks")?;
    let sources: &[_] = if url.is_some() { &[FILES, URL] } else { &[FILES] };
    let not_enforced: Vec<String> = cgroups.missing_controllers().iter().map(|c| not_enforced(*c)).collect();
    let settings = Settings { crash_loop: Pace::crash_loop(options.config.max_container_restart_period) };
    let mut worker = Worker {
        link,
        poller: Poller::new().context("make the set of events")?,
        source,
        url,
        set: Set::new(sources, options.config.max_pods),
        pods: BTreeMap::new(),
        numbers: HashMap::new(),
        deadlines: Deadlines::default(),
        unsaved: BTreeSet::new(),
        unsaved_good: BTreeMap::new(),
        rehearses: false,
        last_number: 0,
        events: VecDeque::new(),
        begun: VecDeque::new(),
        processes: HashMap::new(),
        cgroups,
        network: Network::open(&options.config.pod_network, &options.folders.run),
        watches_network: [false; 2],
        cni: Cni::open(&options.config.cni, &options.folders),
        resolver: NodeResolver::default(),
        last_slot: NODE,
        errands: Errands::default(),
        execs: Execs::new().context("make the tasks")?,
        images: Images::open(
            &options.folders.images(),
            options.image_dir.as_deref(),
            options.config.images.keep_blobs,
        )?,
        clean_up: CleanUp::new(&options.config.images, now),
        measuring: Measuring::new(options.config.volume_stats_period).context("make the tasks")?,
        pulls: Pulls::new(&options.hosts_dir, &options.folders.root, &options.config.images)
            .context("make the tasks")?,
        pump,
        policy,
        chatty: Default::default(),
        start_journal: StartJournal::open(&options.folders.start_journal())
            .context("open the start journal")?,
        spawner: Spawner::default(),
        settings,
        reign,
        requests,
        node_key: KeyState::Unknown,
        recorder,
        fresh_events,
        work: Tasks::new(PREPARE_THREADS).context("make the tasks")?,
        trash: Tasks::new(1).context("make the tasks")?,
        emptying_trash: OneAtATime::default(),
        stale_files: BTreeSet::new(),
        imports: Tasks::new(IMPORT_THREADS).context("make the tasks")?,
        looks: Tasks::new(1).context("make the tasks")?,
        disk: Tasks::new(1).context("make the tasks")?,
        spares: Spares::new(options.folders.spare()),
        spares_taken: false,
        later_at: None,
        not_enforced,
        unacknowledged: None,
        sweep_at: None,
        sweeping: OneAtATime::default(),
        ending: None,
        shutdown: None,
        _only_one: only_one,
        options,
    };
    log::info!(
        "podkeep {} keeps the Pods of {}{} as node {}",
        env!("CARGO_PKG_VERSION"),
        worker.options.manifests.display(),
        worker.url.as_ref().map_or_else(String::new, |url| format!(" and {}", url.file().display())),
        worker.options.node_name
    );
    worker.say_what_is_not_enforced();
    worker.watch_everything()?;
    worker.take_over(held, &legacy.exits)?;
    worker.remove_strays()?;
    worker.resume_network();
    for exit in legacy.exits {
        worker.process_ended(exit)?;
    }
    worker.restore_good_manifests();
    worker.look_into_image_folder();
    worker.empty_trash();
    worker.sweep_logs();
    // An older podkeep may have made them otherwise.
    worker.spares.clear();
    worker.fill_spares();
    worker.settle()?;
    Ok((handle, worker))
}

/// They are the keeper's to act on; one that reaches the worker (a terminal's Ctrl-C, say) must not end it.
fn block_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        signals.add(signal);
    }
    // A broken pipe is an error of a write, as everywhere in Rust's standard library.
    signals.thread_block().context("block signals")
}

fn make_folders(folders: &Folders) -> Result<()> {
    let make = |path: &Path, mode: u32| {
        let made = DirBuilder::new().recursive(true).mode(mode).create(path);
        made.with_context(|| format!("make {}", path.display()))
    };
    make(&folders.root, 0o711)?;
    make(&folders.pods(), 0o700)?;
    make(&folders.trash(), 0o700)?;
    make(&folders.spare(), 0o700)?;
    make(&folders.run, 0o755)?;
    make(&folders.run_pods(), 0o700)?;
    make(&folders.mount_point(), 0o700)?;
    make(&folders.logs, 0o755)
}

/// Waits until the worker of a keeper that was killed is gone: it may still be writing a line or a state.
///
/// A lock of fcntl, which a container's process does not inherit between clone and exec; the keeper's own lock on this
/// file is one of flock, and neither hinders the other.
fn wait_for_last_worker(folders: &Folders) -> Result<File> {
    let path = Folders::lock_in(&folders.run);
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    fcntl_lock(&file, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Finds out whether the take-over state is of this boot; what is of an earlier one is removed.
fn establish_reign(options: &mut Options) -> Result<Reign> {
    let before = state::load_reign(&options.folders.run);
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot's id")?;
    let mut reign = Reign {
        boot_id: boot_id.trim().to_owned(),
        keeper: KeeperId::own(),
        cgroup_root: options.config.cgroup_root.clone(),
        pod_logs_dir: options.folders.logs.clone(),
        pod_cidr: Some(
            pod_network::ranges(&options.config.pod_network)
                .map(|ranges| ranges.to_string())
                .unwrap_or_default(),
        ),
    };
    let before = before.filter(|before| before.boot_id == reign.boot_id);
    match &before {
        Some(before) => keep_places(options, &mut reign, before),
        None => forget_earlier_boot(&options.folders)?,
    }
    give_back_former_network(&options.folders, &reign, before.as_ref());
    state::save_reign(&options.folders, &reign)?;
    let node = state::Node { name: options.node_name.clone(), pod_logs_dir: options.folders.logs.clone() };
    state::save_node(&options.folders, &node)?;
    Ok(reign)
}

/// Pods that run cannot be moved to other cgroups and log folders: those stay until podkeep was stopped.
fn keep_places(options: &mut Options, reign: &mut Reign, before: &Reign) {
    let Reign { cgroup_root, pod_logs_dir, pod_cidr, .. } = before;
    if (cgroup_root, pod_logs_dir, pod_cidr) == (&reign.cgroup_root, &reign.pod_logs_dir, &reign.pod_cidr) {
        return;
    }
    if !state::uids_in(&options.folders.run_pods()).is_ok_and(|uids| uids.is_empty()) {
        log::warn!(
            "cgroupRoot, podLogsDir and the network of Pods stay as they were: they change when podkeep is stopped and started"
        );
        if let Some(text) = &before.pod_cidr {
            options.config.pod_network = Ranges::parse(text).map_or(PodNetwork::Loopback, PodNetwork::Ranges);
            reign.pod_cidr.clone_from(&before.pod_cidr);
        }
        options.config.cgroup_root.clone_from(&before.cgroup_root);
        options.folders.logs.clone_from(&before.pod_logs_dir);
        reign.cgroup_root.clone_from(&before.cgroup_root);
        reign.pod_logs_dir.clone_from(&before.pod_logs_dir);
    }
}

/// Nobody else would take it from the host, if the last podkeep was killed: with this configuration no worker asks for it.
fn give_back_former_network(folders: &Folders, reign: &Reign, before: Option<&Reign>) {
    let former =
        before.filter(|before| before.pod_cidr != reign.pod_cidr).and_then(|before| before.pod_cidr.as_ref());
    let Some(ranges) = former.and_then(|text| Ranges::parse(text).ok()) else { return };
    if let Some(Err(error)) =
        Network::open(&PodNetwork::Ranges(ranges), &folders.run).map(|network| network.close())
    {
        log::warn!("give back the network of Pods with {ranges}: {error:#}");
    }
}

fn forget_earlier_boot(folders: &Folders) -> Result<()> {
    for uid in state::uids_in(&folders.run_pods())? {
        super::prepare::remove_flat(&folders.run_pod(&uid))?;
    }
    for journal in [folders.start_journal(), folders.log_journal()] {
        match fs::remove_file(&journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("delete {}", journal.display()));
            }
            _ => {}
        }
    }
    // What containers of that boot wrote into their root file systems; emptyDirs stay.
    for uid in state::uids_in(&folders.pods())? {
        // A full disk must not keep podkeep from starting: the next start of the Pod makes do with what is there.
        if let Err(error) = throw_away_writable(folders, &folders.pod(&uid)) {
            log::warn!("{error:#}");
        }
    }
    Ok(())
}

fn throw_away_writable(folders: &Folders, pod: &Path) -> Result<()> {
    for entry in fs::read_dir(pod).with_context(|| format!("list {}", pod.display()))? {
        let entry = entry.with_context(|| format!("list {}", pod.display()))?;
        if entry.file_name().as_encoded_bytes().starts_with(WRITABLE.as_bytes()) {
            super::prepare::throw_away(&entry.path(), &folders.trash())?;
        }
    }
    Ok(())
}

/// Opens what moves log lines, with the pipe that the keeper holds for it, and finishes what was begun.
fn open_pump(options: &Options, link: &Link, held: &mut Held) -> Result<(Pump, Policy)> {
    use std::os::fd::AsFd;
    let holding = match (held.remove(HOLDING[0]), held.remove(HOLDING[1])) {
        (Some(read), Some(write)) => Holding { read, write },
        _ => {
            let holding = Holding::new()?;
            link.hold(HOLDING[0], holding.read.as_fd()).context("hand over the log lines' pipe")?;
            link.hold(HOLDING[1], holding.write.as_fd()).context("hand over the log lines' pipe")?;
            holding
        }
    };
    let (pump, recovered) = Pump::open(&options.folders.log_journal(), holding)?;
    if let Some(recovered) = recovered {
        log::info!("{} bytes of output that the last worker held are written", recovered.bytes);
    }
    Ok((pump, policy(&options.config)))
}

fn policy(config: &Config) -> Policy {
    Policy {
        max_size: NonZeroU64::new(config.container_log_max_size),
        max_files: config.container_log_max_files,
    }
}

fn not_enforced(controller: Controller) -> String {
    let what = match controller {
        Controller::Cpu => "cpu requests and limits",
        Controller::Memory => "memory limits",
        Controller::Pids => "podPidsLimit",
        other => other.as_str(),
    };
    format!("{what}: this host has no {} controller in cgroup v2", controller.as_str())
}

impl Worker {
    fn say_what_is_not_enforced(&self) {
        for what in &self.not_enforced {
            log::warn!("not enforced: {what}");
        }
    }

    fn watch_everything(&mut self) -> Result<()> {
        let lanes = self.lanes().map(Tasks::clone);
        let poller = &mut self.poller;
        poller.add(&self.link, Interest::Readable, Key::Keeper)?;
        poller.add(self.source.fd(), Interest::Readable, Key::Source)?;
        poller.add(&self.requests, Interest::Readable, Key::Requests)?;
        for lane in &lanes {
            poller.add(lane, Interest::Readable, Key::Results)?;
        }
        if let Some(url) = &self.url {
            poller.add(&url.lane, Interest::Readable, Key::Results)?;
        }
        poller.add(&self.images.store_watch, Interest::Readable, Key::Store)?;
        Ok(())
    }

    /// Tells the set of the manifests that were good when they were last read.
    fn restore_good_manifests(&mut self) {
        let dir = self.options.folders.good_manifests();
        let (good, unusable) = good_manifests::load_all(&dir, &self.options.node_name);
        unusable.iter().for_each(|message| log::warn!("{message}"));
        for (origin, pods) in good {
            self.tell_set(SetEvent::Restored { origin, pods });
        }
        if self.url.is_none() {
            // Whoever took the URL out of the configuration wants nothing of it.
            self.tell_set(SetEvent::Listed { source: URL, files: Vec::new() });
        }
    }

    /// After a stop: the cgroups' root and the run folder go too.
    pub fn leave_nothing(self) {
        let folders = self.options.folders.clone();
        self.close_network();
        match self.cgroups.remove_if_empty() {
            Ok(_) => {}
            Err(error) => log::warn!("{:#}", anyhow::Error::from(error)),
        }
        let good_config = Folders::good_config_in(&folders.run);
        let reign = folders.run.join("reign.json");
        let journals = [folders.start_journal(), folders.log_journal()];
        // Empty once the disk has what happened; the last of it waits for the next start where that was refused.
        let events =
            Some(folders.fresh_events()).filter(|file| file.metadata().is_ok_and(|meta| meta.len() == 0));
        for file in journals.into_iter().chain([reign, good_config, folders.socket()]).chain(events) {
            // Gone already is as good.
            let _ = fs::remove_file(file);
        }
        if let Err(error) = volume::remove_place_of_files(&folders.files()) {
            log::warn!("{error}");
        }
        // What was thrown away last, while the rest was being deleted.
        if let Err(error) = super::prepare::empty(&folders.trash()) {
            log::warn!("{error:#}");
        }
        self.spares.clear();
        for folder in [
            folders.attachments(),
            folders.namespaces(),
            folders.run_pods(),
            folders.files(),
            folders.mount_point(),
            folders.trash(),
        ] {
            let _ = fs::remove_dir(folder);
        }
    }
}
