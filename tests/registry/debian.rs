//! Debian's `docker-registry`, over TLS with a certificate of the test's own authority; images pushed by skopeo.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use podkeep::http::{Cause, TlsFault};
use podkeep::image::{Failure, Store};
use serde_json::json;

use super::builder::{Layer, World, architecture, gzip};
use super::certificates;
use super::memory::{MOST, peak_of};
use super::site::{INDEX, Site, noise};

/// `user` with the password `pw`, for the registry's htpasswd.
const HTPASSWD: &str = "user:$2b$04$WwY0/rL/jPP3AGvwVmDdfO3UlOT/HZtte.fuXaOJBp226d1fdVd1S\n";

/// The registry and its authority; ends with the test.
struct Registry {
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start() -> Registry {
        Registry::with_certificate("20200101000000Z", "20991231235959Z")
    }

    /// With a certificate that is valid from and until these times.
    fn with_certificate(from: &str, until: &str) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        certificates::make(dir.path(), from, until);
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        // Free a moment ago: the registry cannot be given an open socket.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": path("data")}},
            "http": {"addr": format!("127.0.0.1:{port}"), "tls": {"certificate": path("leaf.pem"), "key": path("leaf.key")}},
            "auth": {"htpasswd": {"realm": "test", "path": path("htpasswd")}},
        });
        fs::write(dir.path().join("config.yml"), config.to_string()).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is there (scripts/install images)");
        await_listening(&mut child);
        Registry { dir, child, port }
    }

    fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// A site that trusts the authority and has the credentials.
    fn site(&self) -> Site {
        let mut site = Site::new();
        self.trust(&site, &format!("127.0.0.1:{}", self.port));
        site.log_in(&format!("127.0.0.1:{}", self.port), "user", "pw");
        site
    }

    fn trust(&self, site: &Site, name: &str) {
        let ca = self.dir.path().join("ca.pem");
        site.hosts(name, &format!("ca = \"{}\"\n", ca.display()));
    }

    /// Copies an image of the layout `layout` to the registry with skopeo.
    fn push(&self, layout: &Path, name: &str, options: &[&str]) {
        let certificates = self.dir.path().join("docker");
        fs::create_dir_all(&certificates).unwrap();
        fs::copy(self.dir.path().join("ca.pem"), certificates.join("ca.crt")).unwrap();
        certificates::run(
            Command::new("skopeo")
                .args(["--insecure-policy", "copy", "--quiet", "--dest-creds", "user:pw"])
                .arg("--dest-cert-dir")
                .arg(certificates)
                .args(options)
                .arg(format!("oci:{}:{name}", layout.display()))
                .arg(format!("docker://{}", self.reference(name))),
        );
    }
}

fn await_listening(child: &mut Child) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let is_up = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
    assert!(is_up, "docker-registry has ended");
    // It would wait if nobody read on.
    thread::spawn(move || lines.for_each(drop));
}

/// A layout with an image of twenty layers, and an index of three platforms.
fn layout(world: &World) -> std::path::PathBuf {
    let mut layout = world.layout("source");
    let layer = |text: &str| {
        let plain = Layer::new().file("number", text).finish();
        (gzip(&plain), plain)
    };
    let twenty: Vec<_> = (0..20).map(|number| layer(&number.to_string())).collect();
    let manifest = layout.image(&twenty, json!({"Cmd": ["sh"]}));
    layout.name("twenty", manifest);
    let platform = |mut descriptor: serde_json::Value, architecture: &str| {
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let wrong = platform(layout.image_for(&[layer("wrong")], json!({}), "s390x"), "s390x");
    let mut newer = platform(layout.image(&[layer("newer")], json!({})), architecture());
    newer["platform"]["variant"] = json!("v99");
    let right = platform(layout.image(&[layer("right")], json!({})), architecture());
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [wrong, newer, right]});
    let index = layout.typed_blob(INDEX, index.to_string().as_bytes());
    layout.name("several", index);
    layout.write()
}

