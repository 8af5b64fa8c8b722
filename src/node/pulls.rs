//! Images from registries: whether one is still current is asked, and what the store lacks is fetched, beside the loop and once for
//! all containers that wait for it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::clock;
use super::images::Waiter;
use super::objects::PullSecrets;
use super::pod_run::PodNumber;
use super::pull_rate::PullRate;
use super::tasks::Tasks;
use super::worker::{Done, Worker};
use crate::config::ImageConfig;
use crate::http::Cancel;
use crate::image::{self, Credentials, Failure, Hosts, Progress, PullError, PullOptions, Reference, Store};
use crate::pod::{BootTime, ImageProblem};

/// How long a registry may take to say whether an image of the store is current, before a container starts without its word.
const PATIENCE: Duration = Duration::from_secs(10);
/// Registries that are asked at a time: one that does not answer must not keep others from it.
const ASK_THREADS: usize = 16;

/// What tells one pull from another of the same image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullNumber(u64);

/// What is being asked and fetched.
pub struct Pulls {
    from: Registries,
    pub asking: Tasks<Done>,
    pub fetching: Tasks<Done>,
    under_way: BTreeMap<PullNumber, Pull>,
    last: u64,
}

/// Where images come from, and who we are there: read anew for each pull.
#[derive(Clone)]
struct Registries {
    /// Its files are read anew for each pull; what registries said of their limits is kept.
    hosts: Hosts,
    root_dir: PathBuf,
    rate: Option<Arc<PullRate>>,
}

struct Pull {
    reference: Reference,
    /// Of the Pods that wait for it: others may be let in where they are not.
    secrets: PullSecrets,
    step: Step,
    waiting: Vec<Waiter>,
    cancel: Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The store has the image; is it still what the reference means? Not waited for after `until`.
    Asking { until: BootTime },
    /// The store has an older one.
    Renewing,
    /// The store has none that can be used.
    Fetching,
}

/// Why an image did not come.
#[derive(Debug)]
pub struct NotPulled {
    message: String,
    /// The registry was reached, and does not give it: an image that is in the store does not stand in for it.
    is_refusal: bool,
}

impl From<PullError> for NotPulled {
    fn from(error: PullError) -> NotPulled {
        let is_refusal = matches!(*error.failure, Failure::NotFound { .. } | Failure::Denied { .. });
        NotPulled { message: error.to_string(), is_refusal }
    }
}

impl NotPulled {
    /// For a reason that is not the registry's word.
    fn by_us(message: String) -> NotPulled {
        NotPulled { message, is_refusal: false }
    }
}

impl Pulls {
    pub fn new(hosts_dir: &Path, root_dir: &Path, config: &ImageConfig) -> io::Result<Pulls> {
        let rate = PullRate::new(config.registry_pull_qps, config.registry_burst).map(Arc::new);
        Ok(Pulls {
            from: Registries { hosts: Hosts::new(hosts_dir), root_dir: root_dir.to_owned(), rate },
            asking: Tasks::new(ASK_THREADS)?,
            fetching: Tasks::new(config.pulls_at_once())?,
            under_way: BTreeMap::new(),
            last: 0,
        })
    }

    /// When a registry has had time enough to answer.
    pub fn deadline(&self) -> Option<BootTime> {
        self.under_way.values().filter_map(Pull::deadline).min()
    }

    /// Lets a container wait with others for the same image, with the same Secrets; says whether there are any.
    fn join(&mut self, reference: &Reference, secrets: &PullSecrets, waiter: Waiter) -> bool {
        let is_same = |pull: &&mut Pull| pull.reference == *reference && pull.secrets == *secrets;
        let Some(pull) = self.under_way.values_mut().find(is_same) else { return false };
        pull.waiting.push(waiter);
        true
    }

    fn add(&mut self, reference: Reference, secrets: PullSecrets, step: Step, waiter: Waiter) -> PullNumber {
        self.last += 1;
        let number = PullNumber(self.last);
        let pull = Pull { reference, secrets, step, waiting: vec![waiter], cancel: Cancel::default() };
        self.under_way.insert(number, pull);
        number
    }

    fn ask(&self, number: PullNumber, store: Store) {
        let Some(pull) = self.under_way.get(&number) else { return };
        let (from, cancel) = (self.from.clone(), pull.cancel.clone());
        let (reference, secrets) = (pull.reference.clone(), pull.secrets.clone());
        self.asking.add(move || {
            let result = from.is_current(&store, &reference, &secrets, &cancel);
            Done::Asked { pull: number, result }
        });
    }

