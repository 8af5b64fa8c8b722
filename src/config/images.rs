//! What the configuration says of images: how many are pulled at a time and how often, and when unused ones go.

use std::time::Duration;

use super::{number, switch};
use crate::manifest::duration;
use crate::manifest::tree::Node;

pub(super) const FIELDS: &[&str] = &[
    "serializeImagePulls",
    "maxParallelImagePulls",
    "registryPullQPS",
    "registryBurst",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "imageMinimumGCAge",
    "imageMaximumGCAge",
    "keepImageBlobs",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    serialize_pulls: Option<bool>,
    /// At least 1.
    max_parallel_pulls: Option<usize>,
    /// How many times in a second registries are asked, on the whole; 0: no limit.
    pub registry_pull_qps: u32,
    /// How many times they are asked at once.
    pub registry_burst: u32,
    /// Per cent of the file system; 100: it is never full enough.
    pub gc_high_threshold: u8,
    /// Less than the other.
    pub gc_low_threshold: u8,
    pub minimum_gc_age: Duration,
    /// Zero: age alone is no reason.
    pub maximum_gc_age: Duration,
    /// Ours: keep each layer as it came, for `podkeep save` and to mend it without a network.
    pub keep_blobs: bool,
}

impl Default for ImageConfig {
    /// The kubelet's (`pkg/kubelet/apis/config/v1beta1/defaults.go`).
    fn default() -> ImageConfig {
        ImageConfig {
            serialize_pulls: None,
            max_parallel_pulls: None,
            registry_pull_qps: 5,
            registry_burst: 10,
            gc_high_threshold: 85,
            gc_low_threshold: 80,
            minimum_gc_age: Duration::from_secs(120),
            maximum_gc_age: Duration::ZERO,
            keep_blobs: true,
        }
    }
}

impl ImageConfig {
    /// How many images are pulled at a time: one, unless the configuration says otherwise.
    pub fn pulls_at_once(&self) -> usize {
        match (self.serialize_pulls, self.max_parallel_pulls) {
            (Some(true), _) | (None, None) => 1,
            (_, Some(most)) => most,
            (Some(false), None) => usize::MAX,
        }
    }

    /// Takes one of [`FIELDS`].
    pub(super) fn set(&mut self, key: &str, value: &Node) -> Result<(), String> {
        let time = || {
            let text = value.text().ok_or("expected a string")?;
            duration::parse(text).ok_or("expected a duration such as 2m or 72h")
        };
        let small = || u32::try_from(number(value, 0)?).map_err(|_| "too large".to_owned());
        match key {
            "serializeImagePulls" => self.serialize_pulls = Some(switch(value)?),
            "maxParallelImagePulls" => {
                let most = usize::try_from(number(value, 1)?).map_err(|_| "too large")?;
                self.max_parallel_pulls = Some(most);
            }
            "registryPullQPS" => self.registry_pull_qps = small()?,
            "registryBurst" => self.registry_burst = small()?,
            "imageGCHighThresholdPercent" => self.gc_high_threshold = percent(value)?,
            "imageGCLowThresholdPercent" => self.gc_low_threshold = percent(value)?,
            "imageMinimumGCAge" => self.minimum_gc_age = time()?,
            "imageMaximumGCAge" => self.maximum_gc_age = time()?,
            "keepImageBlobs" => self.keep_blobs = switch(value)?,
            _ => {}
        }
        Ok(())
    }

    /// What fields say together (`pkg/kubelet/apis/config/validation`).
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(super) fn verify(&self) -> Result<(), (&'static str, &'static str)> {
        if self.serialize_pulls == Some(true) && self.max_parallel_pulls.is_some_and(|most| most > 1) {
            return Err(("maxParallelImagePulls", "must be 1 where serializeImagePulls is true"));
        }
        if self.gc_low_threshold >= self.gc_high_threshold {
            return Err(("imageGCLowThresholdPercent", "must be less than imageGCHighThresholdPercent"));
        }
        if !self.maximum_gc_age.is_zero() && self.maximum_gc_age <= self.minimum_gc_age {
            return Err(("imageMaximumGCAge", "must be zero, or more than imageMinimumGCAge"));
        }
        Ok(())
    }
}

fn percent(value: &Node) -> Result<u8, String> {
    let percent = u8::try_from(number(value, 0)?).ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| "expected per cent, 0 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn decode(body: &str) -> Result<ImageConfig, String> {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        match Config::decode(Path::new("c.yaml"), format!("{head}{body}").as_bytes()) {
            Ok(decoded) => Ok(decoded.config.images),
            Err(list) => Err(list.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn pulls_are_one_by_one_unless_something_else_is_said() {
        let cases = [
            ("", 1),
            ("serializeImagePulls: true", 1),
            ("serializeImagePulls: false", usize::MAX),
            ("serializeImagePulls: null\nmaxParallelImagePulls: 3", 3),
            ("serializeImagePulls: false\nmaxParallelImagePulls: 2", 2),
            ("serializeImagePulls: true\nmaxParallelImagePulls: 1", 1),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text).unwrap().pulls_at_once(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_beats_the_defaults() {
        let text = "registryPullQPS: 0\nregistryBurst: 1\nimageGCHighThresholdPercent: 100\n\
                    imageGCLowThresholdPercent: 99\nimageMinimumGCAge: 0s\nimageMaximumGCAge: 72h\nkeepImageBlobs: false\n";
        let expected = ImageConfig {
            registry_pull_qps: 0,
            registry_burst: 1,
            gc_high_threshold: 100,
            gc_low_threshold: 99,
            minimum_gc_age: Duration::ZERO,
            maximum_gc_age: Duration::from_secs(72 * 3600),
            keep_blobs: false,
            ..ImageConfig::default()
        };
        assert_eq!(decode(text), Ok(expected));
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused_at_their_place() {
        let cases = [
            (
                "serializeImagePulls: true\nmaxParallelImagePulls: 2",
                "c.yaml:4:24: error: maxParallelImagePulls: must be 1",
            ),
            ("maxParallelImagePulls: 0", "expected an integer of at least 1"),
            ("imageGCHighThresholdPercent: 80", "imageGCLowThresholdPercent: must be less"),
            ("imageGCLowThresholdPercent: 85", "imageGCLowThresholdPercent: must be less"),
            ("imageGCLowThresholdPercent: 101", "expected per cent, 0 to 100"),
            ("imageMaximumGCAge: 2m", "must be zero, or more than imageMinimumGCAge"),
            ("registryPullQPS: -1", "expected an integer of at least 0"),
        ];
        for (text, reason) in cases {
            let error = decode(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
