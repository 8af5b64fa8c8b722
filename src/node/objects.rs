//! ConfigMaps and Secrets on this node: looked at when their manifest is read, lent to the pulls of Pods that name them, and told
//! of to Pods that use them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::pod_run::PodNumber;
use super::worker::Worker;
use crate::image::{Credentials, InvalidCredentials};
use crate::manifest::{self, Diagnostic, Manifest, Object, ObjectId, ObjectKind, Pod, Severity};
use crate::order;
use crate::pod::Event;
use crate::pod::objects::Objects;
use crate::seal;

/// Others than the file's owner and group may read it.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Decodes a manifest as [`manifest::decode`] does, and looks at what its Secrets hold for registries, and who may read them.
///
/// # Errors
/// Everything that is wrong. No message holds a value of a Secret.
pub fn decode(file: &Path, bytes: &[u8], node_name: &str) -> Result<Manifest, Vec<Diagnostic>> {
    let mut manifest = manifest::decode(file, bytes, node_name)?;
    let say = |severity, secret: &Object, message| {
        let ((line, column), file) = (secret.place, file.to_owned());
        Diagnostic { severity, file, line, column, field: None, message }
    };
    let wrong = |secret| {
        let error = Credentials::of_secret(secret).err()?;
        Some(say(Severity::Error, secret, error.to_string()))
    };
    let errors: Vec<_> = manifest.objects.iter().filter_map(wrong).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    // What is sealed may be read by everybody.
    let is_plain = |object: &&Object| object.id.kind == ObjectKind::Secret && object.sealed.is_empty();
    if let Some(secret) = manifest.objects.iter().find(is_plain)
        // Of a URL there is no file to ask about.
        && let Ok(metadata) = fs::metadata(file)
        && metadata.permissions().mode() & READABLE_BY_OTHERS != 0
    {
        let mode = metadata.permissions().mode() & 0o777;
        let message = format!(
            "the file holds {}, and everybody on this machine may read it (mode {mode:o}): chmod 600",
            secret.id
        );
        manifest.warnings.push(say(Severity::Warning, secret, message));
    }
    Ok(manifest)
}

/// Decrypts what is sealed, in memory, with the keys in the file `path`; what cannot be decrypted knows why.
///
/// In the loop: a value costs it well below a millisecond.
pub fn open_sealed(objects: &mut [Object], path: &Path) {
    if objects.iter().all(|object| object.sealed.is_empty()) {
        return;
    }
    let keys = seal::read(path);
    if let Ok(keys) = &keys
        && let Some(exposed) = &keys.exposed
    {
        log::warn!("{exposed}");
    }
    for object in objects {
        object.open(&|file| match &keys {
            Ok(keys) => keys.open(file).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        });
        for closed in object.keys().filter_map(|key| object.closed(key)) {
            log::warn!("{closed}");
        }
    }
}

/// A Pod's `imagePullSecrets`, as they are now.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, derive(Default))]
pub struct PullSecrets(Vec<(ObjectId, Option<Arc<Object>>)>);

impl PullSecrets {
    pub fn of(pod: &Pod, objects: &Objects) -> PullSecrets {
        let named = pod.image_pull_secrets.iter().map(|name| {
            let id = pull_secret(pod, name);
            let secret = objects.get(&id).map(Arc::clone);
            (id, secret)
        });
        PullSecrets(named.collect())
    }

    /// Those of all that are there.
    pub fn credentials(&self) -> Result<Credentials, InvalidCredentials> {
        let mut all = Credentials::default();
        for secret in self.0.iter().filter_map(|(_, secret)| secret.as_ref()) {
            if let Some(credentials) = Credentials::of_secret(secret)? {
                all.extend(credentials);
            }
        }
        Ok(all)
    }

    /// Those that are no help, in words to be put behind why a pull failed.
    pub fn lacking(&self) -> String {
        let word = |(id, secret): &(ObjectId, Option<Arc<Object>>)| match secret {
            None => format!("; {id} of imagePullSecrets is not there"),
            Some(secret) if !secret.sealed.is_empty() => {
                secret.keys().filter_map(|key| secret.closed(key)).map(|why| format!("; {why}")).collect()
            }
            Some(secret) if matches!(Credentials::of_secret(secret), Ok(None)) => {
                format!("; {id} has the type {}, which holds no credentials for registries", secret.type_)
            }
            Some(_) => String::new(),
        };
        self.0.iter().map(word).collect()
    }
}