    fn fetch(&self, number: PullNumber, store: Store) {
        let Some(pull) = self.under_way.get(&number) else { return };
        let (from, cancel) = (self.from.clone(), pull.cancel.clone());
        let (reference, secrets) = (pull.reference.clone(), pull.secrets.clone());
        self.fetching.add(move || {
            let result = from.pull(&store, &reference, &secrets, cancel);
            Done::Pulled { pull: number, result }
        });
    }

    /// Ends pulls that no container waits for any more, this Pod's being gone.
    pub fn leave(&mut self, number: PodNumber) {
        self.under_way.retain(|_, pull| {
            pull.waiting.retain(|waiter| waiter.pod != number);
            let is_wanted = !pull.waiting.is_empty();
            if !is_wanted {
                log::info!("image {}: nobody waits for it any more", pull.reference);
                pull.cancel.cancel();
            }
            is_wanted
        });
    }
}

impl Pull {
    fn deadline(&self) -> Option<BootTime> {
        match self.step {
            Step::Asking { until } => Some(until),
            Step::Renewing | Step::Fetching => None,
        }
    }
}

impl Registries {
    /// What a request needs, when its turn has come.
    fn options<'a>(
        &self,
        reference: &Reference,
        secrets: &PullSecrets,
        progress: &'a (dyn Fn(Progress<'_>) + Sync),
        cancel: Cancel,
    ) -> Result<PullOptions<'a>, NotPulled> {
        if let Some(rate) = &self.rate {
            // A pull that is cancelled meanwhile finds that out by itself.
            cancel.wait(rate.take(Instant::now()));
        }
        let credentials = secrets.credentials().and_then(|credentials| {
            // The kubelet's order: those of the Pod, then the node's.
            Ok(credentials.before(Credentials::of_machine(&self.root_dir)?))
        });
        let credentials =
            credentials.map_err(|error| NotPulled::by_us(format!("pull {reference}: {error}")))?;
        Ok(PullOptions { hosts: self.hosts.clone(), credentials, with_spares: false, progress, cancel })
    }

    /// Asks once: there is an image to start with, and no container waits for a second attempt.
    fn is_current(
        &self,
        store: &Store,
        reference: &Reference,
        secrets: &PullSecrets,
        cancel: &Cancel,
    ) -> Result<bool, NotPulled> {
        let first_failure = Mutex::new(None);
        let progress = |progress: Progress<'_>| {
            if let Progress::Waits(wait) = progress {
                first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(wait.why);
                cancel.cancel();
            }
        };
        let options = self.options(reference, secrets, &progress, cancel.clone())?;
        let result = image::is_current(store, reference, &options).map_err(NotPulled::from);
        let first_failure = first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.map_err(|error| match first_failure {
            Some(why) => NotPulled::by_us(format!("pull {reference}: {why}")),
            None => error,
        })
    }

    fn pull(
        &self,
        store: &Store,
        reference: &Reference,
        secrets: &PullSecrets,
        cancel: Cancel,
    ) -> Result<(), NotPulled> {
        let progress = |progress: Progress<'_>| {
            if let Progress::Waits(wait) = progress {
                log::warn!("pull {reference}: {}; again in {:.1} s", wait.why, wait.rest.as_secs_f32());
            }
        };
        let options = self.options(reference, secrets, &progress, cancel)?;
        log::info!("pulling image {reference}");
        let image = image::pull(store, reference, &options)?;
        log::info!("pulled image {reference}: {}", image.id);
        Ok(())
    }
}

impl Worker {
    /// Whether the store's image is still what its reference means is for the registry to say; what is newer is fetched.
    pub fn ask_for_newer(&mut self, reference: Reference, waiter: Waiter) {
        let secrets = self.pull_secrets(waiter.pod);
        if self.pulls.join(&reference, &secrets, waiter) {
            return;
        }
        let step = Step::Asking { until: clock::now() + PATIENCE };
        let number = self.pulls.add(reference, secrets, step, waiter);
        self.pulls.ask(number, self.images.store());
    }

    /// Fetches what the store lacks.
    pub fn pull_image(&mut self, reference: Reference, waiter: Waiter) {
        let secrets = self.pull_secrets(waiter.pod);
        if self.pulls.join(&reference, &secrets, waiter) {
            return;
        }
        let number = self.pulls.add(reference, secrets, Step::Fetching, waiter);
        self.pulls.fetch(number, self.images.store());
    }