#[test]
fn images_come_from_a_real_registry_over_tls_with_a_password() {
    let registry = Registry::start();
    let world = World::new();
    let layout = layout(&world);
    registry.push(&layout, "twenty", &[]);
    registry.push(&layout, "several", &["--all"]);
    let site = registry.site();
    let twenty = site.pull(&registry.reference("twenty")).unwrap();
    assert_eq!((twenty.layers.len(), site.read(&twenty, "/number").as_str()), (20, "19"));
    let several = site.pull(&registry.reference("several")).unwrap();
    assert_eq!(site.read(&several, "/number"), "right");
    assert_eq!(site.pull(&registry.reference("twenty")).unwrap(), twenty);
}

/// As docker has it: certificates in a folder of the registry's name, and a file of credentials.
#[test]
fn a_person_pulls_with_dockers_folder_of_certificates_and_its_credentials() {
    let registry = Registry::start();
    let world = World::new();
    let layout = layout(&world);
    registry.push(&layout, "twenty", &[]);
    registry.push(&layout, "several", &["--all"]);
    let site = Site::new();
    let name = format!("127.0.0.1:{}", registry.port);
    let folder = site.path("certs.d").join(&name);
    fs::create_dir(&folder).unwrap();
    fs::copy(registry.dir.path().join("ca.pem"), folder.join("owner.crt")).unwrap();
    let credentials = json!({"auths": {name: {"auth": "dXNlcjpwdw=="}}}).to_string();
    fs::write(site.path("docker.json"), credentials).unwrap();
    let images = ["twenty", "several"].map(|name| registry.reference(name));
    let mut command = super::command::podkeep(&site);
    command.arg("--quiet").arg("--docker-config").arg(site.path("docker.json"));
    let output = command.args(&images).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let store = Store::open(&site.path("root/images")).unwrap();
    let numbers = images.map(|image| {
        let image = store.find(&image.parse().unwrap()).unwrap().unwrap();
        store.read_file(&image, "/number", 64).unwrap().unwrap()
    });
    assert_eq!(numbers, [b"19".to_vec(), b"right".to_vec()]);
}

