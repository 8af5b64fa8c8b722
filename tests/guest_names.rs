//! Names of registries, looked up by the static binary on a machine with a hosts file, a DNS server and a foreign `nsswitch.conf`.
//!
//! Run with `scripts/vm test guest_names`; anywhere else these tests fail.
//! Guest: --root debian

mod harness;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};
use std::{fs, thread};

use harness::site::sample_image;

/// Where the test's DNS server listens.
const SERVER: &str = "127.0.0.53";

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's `docker-registry` on port 5000, with busybox in it.
fn start_registry(dir: &std::path::Path) -> Registry {
    let config = format!(
        r#"{{"version":"0.1","http":{{"addr":"127.0.0.1:5000"}},"storage":{{"filesystem":{{"rootdirectory":"{}"}}}}}}"#,
        dir.join("data").display()
    );
    fs::write(dir.join("config.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(dir.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut registry = Registry(command.spawn().unwrap());
    let mut lines = BufReader::new(registry.0.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on")));
    thread::spawn(move || lines.for_each(drop));
    let pushed = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
        .arg(format!("oci-archive:{}", sample_image("busybox").display()))
        .arg("docker://127.0.0.1:5000/busybox:1")
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    registry
}

/// Knows `dns.site` and nothing else.
fn serve_names() {
    let socket = UdpSocket::bind((SERVER, 53)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let is_known = question[12..].starts_with(b"\x03dns\x04site\x00");
            let is_v4 = question[length - 3] == 1;
            let mut answer = question.to_vec();
            answer[2..4].copy_from_slice(&[0x81, if is_known { 0x80 } else { 0x83 }]);
            if is_known && is_v4 {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
}

fn pull(dir: &std::path::Path, host: &str) -> Output {
    let folder = dir.join("certs.d").join(format!("{host}:5000"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("hosts.toml"), format!("server = \"http://{host}:5000\"\n")).unwrap();
    let mut command = Command::new(std::env::var_os("PODKEEP_BIN").expect("scripts/vm sets it"));
    command.args(["pull", "--quiet", "--root-dir"]).arg(dir.join("root"));
    command.arg("--hosts-dir").arg(dir.join("certs.d")).arg(format!("{host}:5000/busybox:1"));
    command.output().unwrap()
}

#[test]
fn the_static_binary_finds_registries_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let _registry = start_registry(dir.path());
    serve_names();
    // What glibc would load modules for.
    fs::write("/etc/nsswitch.conf", "hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\n")
        .unwrap();
    fs::write("/etc/hosts", "127.0.0.1 localhost\n127.0.0.1 hosts.site\n").unwrap();
    fs::write("/etc/resolv.conf", format!("nameserver {SERVER}\nsearch below.site\n")).unwrap();
    for host in ["hosts.site", "dns.site", "localhost"] {
        let output = pull(dir.path(), host);
        assert!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8(pull(dir.path(), "no.site").stderr).unwrap();
    assert!(said.ends_with("there is no host \"no.site\"\n"), "{said}");
}
