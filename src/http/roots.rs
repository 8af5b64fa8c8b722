//! Whom a server's certificate must come from: the system's authorities, and files that are named.
//!
//! No list of authorities is part of the binary: one that runs for years would trust who is no longer trusted, and not who is new.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

/// Where distributions keep all authorities in one file, the same places in the same order as Go's `crypto/x509` has.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A certificate of ours, for a server that asks who we are. Both files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A file of certificates that was named and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("read the certificates of {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not valid PEM", path = path.display())]
    Pem { path: PathBuf, source: Box<ureq::Error> },
    #[error("{path} holds no {what} in PEM", path = path.display())]
    Empty { path: PathBuf, what: &'static str },
}

/// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` instead, where they are set), and those of `files`.
///
/// None of the system's is no error here: who connects to a server of theirs is told then.
pub(super) fn authorities(files: &[PathBuf]) -> Result<Vec<Certificate<'static>>, RootsError> {
    let mut authorities = system();
    for path in files {
        let found = certificates(path)?;
        if found.is_empty() {
            return Err(RootsError::Empty { path: path.clone(), what: "certificate" });
        }
        authorities.extend(found);
    }
    Ok(authorities)
}

fn system() -> Vec<Certificate<'static>> {
    let named = |variable| env::var_os(variable).filter(|value| !value.is_empty());
    let (file, dirs) = (named("SSL_CERT_FILE"), named("SSL_CERT_DIR"));
    if file.is_none() && dirs.is_none() {
        let bundle = BUNDLES.iter().find_map(|path| certificates(Path::new(path)).ok());
        return bundle.unwrap_or_default();
    }
    let mut found = file.and_then(|file| certificates(Path::new(&file)).ok()).unwrap_or_default();
    for dir in dirs.iter().flat_map(env::split_paths) {
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(files.filter_map(|file| certificates(&file.path()).ok()).flatten());
    }
    found
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, RootsError> {
    let certificate = |item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    Ok(items(path)?.into_iter().filter_map(certificate).collect())
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>, RootsError> {
    let bytes = fs::read(path).map_err(|source| RootsError::Read { path: path.to_owned(), source })?;
    let pem = |source| RootsError::Pem { path: path.to_owned(), source: Box::new(source) };
    parse_pem(&bytes).collect::<Result<_, _>>().map_err(pem)
}

/// What proves who we are.
pub(super) fn client_certificate(identity: &Identity) -> Result<ClientCert, RootsError> {
    let chain = certificates(&identity.certificate)?;
    let empty = |path: &Path, what| RootsError::Empty { path: path.to_owned(), what };
    if chain.is_empty() {
        return Err(empty(&identity.certificate, "certificate"));
    }
    let key = |item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    };
    let key: PrivateKey<'static> =
        items(&identity.key)?.into_iter().find_map(key).ok_or_else(|| empty(&identity.key, "private key"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
