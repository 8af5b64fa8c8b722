//! Images from registries: Debian's `docker-registry` over TLS, and registries of the tests' own that break, lie and stall.
//!
//! Runs as root, as unpacking does, on loopback and in temporary folders only.

#[path = "registry/at_once.rs"]
mod at_once;
#[path = "registry/authentication.rs"]
mod authentication;
#[path = "registry/breaks.rs"]
mod breaks;
#[path = "images/builder.rs"]
#[allow(dead_code)]
mod builder;
#[path = "registry/certificates.rs"]
mod certificates;
#[path = "registry/command.rs"]
mod command;
#[path = "registry/debian.rs"]
mod debian;
#[path = "registry/full_disk.rs"]
mod full_disk;
#[path = "registry/gate.rs"]
mod gate;
#[path = "registry/lies.rs"]
mod lies;
#[path = "registry/memory.rs"]
mod memory;
#[path = "registry/server.rs"]
mod server;
#[path = "registry/site.rs"]
mod site;
#[path = "registry/spares.rs"]
mod spares;
#[path = "images/terminal.rs"]
mod terminal;
#[path = "registry/way.rs"]
mod way;