impl Worker {
    /// The Secrets that a Pod's pulls use.
    pub fn pull_secrets(&self, number: PodNumber) -> PullSecrets {
        let pod = self.pods.get(&number).map(|run| PullSecrets::of(run.pod(), self.set.objects()));
        pod.unwrap_or(PullSecrets(Vec::new()))
    }

    /// Pods whose images could not be pulled with this Secret, or whose containers could not start without this object, need not
    /// wait any longer.
    pub fn object_changed(&mut self, id: &ObjectId) {
        log::info!("{id}: {}", if self.set.objects().get(id).is_some() { "new" } else { "gone" });
        self.tell_volumes_of(id);
        let mut users = Vec::new();
        for (number, run) in &self.pods {
            let pod = run.pod();
            if pod.image_pull_secrets.iter().any(|name| pull_secret(pod, name) == *id) {
                let waiting = run.machine.without_image();
                self.events.extend(waiting.map(|container| (*number, Event::ImageArrived { container })));
            }
            if pod.objects().any(|object| object.id_in(&pod.id.namespace) == *id) {
                users.push((*number, Arc::clone(pod)));
            }
        }
        for (number, pod) in users {
            let fingerprint = self.fingerprint(&pod);
            self.tell(number, Event::ObjectsChanged { fingerprint });
        }
    }

    /// Tells the Pods that want to start again when what they use changes how that is now: it may have changed while nobody was
    /// there.
    pub fn tell_of_objects(&mut self) {
        let pods: Vec<_> = self.pods.iter().map(|(number, run)| (*number, Arc::clone(run.pod()))).collect();
        for (number, pod) in pods {
            if let Some(fingerprint) = self.fingerprint(&pod) {
                self.tell(number, Event::ObjectsChanged { fingerprint: Some(fingerprint) });
            }
        }
    }

    /// What stands for all that the objects hold which a Pod uses, if it wants to know and could start with them. Without the
    /// node's key it says nothing of a Secret, so that it can be saved.
    pub fn fingerprint(&mut self, pod: &Pod) -> Option<String> {
        if !pod.restart_on_change || self.lacks_for_start(pod).is_some() {
            return None;
        }
        let mut ids: Vec<_> = pod.objects().map(|object| object.id_in(&pod.id.namespace)).collect();
        order::sort(&mut ids);
        ids.dedup();
        if ids.is_empty() {
            return None;
        }
        let objects = self.set.objects();
        let of_set: Vec<_> = ids.iter().map(|id| objects.get(id).map(Arc::clone)).collect();
        // One that a Pod can do without may be there, where nobody has looked yet.
        if of_set.iter().any(Option::is_none) && !self.set.knows_all_objects() {
            return None;
        }
        let mut print = self.node_key()?.fingerprint();
        for (id, object) in ids.iter().zip(&of_set) {
            print.add(id.to_string().as_bytes());
            for (key, value) in object.iter().flat_map(|object| &object.data) {
                print.add(key.as_bytes());
                print.add(value.bytes());
            }
        }
        Some(print.in_hex())
    }
}

