//! HTTP as a client: for registries, and for whatever else is fetched from a URL.
//!
//! A server may be slow but not silent: connecting and every single read and write have a time limit, the whole has none, but for a floor on its pace. What it
//! sends is kept only up to a limit that the caller names. What is secret goes to the host that was asked and to nobody that it
//! redirects to.
#![forbid(unsafe_code)]

mod cancel;
mod client;
mod connector;
mod error;
mod headers;
mod incoming;
mod names;
mod pace;
mod pool;
mod proxy;
mod request;
mod response;
mod roots;
mod socket;
mod tls;
mod url;

pub use cancel::Cancel;
pub use client::{Client, Options};
pub use error::{Cause, Error, TlsFault};
pub use headers::{Headers, InvalidHeader};
pub use incoming::{Head, Incoming, Malformed};
pub use names::{NameError, addresses};
pub use request::{Method, Request, To};
pub use response::{Body, Response};
pub use roots::{Identity, RootsError};
pub use tls::trust_anybody;
pub use url::{InvalidUrl, Url};
