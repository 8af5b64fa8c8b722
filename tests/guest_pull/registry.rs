//! Debian's `docker-registry` in the guest, and images that skopeo puts into it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use super::certificates;
use super::harness::site::{copy, sample_image};

/// `user` with the password `sesame`, for the registry's htpasswd.
const HTPASSWD: &str = "user:$2b$04$VjdV23IvMNNiN38DfYtwTu8fcZkQXGGD0uOmPX42viYzrkX2T0pU2\n";
/// Base64 of `user:sesame`, and of `user:wrong`.
pub const RIGHT: &str = "dXNlcjpzZXNhbWU=";
pub const WRONG: &str = "dXNlcjp3cm9uZw==";

/// A registry on this machine.
pub struct Registry {
    pub dir: tempfile::TempDir,
    pub port: u16,
    server: Option<Child>,
    /// It lets nobody in but `user`.
    is_locked: bool,
    /// It speaks TLS; its authority is `ca.pem` in its folder.
    has_tls: bool,
}

impl Registry {
    /// Empty, and not started.
    pub fn new() -> Registry {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        // Free a moment ago: the registry cannot be given an open socket.
        let port = listener(0).local_addr().unwrap().port();
        Registry { dir, port, server: None, is_locked: false, has_tls: false }
    }

    /// One that runs, lets in nobody but `user`, and has busybox as `busybox:1`.
    pub fn locked() -> Registry {
        let mut registry = Registry::new();
        registry.is_locked = true;
        registry.start_with_busybox();
        registry
    }

    /// One that runs and has busybox as `busybox:1`.
    pub fn with_busybox() -> Registry {
        let mut registry = Registry::new();
        registry.start_with_busybox();
        registry
    }

    /// skopeo puts it into the first one; the others have a copy of what lies there then.
    fn start_with_busybox(&mut self) {
        static FIRST: OnceLock<Registry> = OnceLock::new();
        let first = FIRST.get_or_init(|| {
            let mut first = Registry::new();
            first.start();
            first.push("busybox", "busybox:1");
            first.stop();
            first
        });
        copy(&first.data(), &self.data());
        self.start();
    }

    /// `127.0.0.1:port`
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.name())
    }

    /// The folder of its images.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn start(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let mut config = serde_json::json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": self.data()}},
            "http": {"addr": self.name()},
        });
        if self.has_tls {
            config["http"]["tls"] =
                serde_json::json!({"certificate": path("leaf.pem"), "key": path("leaf.key")});
        }
        if self.is_locked {
            fs::write(path("htpasswd"), HTPASSWD).unwrap();
            config["auth"] = serde_json::json!({"htpasswd": {"realm": "test", "path": path("htpasswd")}});
        }
        fs::write(path("config.yml"), config.to_string()).unwrap();
        let requests = File::options().append(true).create(true).open(self.requests_file()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path("config.yml")).stdin(Stdio::null());
        let mut server = command.stdout(requests).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let is_up = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(is_up, "docker-registry has ended");
        // It would wait if nobody read on.
        thread::spawn(move || lines.for_each(drop));
        self.server = Some(server);
    }

    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Starts again, speaks TLS now, and lets in nobody but `user`.
    pub fn lock_with_tls(&mut self) {
        self.stop();
        (self.is_locked, self.has_tls) = (true, true);
        certificates::make(self.dir.path(), "20200101000000Z", "20991231235959Z");
        self.start();
    }

    fn requests_file(&self) -> PathBuf {
        self.dir.path().join("requests")
    }

    /// `GET /v2/busybox/manifests/1`, in their order; those that put images in are forgotten.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.requests_file()).unwrap_or_default();
        let asked =
            log.lines().filter_map(|line| line.split('"').nth(1)).filter(|asked| asked.contains("/v2/"));
        asked.filter_map(|asked| asked.rsplit_once(' ')).map(|(asked, _)| asked.to_owned()).collect()
    }

    pub fn forget_requests(&self) {
        File::options().write(true).open(self.requests_file()).unwrap().set_len(0).unwrap();
    }

    /// Puts a sample image in, and forgets that.
    pub fn push(&self, sample: &str, name: &str) {
        self.copy(&format!("oci-archive:{}", sample_image(sample).display()), name);
    }

    /// Puts what a layout calls `name` in, with all that an index names, and forgets that.
    pub fn push_from(&self, layout: &Path, name: &str) {
        self.copy(&format!("oci:{}:{name}", layout.display()), name);
    }

    fn copy(&self, source: &str, name: &str) {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--all"]);
        if self.is_locked {
            command.arg("--dest-creds=user:sesame");
        }
        command.arg("--dest-tls-verify=false").arg(source).arg(format!("docker://{}", self.reference(name)));
        certificates::run(&mut command);
        self.forget_requests();
    }

    /// A Secret `regcred` that holds this for the registry.
    pub fn secret(&self, auth: &str) -> String {
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regcred"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": docker_config(&self.name(), auth)},
        });
        secret.to_string()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A docker `config.json` with one entry.
pub fn docker_config(key: &str, auth: &str) -> String {
    serde_json::json!({"auths": {key: {"auth": auth}}}).to_string()
}

pub fn listener(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap()
}
