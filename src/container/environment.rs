//! The variables of a container: whatever its manifest names, looked up (`KP:makeEnvironmentVariables` of the kubelet).
//!
//! `env` counts more than `envFrom`, and in both the later more. `$(VAR)` stands for what came before, and is looked for in
//! values that are written out only.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use super::env_file;
use super::expand::expand;
use crate::manifest::object::{Object, ObjectId, ObjectKind};
use crate::manifest::pod::{Address, Allocatable, EnvFrom, EnvValue, EnvVar, FileKeyRef, KeyRef, ObjectRef};
use crate::manifest::{Container, Pod};

/// Where values come from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub pod: &'a Pod,
    pub objects: &'a dyn Fn(&ObjectId) -> Option<&'a Object>,
    /// Asked only where a variable is about it.
    pub node: &'a dyn Fn() -> NodeFacts,
    /// The text of a file of the Pod's, of which it looks at volume and path; `None` if there is none.
    pub file: &'a dyn Fn(&FileKeyRef) -> io::Result<Option<String>>,
}

/// What variables say of the node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The first one is `hostIP`.
    pub addresses: Vec<IpAddr>,
    /// Of a Pod that is not on the node's network.
    pub pod_addresses: Vec<IpAddr>,
    pub allocatable: Allocatable,
}

/// What the variables are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A start of the container: everything that it cannot do without must be there.
    Start,
    /// To see whether a Pod that does not run yet could start: as [`Purpose::Start`], but for what its own containers will have
    /// written by then.
    Rehearsal,
    /// A process beside those that run: what is gone meanwhile is left out.
    Beside,
    /// To be shown: no value of a ConfigMap or Secret is in it, but where it is from.
    Show,
}

/// Why a container cannot have its variables, in the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotThere {
    #[error("{} {name:?} not found", .kind.as_str().to_lowercase())]
    Object { kind: ObjectKind, name: String },
    #[error("couldn't find key {key} in {object}")]
    Key { object: ObjectId, key: String },
    #[error("the key {key} of {object} cannot be a variable: it is not UTF-8, or holds a zero byte")]
    NoText { object: ObjectId, key: String },
    /// It is sealed, and cannot be decrypted.
    #[error("{0}")]
    Closed(String),
    #[error("environment variable key {key:?} not found in file {path} of volume {volume}")]
    FileKey { volume: String, path: String, key: String },
    /// Nothing of what is in it, for that may be a secret.
    #[error("couldn't parse env file {path} of volume {volume}: {why}")]
    EnvFile { volume: String, path: String, why: String },
}

impl Purpose {
    fn needs_all(self) -> bool {
        matches!(self, Purpose::Start | Purpose::Rehearsal)
    }
}

/// Variables in the order of their first appearance, each once, with its last value.
#[derive(Clone, Default)]
pub struct Environment {
    list: Vec<(String, String)>,
    /// Where in the list a name is: an image or a manifest may hold any number of them.
    places: HashMap<String, usize>,
}

impl Environment {
    pub fn set(&mut self, name: &str, value: &str) {
        match self.places.get(name) {
            Some(place) => value.clone_into(&mut self.list[*place].1),
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.list[*place].1.as_str())
    }

    pub fn variables(&self) -> &[(String, String)] {
        &self.list
    }
}

/// The container's variables, without those of its image.
///
/// # Errors
/// With [`Purpose::Start`] and [`Purpose::Rehearsal`], what is missing.
pub fn environment(
    container: &Container,
    sources: Sources<'_>,
    purpose: Purpose,
) -> Result<Environment, NotThere> {
    let mut environment = Environment::default();
    let mut files = EnvFiles { sources, read: Vec::new() };
    for from in &container.env_from {
        sources.add_all(from, purpose, &mut environment)?;
    }
    for EnvVar { name, value } in &container.env {
        let value = match value {
            EnvValue::Text(text) => expand(text, |name| environment.get(name)),
            EnvValue::Field(field) => field.clone(),
            EnvValue::Uid => sources.pod.uid.to_string(),
            EnvValue::Address(address) => sources.address(*address),
            EnvValue::Amount(amount) => {
                let node = || (sources.node)().allocatable;
                amount.of(sources.pod, &node).to_string()
            }
            EnvValue::Key(key) => match sources.value(key, purpose)? {
                Some(value) => value,
                None => continue,
            },
            EnvValue::File(key) => match files.value(key, purpose)? {
                Some(value) => value,
                None => continue,
            },
        };
        environment.set(name, &value);
    }
    Ok(environment)
}

/// A probe's command. It knows of a variable what the manifest says: nothing, where that says where it is from
/// (`ExpandContainerCommandOnlyStatic`).
pub fn expanded_command(command: &[String], env: &[EnvVar]) -> Vec<String> {
    let mut environment = Environment::default();
    for EnvVar { name, value } in env {
        let value = match value {
            EnvValue::Text(text) => expand(text, |name| environment.get(name)),
            _ => String::new(),
        };
        environment.set(name, &value);
    }
    command.iter().map(|text| expand(text, |name| environment.get(name))).collect()
}

