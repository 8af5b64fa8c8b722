//! TLS as a client: whom it trusts, and who it says we are.

use std::sync::{Arc, OnceLock};

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned, WantsVerifier,
};

use super::client::Options;
use super::error::{Cause, TlsFault, Waits};
use super::roots::{self, RootsError};
use super::socket::Stream;

type Proof = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// How the servers of one client are trusted.
#[derive(Debug)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    authorities: Vec<CertificateDer<'static>>,
    proof: Option<Proof>,
    insecure: bool,
    waits: Waits,
    /// Made when it is first needed: who speaks plain HTTP needs no list of the system's authorities.
    trust: OnceLock<Result<Trust, Error>>,
}

#[derive(Debug)]
struct Trust {
    config: Arc<ClientConfig>,
    has_authorities: bool,
}

impl Tls {
    /// # Errors
    /// When a file that the options name cannot be used.
    pub(super) fn new(options: &Options, waits: Waits) -> Result<Tls, RootsError> {
        let provider = Arc::new(ring::default_provider());
        let proof = options.identity.as_ref().map(|identity| {
            let (chain, key) = roots::proof(identity)?;
            let (certificate, path) = (identity.certificate.clone(), identity.key.clone());
            let unfit = |source| RootsError::Identity { certificate, key: path, source };
            provider.key_provider.load_private_key(key.clone_key()).map_err(unfit)?;
            Ok((chain, key))
        });
        Ok(Tls {
            authorities: roots::named(&options.ca)?,
            proof: proof.transpose()?,
            insecure: options.insecure,
            waits,
            provider,
            trust: OnceLock::new(),
        })
    }

    /// TLS over `stream`, to a server that proves to be `host`.
    pub(super) fn over(&self, mut stream: Box<dyn Stream>, host: &str) -> Result<Box<dyn Stream>, Cause> {
        let fault = |error: &Error| Cause::Tls(TlsFault::of(error));
        let trust = self.trust.get_or_init(|| self.trust()).as_ref().map_err(fault)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Cause::Tls(TlsFault::Other(format!("no certificate can be for {host:?}"))))?;
        let mut connection =
            ClientConnection::new(Arc::clone(&trust.config), name).map_err(|error| fault(&error))?;
        match connection.complete_io(&mut stream).map_err(|error| Cause::while_connecting(error, self.waits))
        {
            Ok(_) => Ok(Box::new(StreamOwned::new(connection, stream))),
            Err(Cause::Tls(TlsFault::UnknownAuthority)) if !trust.has_authorities => {
                Err(Cause::Tls(TlsFault::NoAuthorities))
            }
            Err(cause) => Err(cause),
        }
    }

    fn trust(&self) -> Result<Trust, Error> {
        let mut has_authorities = true;
        let builder = builder(&self.provider)?;
        let builder = if self.insecure {
            of_anybody(builder)
        } else {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots::of_system());
            store.add_parsable_certificates(self.authorities.iter().cloned());
            has_authorities = !store.is_empty();
            builder.with_root_certificates(store)
        };
        let config = match &self.proof {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        Ok(Trust { config: Arc::new(config), has_authorities })
    }
}

fn builder(provider: &Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(rustls::ALL_VERSIONS)
}

fn of_anybody(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody))
}

/// TLS to a server whose certificate nobody checks, such as that of a container that is asked how it is.
///
/// # Errors
/// When no certificate can be for that host.
pub fn trust_anybody(host: &str) -> Result<ClientConnection, Error> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, Error>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let builder = of_anybody(builder(&Arc::new(ring::default_provider()))?);
        Ok(Arc::new(builder.with_no_client_auth()))
    });
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Error::General(format!("{host:?} is no name of a server: {error}")))?;
    ClientConnection::new(Arc::clone(config.as_ref().map_err(Error::clone)?), name)
}

/// Trusts every server: somebody wrote `skip_verify`, or only asks how it is.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme::*;
        vec![
            ED25519,
            ECDSA_NISTP256_SHA256,
            ECDSA_NISTP384_SHA384,
            ECDSA_NISTP521_SHA512,
            RSA_PSS_SHA256,
            RSA_PSS_SHA384,
            RSA_PSS_SHA512,
            RSA_PKCS1_SHA256,
            RSA_PKCS1_SHA384,
            RSA_PKCS1_SHA512,
            RSA_PKCS1_SHA1,
        ]
    }
}
