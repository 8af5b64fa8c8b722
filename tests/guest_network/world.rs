//! The world around the guest: a network namespace at the other end of a link of the guest's own.

use std::net::SocketAddr;
use std::ops::Deref;

use super::web::asked_at;
use crate::host;
use crate::namespace::Namespace;

/// There until it is dropped.
pub struct World(Namespace);

impl World {
    pub fn new() -> World {
        World(host::world(&Namespace::own()))
    }

    /// What a Pod's server says to who asks from there.
    pub fn asks(&self, at: SocketAddr) -> Option<String> {
        self.inside(|| asked_at(at))
    }
}

impl Deref for World {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.0
    }
}

impl Drop for World {
    fn drop(&mut self) {
        Namespace::own().ip("link del uplink");
    }
}
