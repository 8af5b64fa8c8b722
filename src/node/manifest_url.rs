//! The URL of manifests: asked on a thread, given up by the loop.

use std::io;
use std::path::PathBuf;

use super::clock;
use super::sources::URL;
use super::tasks::Tasks;
use super::worker::{Done, Options, Worker};
use crate::http::Cancel;
use crate::pod::BootTime;
use crate::pod::set::SetEvent;
use crate::source::{Answer, Change, Due, Target, UrlError, UrlSource};

/// A URL that is asked for manifests.
pub struct ManifestUrl {
    source: UrlSource,
    /// One thread, while a request is under way.
    pub lane: Tasks<Done>,
    /// Ends that request.
    cancel: Cancel,
}

impl ManifestUrl {
    /// The one that the options name, if they name one; takes it and its headers out of them.
    pub fn open(options: &mut Options, now: BootTime) -> io::Result<Option<ManifestUrl>> {
        let Some(url) = options.manifest_url.take() else { return Ok(None) };
        let headers = std::mem::take(&mut options.config.static_pod_url_header);
        let every = options.config.http_check_frequency;
        let source = UrlSource::new(Target { url, headers }, every, now.since_boot());
        Ok(Some(ManifestUrl { source, lane: Tasks::new(1)?, cancel: Cancel::default() }))
    }

    /// The URL as it may be shown.
    pub fn file(&self) -> PathBuf {
        self.source.file()
    }

    pub fn deadline(&self) -> Option<BootTime> {
        self.source.deadline().map(BootTime::from)
    }

    /// Ends the request that is under way.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Worker {
    /// Asks if it is time to, and gives up what takes too long.
    pub fn ask_url(&mut self, now: BootTime) {
        let Some(url) = &mut self.url else { return };
        match url.source.step(now.since_boot()) {
            None => {}
            Some(Due::Ask(question)) => {
                url.cancel = Cancel::default();
                let cancel = url.cancel.clone();
                url.lane.add(move || Done::UrlAnswered(question.ask(&cancel)));
            }
            Some(Due::GiveUp(changes)) => {
                url.cancel();
                self.take_url_changes(changes);
            }
        }
    }

    /// Takes what the server said.
    pub fn url_answered(&mut self, answer: Result<Answer, UrlError>) {
        let Some(url) = &mut self.url else { return };
        let was_in_trouble = url.source.is_in_trouble();
        let changes = url.source.answered(answer, clock::now().since_boot());
        if was_in_trouble && !url.source.is_in_trouble() {
            log::info!("{}: answers again", url.file().display());
        }
        // Once podkeep is stopping, nothing new is wanted.
        if self.ending.is_none() {
            self.take_url_changes(changes);
        }
    }

    fn take_url_changes(&mut self, changes: Vec<Change>) {
        let unreadable = changes.iter().any(|change| matches!(change, Change::Unreadable { .. }));
        self.take_changes(URL, changes);
        if unreadable {
            // Nor is there more to learn of what was asked for by another URL, before the configuration was changed.
            let event = SetEvent::Unlistable { source: URL };
            self.restore_objects(&event);
            let commands = self.set.step(event);
            self.heed_set(commands);
        }
    }
}
