//! Sealed Secrets: values that only this node can read, as age files (age-encryption.org/v1) for X25519 recipients.
//!
//! Written here rather than taken from the crate `age` for what that costs ([ADR 19](../../docs/adr/019-own-age.md)). Nothing of
//! it is an own invention: the primitives are ring's and curve25519-dalek's, the format is checked against the test vectors of
//! age's authors and against the tool itself.
#![forbid(unsafe_code)]

mod age;
mod armor;
mod bech32;
mod cipher;
mod header;
mod key_file;
mod payload;
mod x25519;

pub use age::{NotOpened, decrypt, encrypt, file};
pub use armor::armored;
pub use header::Malformed;
pub use key_file::{KeyError, Keys, read, read_or_make};
pub use x25519::{BadRecipient, Identity, Recipient};