impl<'a> Sources<'a> {
    fn id(&self, object: &ObjectRef) -> ObjectId {
        object.id_in(&self.pod.id.namespace)
    }

    /// `None` where it may be missing, and is.
    fn object(&self, named: &ObjectRef, purpose: Purpose) -> Result<Option<&'a Object>, NotThere> {
        let object = (self.objects)(&self.id(named));
        if object.is_none() && purpose.needs_all() && !named.optional {
            return Err(NotThere::Object { kind: named.kind, name: named.name.clone() });
        }
        Ok(object)
    }

    fn add_all(
        &self,
        from: &EnvFrom,
        purpose: Purpose,
        environment: &mut Environment,
    ) -> Result<(), NotThere> {
        let Some(object) = self.object(&from.object, purpose)? else { return Ok(()) };
        for key in object.variables() {
            let value = match purpose {
                Purpose::Show => Some(shown(&from.object, key)),
                Purpose::Start | Purpose::Rehearsal | Purpose::Beside => text(object, key, purpose)?,
            };
            if let Some(value) = value {
                environment.set(&format!("{}{key}", from.prefix), &value);
            }
        }
        Ok(())
    }

    fn value(&self, named: &KeyRef, purpose: Purpose) -> Result<Option<String>, NotThere> {
        let KeyRef { object: of, key } = named;
        if purpose == Purpose::Show {
            return Ok(Some(shown(of, key)));
        }
        let Some(object) = self.object(of, purpose)? else { return Ok(None) };
        if object.variable(key).is_none() && object.closed(key).is_none() {
            return match of.optional || purpose == Purpose::Beside {
                true => Ok(None),
                false => Err(NotThere::Key { object: self.id(of), key: key.clone() }),
            };
        }
        text(object, key, purpose)
    }

    fn address(&self, address: Address) -> String {
        let is_pods = matches!(address, Address::PodIp | Address::PodIps) && !self.pod.host_network;
        let NodeFacts { addresses, pod_addresses, .. } = (self.node)();
        let all = if is_pods { pod_addresses } else { addresses };
        let most = if matches!(address, Address::HostIp | Address::PodIp) { 1 } else { all.len() };
        all.iter().take(most).map(IpAddr::to_string).collect::<Vec<_>>().join(",")
    }
}

/// The env files that one container's variables are from: each is read once, so that all of it is of one moment.
struct EnvFiles<'a, 'c> {
    sources: Sources<'a>,
    read: Vec<(&'c FileKeyRef, Option<String>)>,
}

impl<'c> EnvFiles<'_, 'c> {
    fn value(&mut self, named: &'c FileKeyRef, purpose: Purpose) -> Result<Option<String>, NotThere> {
        let FileKeyRef { volume, path, key, .. } = named;
        if matches!(purpose, Purpose::Show | Purpose::Rehearsal) {
            return Ok(Some(format!("<from volume {volume} file {path} key {key}>")));
        }
        let missing = || {
            let (volume, path, key) = (volume.clone(), path.clone(), key.clone());
            NotThere::FileKey { volume, path, key }
        };
        match self.found(named) {
            Err(_) if purpose == Purpose::Beside => Ok(None),
            Err(why) => Err(NotThere::EnvFile { volume: volume.clone(), path: path.clone(), why }),
            Ok(None) if purpose == Purpose::Start && !named.optional => Err(missing()),
            Ok(found) => Ok(found),
        }
    }

    fn found(&mut self, named: &'c FileKeyRef) -> Result<Option<String>, String> {
        let same = |(other, _): &(&FileKeyRef, _)| other.volume == named.volume && other.path == named.path;
        let at = match self.read.iter().position(same) {
            Some(at) => at,
            None => {
                let text = (self.sources.file)(named).map_err(|error| error.to_string())?;
                self.read.push((named, text));
                self.read.len() - 1
            }
        };
        let Some(text) = &self.read[at].1 else { return Ok(None) };
        let found = env_file::variable(text, &named.key).map_err(|error| error.to_string())?;
        Ok(found.map(str::to_owned))
    }
}

fn shown(object: &ObjectRef, key: &str) -> String {
    format!("<from {} {} key {key}>", object.kind, object.name)
}

/// What the kernel and an OCI runtime take as a value.
fn text(object: &Object, key: &str, purpose: Purpose) -> Result<Option<String>, NotThere> {
    if let Some(why) = object.closed(key) {
        return if purpose == Purpose::Beside { Ok(None) } else { Err(NotThere::Closed(why)) };
    }
    let bytes = object.variable(key).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(Some(text.to_owned())),
        _ if purpose == Purpose::Beside => Ok(None),
        _ => Err(NotThere::NoText { object: object.id.clone(), key: key.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