fn pull_secret(pod: &Pod, name: &str) -> ObjectId {
    ObjectId { kind: ObjectKind::Secret, namespace: pod.id.namespace.clone(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    const HEAD: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: regcred}\n\
        type: kubernetes.io/dockerconfigjson\nstringData:\n";

    fn said(mode: u32, value: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.yaml");
        let text = format!("{HEAD}  .dockerconfigjson: '{value}'\n");
        fs::write(&file, &text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let found = match decode(&file, text.as_bytes(), "n") {
            Ok(manifest) => manifest.warnings,
            Err(errors) => errors,
        };
        let folder = format!("{}/", dir.path().display());
        found.into_iter().map(|one| one.to_string().replace(&folder, "")).collect()
    }

    #[test]
    fn what_a_secret_holds_for_registries_is_checked_where_it_stands() {
        let auth = |auth: &str| format!(r#"{{"auths": {{"r.example": {{"auth": "{auth}"}}}}}}"#);
        assert_eq!(said(0o600, &auth("dXNlcjpwdw==")), [""; 0]);
        for (value, expected) in [
            ("geheim", "is not a docker config.json: line 1, column 1"),
            (r#"{"auths": "geheim"}"#, "is not a docker config.json: line 1, column 18"),
            (&auth("geheim"), "the entry of \"r.example\" has an `auth` that is not base64 of user:password"),
        ] {
            let said = said(0o600, value).join("\n");
            assert!(said.starts_with("s.yaml:6:22: error: Secret default/regcred"), "{said}");
            assert!(said.ends_with(expected) && !said.contains("geheim"), "{said}");
        }
    }

    #[test]
    fn a_file_that_everybody_may_read_is_warned_of() {
        let expected = "s.yaml:6:22: warning: the file holds Secret default/regcred, and everybody on this machine may \
            read it (mode 644): chmod 600";
        assert_eq!(said(0o644, "{}"), [expected]);
        assert_eq!(said(0o640, "{}"), [""; 0]);
    }

    #[test]
    fn a_sealed_secret_for_registries_is_one_when_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (file, key) = (dir.path().join("s.yaml"), dir.path().join("seal.key"));
        let recipient = [seal::read_or_make(&key).unwrap().0.recipient()];
        let sealed = |value: &str| seal::armored(&seal::encrypt(value.as_bytes(), &recipient).unwrap());
        let objects = |value: &str| {
            let mut text = HEAD.replace("regcred", "regcred, annotations: {podkeep.io/sealed: age}");
            text.push_str("  .dockerconfigjson: |\n");
            text.extend(sealed(value).lines().map(|line| format!("    {line}\n")));
            fs::write(&file, &text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
            let manifest = decode(&file, text.as_bytes(), "n").unwrap();
            assert_eq!(manifest.warnings, [], "everybody may read it");
            manifest.objects
        };
        let pull = |object: &Object| PullSecrets(vec![(object.id.clone(), Some(Arc::new(object.clone())))]);
        let mut good = objects(r#"{"auths": {"r.example": {"username": "u"}}}"#);
        open_sealed(&mut good, &dir.path().join("none.key"));
        let lacking = pull(&good[0]).lacking();
        assert!(lacking.starts_with("; the key .dockerconfigjson of Secret default/regcred cannot be decrypted: this node has no key"), "{lacking}");
        open_sealed(&mut good, &key);
        assert_eq!((pull(&good[0]).lacking(), good[0].data.len()), (String::new(), 1));
        assert!(Credentials::of_secret(&good[0]).unwrap().is_some());
        let mut bad = objects("geheim");
        open_sealed(&mut bad, &key);
        let error = pull(&bad[0]).credentials().unwrap_err().to_string();
        assert_eq!(error, "Secret default/regcred is not a docker config.json: line 1, column 1");
    }

    #[test]
    fn a_pull_says_which_of_its_secrets_are_no_help() {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: team}, spec: {containers: [{name: c, image: i}], \
            imagePullSecrets: [{name: gone}]}}";
        let pod = &manifest::decode(Path::new("a"), text.as_bytes(), "n").unwrap().pods[0];
        let secrets = PullSecrets::of(pod, &Objects::default());
        assert_eq!(secrets.lacking(), "; Secret team/gone of imagePullSecrets is not there");
        let opaque = Object {
            id: ObjectId { kind: ObjectKind::Secret, namespace: "n".into(), name: "s".into() },
            type_: "Opaque".into(),
            data: Default::default(),
            binary: Default::default(),
            sealed: Vec::new(),
            place: (1, 1),
        };
        let secrets = PullSecrets(vec![(opaque.id.clone(), Some(Arc::new(opaque)))]);
        let said = "; Secret n/s has the type Opaque, which holds no credentials for registries";
        assert_eq!(secrets.lacking(), said);
    }
}
