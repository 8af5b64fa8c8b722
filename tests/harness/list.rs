//! What `podkeep ps -o json` prints, as tests ask it.

use std::fmt;

use serde_json::Value;

use super::NODE_NAME;

/// A `PodList`.
#[derive(Clone, Debug)]
pub struct List(pub Value);

/// One Pod of the list.
#[derive(Clone, Copy, Debug)]
pub struct PodState<'a>(pub &'a Value);

/// One container of a Pod: its status, and its PID on the host.
#[derive(Clone, Copy, Debug)]
pub struct ContainerState<'a> {
    pub status: &'a Value,
    pub pid: Option<u32>,
}

impl List {
    pub fn parse(json: &[u8]) -> List {
        List(serde_json::from_slice(json).expect("`podkeep ps -o json` prints JSON"))
    }

    pub fn pods(&self) -> impl Iterator<Item = PodState<'_>> {
        self.0["items"].as_array().expect("a list of Pods").iter().map(PodState)
    }

    /// The Pod that its manifest calls `name`.
    pub fn pod(&self, name: &str) -> Option<PodState<'_>> {
        let full = format!("{name}-{NODE_NAME}");
        self.pods().find(|pod| pod.name() == full)
    }

    /// Broken manifests, duplicate names and the like.
    pub fn problems(&self) -> Vec<&str> {
        let problems = self.0["podkeep"]["problems"].as_array().expect("a list of problems");
        problems.iter().map(|problem| problem.as_str().expect("a sentence")).collect()
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl<'a> PodState<'a> {
    pub fn name(self) -> &'a str {
        text(&self.0["metadata"]["name"])
    }

    pub fn uid(self) -> &'a str {
        text(&self.0["metadata"]["uid"])
    }

    pub fn phase(self) -> &'a str {
        text(&self.0["status"]["phase"])
    }

    /// What is said about the whole of it.
    pub fn message(self) -> &'a str {
        self.0["status"]["message"].as_str().unwrap_or_default()
    }

    /// Whether the condition of this type is `True`.
    pub fn is(self, condition: &str) -> bool {
        let all = self.0["status"]["conditions"].as_array().expect("conditions");
        all.iter().any(|one| one["type"] == condition && one["status"] == "True")
    }

    pub fn terminating(self) -> bool {
        self.0["podkeep"]["terminating"].as_bool().expect("whether it is being ended")
    }

    pub fn container(self, name: &str) -> Option<ContainerState<'a>> {
        let statuses = |list: &str| self.0["status"][list].as_array().into_iter().flatten();
        let mut all = statuses("initContainerStatuses").chain(statuses("containerStatuses")).enumerate();
        let (place, status) = all.find(|(_, status)| status["name"] == name)?;
        let pid = self.0["podkeep"]["pids"][place].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Some(ContainerState { status, pid })
    }
}

impl<'a> ContainerState<'a> {
    pub fn running_pid(self) -> Option<u32> {
        self.status["state"].get("running")?;
        self.pid
    }

    pub fn restarts(self) -> u64 {
        self.status["restartCount"].as_u64().expect("a number")
    }

    /// Why it waits, if it does.
    pub fn waiting(self) -> Option<&'a str> {
        Some(text(&self.status["state"].get("waiting")?["reason"]))
    }

    /// What is said about why it waits, or how it ended.
    pub fn message(self) -> &'a str {
        let state = &self.status["state"];
        let detail = state.get("waiting").or_else(|| state.get("terminated"));
        detail.and_then(|detail| detail["message"].as_str()).unwrap_or_default()
    }

    /// Reason and exit code, if it has ended for good.
    pub fn terminated(self) -> Option<(String, i64)> {
        end(self.status["state"].get("terminated")?)
    }

    /// Reason and exit code of the run before.
    pub fn last(self) -> Option<(String, i64)> {
        end(self.status.get("lastState")?.get("terminated")?)
    }
}

fn end(terminated: &Value) -> Option<(String, i64)> {
    Some((text(&terminated["reason"]).to_owned(), terminated["exitCode"].as_i64()?))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string is missing where {value} is"))
}
