//! One Pod's machine in a random but seeded world that replaces the node and nothing else.
//!
//! The world is hostile: images are missing, starts fail at every step, processes resist SIGKILL, the worker dies
//! between any two commands, and the machine is restarted. Where a law says how it was broken
//! on purpose, the break was found.
//!
//! `PODKEEP_LONG=1` runs many more worlds; `PODKEEP_SEED=n` replays one.

#[path = "simulation/carry_out.rs"]
mod carry_out;
#[path = "simulation/facts.rs"]
mod facts;
#[path = "simulation/laws.rs"]
mod laws;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/manifest.rs"]
mod manifest;
#[path = "simulation/processes.rs"]
mod processes;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/rehearsal.rs"]
mod rehearsal;
#[path = "simulation/successor.rs"]
mod successor;
#[path = "simulation/worker.rs"]
mod worker;
#[path = "simulation/world.rs"]
mod world;

use world::World;

#[test]
fn the_laws_hold_in_every_world() {
    if let Some(seed) = std::env::var("PODKEEP_SEED").ok().and_then(|seed| seed.parse().ok()) {
        World::new(seed).live();
        return;
    }
    let worlds = if std::env::var_os("PODKEEP_LONG").is_some() { 50_000 } else { 3600 };
    let mut steps = 0;
    for seed in 0..worlds {
        match std::panic::catch_unwind(|| World::new(seed).live()) {
            Ok(more) => steps += more,
            Err(_) => panic!("a law was broken: replay with PODKEEP_SEED={seed}"),
        }
    }
    println!("{worlds} worlds, {steps} steps");
}
