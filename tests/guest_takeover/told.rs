//! Containers that do what a test tells them, and say so where the test can see it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::harness::manifest::ShellPod;
use crate::harness::{Site, wait_until};

/// A folder of the host that containers see as `/told`.
pub struct Told {
    dir: PathBuf,
}

impl Told {
    pub fn new(site: &Site) -> Told {
        let dir = site.base().join("told");
        fs::create_dir_all(&dir).unwrap();
        Told { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A Pod of one container that sees the folder. `policy`: its restartPolicy.
    pub fn pod(&self, name: &str, policy: &str, script: &str) -> String {
        let spec = format!(
            "restartPolicy: {policy}\nterminationGracePeriodSeconds: 1\n\
             volumes:\n- {{name: told, hostPath: {{path: {}}}}}",
            self.dir.display()
        );
        let container = "volumeMounts:\n- {name: told, mountPath: /told}";
        ShellPod { name, script, spec: &spec, container }.yaml()
    }

    /// A Pod that does each line it is told, in turn, and marks that it is done: see [`Told::tell`].
    pub fn obedient_pod(&self, name: &str, policy: &str) -> String {
        let pipe = self.path(name);
        if !pipe.exists() {
            mkfifoat(CWD, &pipe, Mode::RWXU).unwrap();
        }
        // Open for writing too, so that a test that has said its word ends nothing by hanging up.
        self.pod(
            name,
            policy,
            &format!("exec 3<>/told/{name}; while read -r line <&3; do eval \"$line\"; done"),
        )
    }

    /// Tells an obedient Pod what to do, whether or not anyone else is there to see it.
    pub fn tell(&self, name: &str, line: &str) {
        let mut pipe = self.pipe(name);
        pipe.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Tells it and waits until it is done.
    pub fn tell_and_wait(&self, name: &str, line: &str) {
        let mark = format!("{name}.done");
        self.tell(name, &format!("{line}; touch /told/{mark}"));
        let mark = self.path(&mark);
        wait_until("the container has done what it was told", || fs::remove_file(&mark).ok());
    }

    /// Fails where no container has it open, instead of waiting for one.
    fn pipe(&self, name: &str) -> File {
        let open =
            || OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(self.path(name)).ok();
        wait_until("the container listens", open)
    }
}

/// Lines of the container `main` in the log folder of a Pod: `(stream, text)`, over all of its runs. Panics at a line that
/// is not whole.
pub fn lines(log_folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(log_folder.join("main")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let whole = text.lines().map(|record| {
        let words: Vec<&str> = record.splitn(4, ' ').collect();
        assert_eq!(words.get(2), Some(&"F"), "{record}");
        (words[1].to_owned(), words[3].to_owned())
    });
    whole.collect()
}

/// The log folders of a Pod: one for each uid that it had.
pub fn log_folders(site: &Site, pod: &str) -> Vec<PathBuf> {
    let prefix = format!("default_{pod}-{}_", crate::harness::NODE_NAME);
    let entries = fs::read_dir(site.logs()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect();
    folders.sort();
    folders
}

/// Its only log folder.
pub fn log_folder(site: &Site, pod: &str) -> PathBuf {
    let folders = log_folders(site, pod);
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}
