//! Certificates of the tests' own authority, made by openssl.

use std::fs;
use std::path::Path;
use std::process::Command;

/// An authority `ca.pem`, and a certificate of it, `leaf.pem` with `leaf.key`, for 127.0.0.1 and `registry.test`, that is valid from and
/// until these times.
pub fn make(dir: &Path, from: &str, until: &str) {
    let path = |name: &str| dir.join(name).display().to_string();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let request = |subject: &str, key_file: &str, out: &str, more: &[&str]| {
        let mut command = Command::new("openssl");
        command.arg("req").args(key).args(["-subj", subject, "-keyout", &path(key_file), "-out", &path(out)]);
        run(command.args(more));
    };
    request("/CN=authority of the test", "ca.key", "ca.pem", &["-x509", "-days", "3650"]);
    request("/CN=registry", "leaf.key", "leaf.csr", &[]);
    let config = format!(
        "[ca]\ndefault_ca = d\n[d]\ndatabase = {}\nnew_certs_dir = {}\ncertificate = {}\nprivate_key = {}\n\
         rand_serial = yes\ndefault_md = sha256\npolicy = p\nx509_extensions = e\n[p]\ncommonName = supplied\n\
         [e]\nsubjectAltName = IP:127.0.0.1, DNS:registry.test\nbasicConstraints = CA:FALSE\n",
        path("index.txt"),
        dir.display(),
        path("ca.pem"),
        path("ca.key")
    );
    fs::write(dir.join("openssl.cnf"), config).unwrap();
    fs::write(dir.join("index.txt"), "").unwrap();
    run(Command::new("openssl")
        .args(["ca", "-batch", "-notext", "-config", &path("openssl.cnf"), "-in", &path("leaf.csr")])
        .args(["-out", &path("leaf.pem"), "-startdate", from, "-enddate", until]));
}

/// Runs a program that has to succeed.
pub fn run(command: &mut Command) {
    let output = command.output().expect("the program is there (scripts/install images)");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
