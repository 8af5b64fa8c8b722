//! What a container is made from, for who asks: its `Spec` with all that another runtime needs, or the steps of its plan.
//!
//! Computed anew from the Pod and its image, as for a start of it. Nothing is made for it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Spec;

use super::exec::NotThere;
use super::mounts;
use super::pod_run::{PodNumber, PodRun};
use super::prepare;
use super::start::{self, Ingredients};
use super::worker::Worker;
use crate::container::environment::Purpose;
use crate::container::{self, Namespaces, Root, Setting, Stdio};
use crate::manifest::PodId;
use crate::pod::event::Index;

/// Asks for what a container is made from.
pub struct InspectRequest {
    pub pod: PodId,
    pub container: String,
    pub what: Inspected,
    /// Gets it as JSON.
    pub answer: Sender<Result<Vec<u8>, InspectError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// An OCI runtime `Spec`. The path of its root is where a bundle would have it: podkeep mounts the image's layers there.
    Spec,
    /// A list of sentences, one for each step between clone and exec.
    Plan,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    NotThere(#[from] NotThere),
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Worker {
    /// Answers the request.
    pub fn inspect(&mut self, request: InspectRequest) {
        let InspectRequest { pod, container, what, answer } = request;
        let found = self.container(&pod, &container).map_err(InspectError::from);
        let told = found.and_then(|(number, index)| Ok(self.made_from(number, index, what)?));
        // An asker who has gone away needs no answer.
        drop(answer.send(told));
    }

    fn made_from(&mut self, number: PodNumber, container: Index, what: Inspected) -> Result<Vec<u8>> {
        let ingredients = self.ingredients_of_run(number, container, Purpose::Show)?;
        let run = self.pods.get(&number).context("the Pod is gone")?;
        let spec = self.whole_spec(run, container, &ingredients)?;
        Ok(match what {
            Inspected::Spec => serde_json::to_vec_pretty(&spec)?,
            Inspected::Plan => serde_json::to_vec(&self.steps(run, container, &ingredients, &spec)?)?,
        })
    }

    /// With the seccomp profile in it, which a start has compiled beside it.
    fn whole_spec(&self, run: &PodRun, container: Index, ingredients: &Ingredients) -> Result<Spec> {
        let pod = run.pod();
        let wanted = &pod.containers[container];
        let group = run.group.as_ref().context("the Pod is not prepared: it has no cgroup")?;
        let resources = self.resources(pod, wanted);
        let (attempt, group) = (attempt(run, container), group.path().join(&wanted.name));
        let mut spec = self.container_spec(ingredients, container, attempt, &group, resources)?;
        let seccomp = start::seccomp_profile(wanted, &self.options.config, &self.options.folders)?;
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(seccomp);
        }
        Ok(spec)
    }

    fn steps(
        &self,
        run: &PodRun,
        container: Index,
        ingredients: &Ingredients,
        spec: &Spec,
    ) -> Result<Vec<String>> {
        let pod = run.pod();
        let wanted = &pod.containers[container];
        let folder = self.options.folders.container_run(&pod.uid, &wanted.name, attempt(run, container));
        let volumes = mounts::image_volumes(pod, wanted, &run.containers[container])?;
        let root = Root::Overlay(self.root(&ingredients.image, &folder, volumes));
        let stdio = Stdio::Streams { stdin: None, stdout: null()?, stderr: null()? };
        let mut setting = Setting::new(root, namespaces(run)?, stdio);
        setting.keyring = Some(start::keyring(pod, &wanted.name));
        setting.sub_paths.clone_from(&ingredients.sub_paths);
        Ok(container::plan(spec, setting)?.to_string().lines().map(str::to_owned).collect())
    }
}

/// The run that is on, or comes next.
fn attempt(run: &PodRun, container: Index) -> u32 {
    let process = run.containers[container].process.as_ref();
    process.map_or_else(|| run.machine.attempt(container), |process| process.run.attempt)
}

/// Those that the container joins. Without one of them the plan would be another.
fn namespaces(run: &PodRun) -> Result<Namespaces> {
    let pod = run.pod();
    let pid = run.pause.as_ref().map(|pause| pause.namespace()).transpose()?;
    if !prepare::has_namespaces(pod, &run.namespaces) || (pod.share_process_namespace && pid.is_none()) {
        bail!("the Pod's namespaces are not there: they are made when a container of it starts");
    }
    let namespaces = run.namespaces.try_clone().context("duplicate the Pod's namespaces")?;
    Ok(Namespaces { pid, ..namespaces })
}

/// In the place of a stream to be.
fn null() -> Result<OwnedFd> {
    Ok(File::options().write(true).open("/dev/null").context("open /dev/null")?.into())
}
