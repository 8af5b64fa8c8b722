//! Images that nobody needs go: as many as it takes when the disk is getting full, and those that have been unused for long.
//!
//! Looking costs no wake-up: the loop looks when it is awake anyway, at the latest for the rescan of the manifests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::offline;
use super::worker::{Done, Worker};
use crate::config::ImageConfig;
use crate::image::{Cleaned, Digest, Error, Keep, Policy, Store};
use crate::pod::BootTime;

/// Between two looks (`pkg/kubelet/images/image_gc_manager.go`).
const PERIOD: Duration = Duration::from_secs(300);
/// From the start to the first look: containers come first.
const FIRST: Duration = Duration::from_secs(10);

/// When the node looks, and what it wants.
pub struct CleanUp {
    policy: Policy,
    /// Age alone is no reason before this: what is old may be needed again by Pods that have yet to come (as the kubelet has it).
    heed_age_from: BootTime,
    look_at: BootTime,
    under_way: bool,
}

impl CleanUp {
    pub fn new(config: &ImageConfig, now: BootTime) -> CleanUp {
        let (high, low) = (config.gc_high_threshold, config.gc_low_threshold);
        let policy = Policy {
            minimum_age: config.minimum_gc_age,
            maximum_age: Some(config.maximum_gc_age).filter(|age| !age.is_zero()),
            thresholds: (high < 100).then_some((high, low)),
        };
        let heed_age_from = now + config.maximum_gc_age;
        CleanUp { policy, heed_age_from, look_at: now + FIRST, under_way: false }
    }

    fn policy_at(&self, now: BootTime) -> Policy {
        let maximum_age = self.policy.maximum_age.filter(|_| now > self.heed_age_from);
        Policy { maximum_age, ..self.policy.clone() }
    }
}

impl Worker {
    /// Looks whether images have to go, if it is time to, and removes them beside the loop.
    pub fn clean_images(&mut self, now: BootTime) {
        if now < self.clean_up.look_at || self.clean_up.under_way || self.ending.is_some() {
            return;
        }
        self.clean_up.look_at = now + PERIOD;
        self.clean_up.under_way = true;
        let (store, policy) = (self.images.store(), self.clean_up.policy_at(now));
        let (keep, root_dir) = (self.needed_images(), self.options.folders.root.clone());
        self.trash.add(move || {
            let cleaned = clean(&store, &policy, keep, &root_dir);
            Done::ImagesCleaned(cleaned.map_err(|error| format!("{:#}", anyhow::Error::from(error))))
        });
    }

    /// What Pods run from, and what they ask for.
    fn needed_images(&self) -> Keep {
        let mut keep = Keep::default();
        for run in self.pods.values() {
            keep.images.extend(run.image_ids());
            let images = run.pod().images().map(str::parse);
            // A name that is none brings no image.
            keep.references.extend(images.filter_map(Result::ok));
        }
        keep
    }

    pub fn images_cleaned(&mut self, result: Result<Option<Cleaned>, String>) {
        self.clean_up.under_way = false;
        let cleaned = match result {
            Ok(Some(cleaned)) => cleaned,
            Ok(None) => return,
            Err(message) => return log::error!("clean up images: {message}"),
        };
        for image in &cleaned.images {
            let names: Vec<String> = image.references.iter().map(ToString::to_string).collect();
            log::info!("removed image {} ({}), which nobody needs", image.id, names.join(", "));
        }
        if cleaned.bytes > 0 {
            log::info!("the clean-up of images has freed {} bytes", cleaned.bytes);
        }
        if cleaned.lacking > 0 {
            log::warn!(
                "{} is too full: {} bytes are lacking to imageGCLowThresholdPercent, and every image that is left is needed or too young to go",
                self.images.layers_dir().display(),
                cleaned.lacking
            );
        }
    }

    /// These images have been in use until now. Nothing is written at a start: what is in use stays in any case.
    pub fn note_last_use(&mut self, images: Vec<Digest>) {
        if images.is_empty() {
            return;
        }
        let store = self.images.store();
        self.disk.add_for_later(move || {
            let marked = store.mark_used(&images);
            Done::Finished(marked.map_err(|error| format!("{:#}", anyhow::Error::from(error))))
        });
        self.not_now();
    }
}

/// `None` if there is no reason to remove anything.
fn clean(store: &Store, policy: &Policy, mut keep: Keep, root_dir: &Path) -> Result<Option<Cleaned>, Error> {
    if !store.may_need_cleaning(policy)? {
        return Ok(None);
    }
    let named = offline::named_images(root_dir).into_iter();
    keep.references.extend(named.filter_map(|(_, image): (PathBuf, String)| image.parse().ok()));
    store.clean(policy, &keep, false).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_alone_is_no_reason_before_the_node_has_run_for_that_long() {
        let day = Duration::from_secs(24 * 3600);
        let began = BootTime::from(Duration::from_secs(60));
        let mut config = ImageConfig::default();
        config.maximum_gc_age = day;
        let clean_up = CleanUp::new(&config, began);
        let maximum_at = |now| clean_up.policy_at(now).maximum_age;
        assert_eq!(maximum_at(began + day), None);
        assert_eq!(maximum_at(began + day + Duration::from_secs(1)), Some(day));
        assert_eq!(clean_up.policy_at(began).thresholds, Some((85, 80)), "room is wanted from the start");
    }
}
