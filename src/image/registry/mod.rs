//! Registries, after the OCI distribution specification 1.1: manifests and blobs of one repository, from wherever they can be had.
//!
//! [`hosts`] says which servers stand for a registry, [`endpoint`] speaks to one of them, [`auth`] and [`credentials`] prove who asks,
//! [`repository`] goes from one server to the next, and [`blob`] reads a blob, whatever breaks in between.
//! Nothing here is trusted before its digest and size are checked.

mod auth;
mod blob;
mod challenge;
mod credential_helper;
mod credentials;
mod endpoint;
mod failure;
mod hosts;
mod limited;
mod repository;
mod retry;

pub use credentials::{Credential, Credentials, InvalidCredentials};
pub use failure::{Failure, Lie};
pub use hosts::{Hosts, InvalidHosts};

pub(super) use blob::BlobReader;
pub(super) use repository::Repository;
pub use retry::Wait;
