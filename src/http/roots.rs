//! Whom a server's certificate must come from: the system's authorities, and files that are named.
//!
//! No list of authorities is part of the binary: one that runs for years would trust who is no longer trusted, and not who is new.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
    Pem { path: PathBuf, source: pem::Error },
    #[error("{path} holds no {what} in PEM", path = path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error("{certificate} and {key} cannot prove who we are: {source}", certificate = certificate.display(), key = key.display())]
    Identity { certificate: PathBuf, key: PathBuf, source: rustls::Error },
}

/// The authorities of `files`.
///
/// # Errors
/// When one of them has none.
pub(super) fn named(files: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let mut authorities = Vec::new();
    for path in files {
        let found = certificates(path)?;
        if found.is_empty() {
            return Err(RootsError::Empty { path: path.clone(), what: "certificate" });
        }
        authorities.extend(found);
    }
    Ok(authorities)
}

/// The system's authorities; those of `SSL_CERT_FILE` and `SSL_CERT_DIR` instead, where they are set.
///
/// None is no error here: who connects to a server of theirs is told then.
pub(super) fn of_system() -> Vec<CertificateDer<'static>> {
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

/// What proves who we are.
pub(super) fn proof(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), RootsError> {
    let chain = certificates(&identity.certificate)?;
    if chain.is_empty() {
        return Err(RootsError::Empty { path: identity.certificate.clone(), what: "certificate" });
    }
    let path = identity.key.clone();
    let key = match PrivateKeyDer::from_pem_slice(&read(&path)?) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => return Err(RootsError::Empty { path, what: "private key" }),
        Err(source) => return Err(RootsError::Pem { path, source }),
    };
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let bytes = read(path)?;
    let pem = |source| RootsError::Pem { path: path.to_owned(), source };
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(pem)
}

fn read(path: &Path) -> Result<Vec<u8>, RootsError> {
    fs::read(path).map_err(|source| RootsError::Read { path: path.to_owned(), source })
}
