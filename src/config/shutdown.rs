//! What the configuration says of the node's end: how long Pods have, by priority.

use std::time::Duration;

use super::number;
use crate::manifest::duration;
use crate::manifest::tree::{Data, Node};
use crate::pod::shutdown::{CRITICAL, Period};

pub(super) const FIELDS: &[&str] =
    &["shutdownGracePeriod", "shutdownGracePeriodCriticalPods", "shutdownGracePeriodByPodPriority"];

/// Without a word of it each Pod has its own grace period, the critical ones after the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownConfig {
    total: Duration,
    /// Of the total.
    critical: Duration,
    /// By ascending priority.
    by_priority: Vec<Period>,
}

impl ShutdownConfig {
    /// What Pods get, by ascending priority.
    pub fn periods(&self) -> Vec<Period> {
        if !self.by_priority.is_empty() {
            return self.by_priority.clone();
        }
        let is_set = !self.total.is_zero();
        let period = |priority, within| Period { priority, within: is_set.then_some(within) };
        vec![period(0, self.total.saturating_sub(self.critical)), period(CRITICAL, self.critical)]
    }

    /// Takes one of [`FIELDS`].
    pub(super) fn set(&mut self, key: &str, value: &Node) -> Result<(), String> {
        let time = || {
            let text = value.text().ok_or("expected a string")?;
            duration::parse(text).ok_or("expected a duration such as 30s or 2m")
        };
        match key {
            "shutdownGracePeriod" => self.total = time()?,
            "shutdownGracePeriodCriticalPods" => self.critical = time()?,
            "shutdownGracePeriodByPodPriority" => self.by_priority = by_priority(value)?,
            _ => {}
        }
        Ok(())
    }

    /// What is wrong with one field in the light of the others (`pkg/kubelet/apis/config/validation`).
    pub(super) fn verify(&self) -> Result<(), (&'static str, &'static str)> {
        if self.critical > self.total {
            let reason = "must not be longer than shutdownGracePeriod, of which it is a part";
            return Err(("shutdownGracePeriodCriticalPods", reason));
        }
        if !self.total.is_zero() && !self.by_priority.is_empty() {
            let reason = "cannot stand beside shutdownGracePeriod";
            return Err(("shutdownGracePeriodByPodPriority", reason));
        }
        Ok(())
    }
}

fn by_priority(value: &Node) -> Result<Vec<Period>, String> {
    const EXPECTED: &str = "expected a list of {priority, shutdownGracePeriodSeconds}";
    let Data::List(items) = &value.data else { return Err(EXPECTED.to_owned()) };
    let period = |item: &Node| {
        let Data::Map(entries) = &item.data else { return Err(EXPECTED.to_owned()) };
        let (mut priority, mut seconds) = (0, 0);
        for entry in entries {
            match entry.key.as_str() {
                "priority" => priority = number(&entry.value, i32::MIN.into())?,
                "shutdownGracePeriodSeconds" => seconds = number(&entry.value, 0)?,
                other => return Err(format!("unknown field: {other}")),
            }
        }
        let priority = i32::try_from(priority).map_err(|_| "priority: too large")?;
        Ok(Period { priority, within: Some(Duration::from_secs(seconds.unsigned_abs())) })
    };
    let mut periods = items.iter().map(period).collect::<Result<Vec<_>, String>>()?;
    crate::order::sort_by(&mut periods, |a, b| a.priority.cmp(&b.priority));
    Ok(periods)
}