    /// A registry has said whether the store's image is current, or did not.
    pub fn registry_asked(&mut self, number: PullNumber, result: Result<bool, NotPulled>) {
        match result {
            Ok(true) => self.pull_ended(number, Ok(())),
            Ok(false) => {
                let Some(pull) = self.pulls.under_way.get_mut(&number) else { return };
                pull.step = Step::Renewing;
                self.pulls.fetch(number, self.images.store());
            }
            Err(error) => self.pull_ended(number, Err(error)),
        }
    }

    /// Registries that have not answered in time: what is in the store has to do.
    pub fn give_up_asking(&mut self, now: BootTime) {
        let is_over = |pull: &Pull| pull.deadline().is_some_and(|until| until <= now);
        let over: Vec<_> = self
            .pulls
            .under_way
            .iter()
            .filter(|(_, pull)| is_over(pull))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            let Some(pull) = self.pulls.under_way.get(&number) else { continue };
            pull.cancel.cancel();
            let message = format!("pull {}: no answer in {} s", pull.reference, PATIENCE.as_secs());
            self.pull_ended(number, Err(NotPulled::by_us(message)));
        }
    }

    /// An image was pulled, or could not be: those that waited are told.
    pub fn pull_ended(&mut self, number: PullNumber, result: Result<(), NotPulled>) {
        let Some(mut pull) = self.pulls.under_way.remove(&number) else { return };
        self.images_arrived();
        if result.is_err() {
            self.look_again_with_new_secrets(&mut pull);
        }
        let found = self.images.find(&pull.reference).ok().flatten();
        let message = match (result, found) {
            (Ok(()), Some(image)) => return self.tell_found(&pull.waiting, &image),
            (Err(error), Some(image)) if !error.is_refusal || self.images.is_of_folder(&pull.reference) => {
                log::warn!(
                    "starting from the image that is in the store, which may not be the latest: {}",
                    error.message
                );
                return self.tell_found(&pull.waiting, &image);
            }
            (Err(error), _) => error.message + &pull.secrets.lacking(),
            (Ok(()), None) => format!("image {} was removed as soon as it had come", pull.reference),
        };
        let message = self.images.with_failed_imports(message);
        for waiter in pull.waiting {
            self.tell_missing(waiter, ImageProblem::Missing, message.clone());
        }
    }

    /// A Secret that changed while it was not let in: the containers need not wait until the pull is repeated.
    fn look_again_with_new_secrets(&mut self, pull: &mut Pull) {
        let has_new = |waiter: &mut Waiter| self.pull_secrets(waiter.pod) != pull.secrets;
        let again = pull.waiting.extract_if(.., has_new).collect();
        self.look_for_all(again);
    }

    /// What came into the store by another way, or by the pull of a Pod with other Secrets, needs to be fetched no more: whether the
    /// registry is asked is for each container's policy to say.
    pub fn end_needless_pulls(&mut self) {
        let fetching = self.pulls.under_way.iter().filter(|(_, pull)| pull.step == Step::Fetching);
        let numbers: Vec<_> = fetching.map(|(number, _)| *number).collect();
        for number in numbers {
            let Some(pull) = self.pulls.under_way.get(&number) else { continue };
            let Ok(Some(_)) = self.images.find(&pull.reference) else { continue };
            if let Some(pull) = self.pulls.under_way.remove(&number) {
                // It may be the one that brought it: then it has ended already.
                pull.cancel.cancel();
                self.look_for_all(pull.waiting);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_burst_waits_for_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ImageConfig::default();
        (config.registry_pull_qps, config.registry_burst) = (2, 1);
        let pulls = Pulls::new(dir.path(), dir.path(), &config).unwrap();
        let began = Instant::now();
        let reference = "web:1".parse().unwrap();
        let ask = |cancel| {
            let options = pulls.from.options(&reference, &PullSecrets::default(), &|_| (), cancel);
            options.map(drop).unwrap();
        };
        (0..3).for_each(|_| ask(Cancel::default()));
        // Never too early; how much later is the machine's affair.
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
        // Nobody waits for the turn of a pull that was ended.
        let cancel = Cancel::default();
        cancel.cancel();
        ask(cancel);
    }
}