/// What nodes pull in earnest. No compression makes it shorter, so that all of its bytes come over TLS.
#[test]
fn an_image_of_252_megabytes_comes_over_tls_with_a_password_and_takes_little_memory() {
    const LAYER: usize = 80 << 20;
    let registry = Registry::start();
    let world = World::new();
    let mut layout = world.layout("source");
    let layers: Vec<_> = (1..=3).map(|seed| stored_layer(seed, LAYER)).collect();
    let manifest = layout.image(&layers, json!({"Cmd": ["sh"]}));
    drop(layers);
    layout.name("large", manifest);
    registry.push(&layout.write(), "large", &[]);
    let site = Site::new();
    let name = format!("127.0.0.1:{}", registry.port);
    registry.trust(&site, &name);
    let credentials = json!({"auths": {name: {"auth": "dXNlcjpwdw=="}}}).to_string();
    fs::write(site.path("docker.json"), credentials).unwrap();
    let reference = registry.reference("large");
    let mut pull = super::command::podkeep(&site);
    pull.arg("--quiet").arg("--docker-config").arg(site.path("docker.json")).arg(&reference);
    let peak = peak_of(&pull);
    assert!(peak < MOST, "{peak} bytes");
    let store = Store::open(&site.path("root/images")).unwrap();
    let image = store.find(&reference.parse().unwrap()).unwrap().unwrap();
    let sizes = image.layers.iter().map(|layer| {
        let files = fs::read_dir(store.layers_dir().join(layer)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [LAYER as u64; 3]);
}

/// A layer of one file, as gzip stores what it cannot compress, and as it is.
fn stored_layer(seed: u64, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let content = noise(seed, 1 << 20).repeat(bytes >> 20);
    let plain = Layer::new().file("noise", &content).finish();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&plain).unwrap();
    (gzip.finish().unwrap(), plain)
}

#[test]
fn dockers_own_kind_of_manifest_gives_the_same_image() {
    let registry = Registry::start();
    let world = World::new();
    registry.push(&layout(&world), "twenty", &["--format", "v2s2"]);
    let site = registry.site();
    let image = site.pull(&registry.reference("twenty")).unwrap();
    assert_eq!((image.layers.len(), site.read(&image, "/number").as_str()), (20, "19"));
}

#[test]
fn what_the_registry_does_not_have_is_said_so() {
    let registry = Registry::start();
    let failure = registry.site().refused(&registry.reference("nothing"));
    assert!(matches!(failure, Failure::NotFound { .. }), "{failure}");
}

#[test]
fn no_password_and_a_wrong_one_are_refused() {
    let registry = Registry::start();
    let mut site = registry.site();
    site.log_in(&format!("127.0.0.1:{}", registry.port), "user", "wrong");
    let failure = site.refused(&registry.reference("web"));
    assert!(failure.to_string().contains("check the credentials"), "{failure}");
}

fn tls_fault(failure: &Failure) -> &TlsFault {
    let Failure::Unreachable(error) = failure else { panic!("{failure}") };
    let Cause::Tls(fault) = &error.cause else { panic!("{failure}") };
    fault
}

#[test]
fn an_authority_that_is_not_known_is_not_trusted_unless_nobody_is_to_be_checked() {
    let registry = Registry::start();
    let reference = registry.reference("web");
    let site = Site::new();
    let failure = site.refused(&reference);
    assert!(matches!(tls_fault(&failure), TlsFault::UnknownAuthority | TlsFault::NoAuthorities), "{failure}");
    site.hosts(&format!("127.0.0.1:{}", registry.port), "skip_verify = true\n");
    assert!(matches!(site.refused(&reference), Failure::Denied { .. }));
}

#[test]
fn a_certificate_of_the_future_hints_at_the_clock() {
    let registry = Registry::with_certificate("20980101000000Z", "20991231235959Z");
    let failure = registry.site().refused(&registry.reference("web"));
    assert!(matches!(tls_fault(&failure), TlsFault::NotYetValid { .. }));
    assert!(failure.to_string().contains("set the clock"), "{failure}");
}

#[test]
fn an_expired_certificate_is_said_to_be_so() {
    let registry = Registry::with_certificate("20200101000000Z", "20200102000000Z");
    let failure = registry.site().refused(&registry.reference("web"));
    assert!(matches!(tls_fault(&failure), TlsFault::Expired { .. }), "{failure}");
}

/// A proxy that leads everything to one port of this machine; gives what it was asked for.
fn proxy(port: u16) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let (tell, asked) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tell) = (stream.unwrap(), tell.clone());
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap() > 2 {}
                let _ = tell.send(head.lines().next().unwrap().to_owned());
                stream.write_all(b"HTTP/1.1 200 Go on\r\n\r\n").unwrap();
                connect(reader.into_inner(), TcpStream::connect(("127.0.0.1", port)).unwrap());
            });
        }
    });
    (own, asked)
}

fn connect(a: TcpStream, b: TcpStream) {
    let one_way = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    let (a2, b2) = (a.try_clone().unwrap(), b.try_clone().unwrap());
    thread::spawn(move || one_way(a2, b2));
    one_way(b, a);
}

#[test]
fn a_proxy_of_the_environment_is_used_and_looks_the_name_up_itself() {
    let registry = Registry::start();
    let world = World::new();
    registry.push(&layout(&world), "twenty", &[]);
    let (port, asked) = proxy(registry.port);
    let site = Site::new();
    registry.trust(&site, "registry.test");
    fs::create_dir_all(site.path("root")).unwrap();
    let credentials = r#"{"auths":{"registry.test":{"auth":"dXNlcjpwdw=="}}}"#;
    fs::write(site.path("root/config.json"), credentials).unwrap();
    let output = super::command::podkeep(&site)
        .env("https_proxy", format!("http://127.0.0.1:{port}"))
        .env_remove("HTTPS_PROXY")
        .arg("registry.test/twenty")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(asked.recv().unwrap().starts_with("CONNECT registry.test:443 "));
}
