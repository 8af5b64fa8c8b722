//! Cuts the power of a guest that runs podkeep, again and again, and lets each boot look for what the last cut damaged.
//!
//! Run with `scripts/powercut`, which says how; `powercut_guest.rs` is what runs in the guest. Its disk is served over NBD
//! from here: what the guest has not flushed is lost, torn or kept by chance.
//!
//! Cuts come in rounds. A round begins with the disk as it was set up, and every cut of it adds to what the cuts before
//! it left.
//!
//! # Which sync is for what
//!
//! Each was taken out alone, and the power cut until something was found (kernel 6.1, ext4 with its journal):
//!
//! | sync | without it | found |
//! |---|---|---|
//! | `image/record.rs`, `Batch::commit`: the file system, before records get names | empty records | cut 1 |
//! | `Batch::commit`: the last folder | an image that podkeep said to be there is not | cut 2 |
//! | `Batch::commit`: each folder before the next one's | a name may last without what it stands for | no: 12 cuts |
//! | `image/ingest.rs`, `finish`: the file system, before the lock | nothing: the next one does it, while others wait for the lock | no: 12 |
//! | `image/clean.rs`, `remove_references`: the folder of references | a name that podkeep said to be removed may come back | no: 22 |
//! | `image/clean.rs`, `sweep`: the folder of layers' records | a layer's record may last without its listing | no: 12 |
//! | `node/state.rs`, `save`: the file | it is empty: restarts, a manifest, a range of ids | cuts 2, 1 and 4 |
//! | `save`: the folder | what was saved last may be lost | no: 15 |
//! | `node/good_manifests.rs`, `forget`: the folder | a Pod that is gone may start, where its folder or URL cannot be asked | no: 12 |
//!
//! (The four that nothing was found of in 12 cuts were out together.) What was not found is not needless. ext4 commits changes of folders
//! in the order in which they were made, all up to a sync of one of them, so it never shows the later of two without the
//! earlier one; it promises that with its journal only, and others need not. And what was done last is lost only until the next sync of
//! anything, or until ext4 commits by itself, after 5 s: an emulated machine is seldom cut in between.

mod powercut {
    pub mod boot;
    pub mod cut;
    pub mod disk;
    pub mod nbd;
    pub mod record;
    pub mod supply;
}
#[path = "simulation/random.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod random;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use powercut::boot::{Boot, Heard, Machine};
use powercut::cut::{self, Cut};
use powercut::disk::{self, Loss, Snapshot};
use powercut::nbd;
use powercut::record::Record;
use powercut::supply::{self, Supply};

/// More would only make the disk larger, and each check longer.
const CUTS_IN_A_ROUND: u64 = 10;

/// For a boot, its checks and a clean end. A guest that hangs is a finding, and scripts/vm says so first.
const PATIENCE: Duration = Duration::from_secs(700);

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 10)]
    cuts: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first cut
    #[arg(long, default_value_t = 1)]
    from: u64,
    #[arg(long)]
    resume: bool,
    #[arg(long, default_value = "6.1")]
    kernel: String,
    /// scripts/vm
    #[arg(long)]
    vm: PathBuf,
    /// What the guest's disk is at first
    #[arg(long)]
    base: PathBuf,
    /// For the record, and for disks on which something was found
    #[arg(long)]
    out: PathBuf,
}

struct Run {
    seed: u64,
    machine: Machine,
    supply: Supply,
    base: PathBuf,
    out: PathBuf,
    /// The disk that every round begins with.
    set_up: Snapshot,
    /// The disk as the last cut left it.
    after_cut: Option<Snapshot>,
    record: Record,
    /// What the guest did in this round, in its own words.
    notes: Vec<String>,
    /// The first cut of this round.
    round: u64,
    /// The last cut, if no boot has looked at the disk since.
    unchecked: Option<u64>,
}

/// What one boot found wrong: all that it said.
struct Damage(Vec<String>);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let began = Instant::now();
    fs::create_dir_all(&arguments.out)?;
    let place = arguments.out.join(format!("seed-{}", arguments.seed));
    let record = if arguments.resume { Record::resume(&place)? } else { Record::create(&place)? };
    let first = arguments.from.max(record.last() + 1);
    println!("powercut: seed {}, cuts {first} to {}", arguments.seed, arguments.cuts);

    let folder = tempfile::tempdir()?;
    let mut run = Run::set_up(&arguments, folder.path().join("disk"), record)?;
    for number in first..=arguments.cuts {
        run.cut(number)?;
        if number % CUTS_IN_A_ROUND == 0 || number == arguments.cuts {
            run.check_last()?;
        }
    }
    Ok(run.report(began))
}

impl Run {
    /// Lets the guest make the disk that every round begins with.
    fn set_up(arguments: &Arguments, socket: PathBuf, record: Record) -> Result<Run> {
        let base = File::open(&arguments.base).with_context(|| arguments.base.display().to_string())?;
        let supply = Supply::new(base, &socket)?;
        let machine = Machine { vm: arguments.vm.clone(), kernel: arguments.kernel.clone(), socket };
        let mut boot = machine.boot(&[], &["test", "powercut_guest", "set-up"])?;
        if let Err(Damage(said)) = listen_to_the_end(&mut boot)? {
            bail!("the guest could not be set up:\n{}", said.join("\n"));
        }
        Ok(Run {
            seed: arguments.seed,
            machine,
            set_up: supply.snapshot(),
            after_cut: None,
            supply,
            base: arguments.base.clone(),
            out: arguments.out.clone(),
            record,
            notes: Vec::new(),
            round: 0,
            unchecked: None,
        })
    }

    /// Boots, which checks what the last cut left, and cuts the power while the guest works.
    fn cut(&mut self, number: u64) -> Result<()> {
        if self.unchecked.is_none() {
            self.begin_round(number);
        }
        if let Err(damage) = self.boot_and_cut(number)? {
            let Some(last) = self.unchecked.take() else {
                // The checks found nothing, or there was no cut before: it is the work that went wrong.
                return self.found(number, damage);
            };
            self.found(last, damage)?;
            self.begin_round(number);
            if let Err(Damage(said)) = self.boot_and_cut(number)? {
                bail!("what was found is there without any cut:\n{}", said.join("\n"));
            }
        }
        self.unchecked = Some(number);
        Ok(())
    }

    /// Boots only to check what the last cut left.
    fn check_last(&mut self) -> Result<()> {
        let Some(number) = self.unchecked else { return Ok(()) };
        let mut boot = self.boot(None)?;
        match listen_to_the_end(&mut boot)? {
            Ok(()) => self.nothing_found()?,
            Err(damage) => self.found(number, damage)?,
        }
        self.unchecked = None;
        Ok(())
    }

    fn begin_round(&mut self, first: u64) {
        self.round = first;
        self.supply.restore(&self.set_up);
        self.notes.clear();
        self.unchecked = None;
    }

    fn boot(&self, cut: Option<u64>) -> Result<Boot> {
        let mut environment = vec![
            "PODKEEP_BIN=/podkeep/podkeep".to_owned(),
            "PODKEEP_IMAGES=/podkeep/images".to_owned(),
            format!("PODKEEP_NOTES={}", self.notes.join("\n")),
        ];
        environment.extend(cut.map(|number| format!("PODKEEP_CUT={number}")));
        environment.push(format!("PODKEEP_SEED={}", cut::mix(self.seed, cut.unwrap_or(0))));
        Ok(self.machine.boot(&environment, &["--", "/podkeep/powercut_guest"])?)
    }

    fn boot_and_cut(&mut self, number: u64) -> Result<Result<(), Damage>> {
        let mut cut = Cut::of(self.seed, number);
        let mut boot = self.boot(Some(number))?;
        let mut until = Instant::now() + PATIENCE;
        let (mut working_since, mut words) = (None, 0);
        loop {
            if working_since.is_some() && cut.after_words == Some(words) {
                break;
            }
            match boot.hear(until) {
                Heard::Line(line) if line == "working" => {
                    self.nothing_found()?;
                    working_since = Some(Instant::now());
                    until = Instant::now() + cut.latest;
                    self.supply.cut_at(cut.when, boot.teller());
                }
                Heard::Line(line) => {
                    self.note(&line);
                    words += u64::from(cut::is_word(&line));
                }
                Heard::PowerOff => break,
                Heard::Nothing if working_since.is_some() => break,
                Heard::Nothing | Heard::End => return Ok(Err(damage(&mut boot))),
            }
        }
        let worked = working_since.map(|since| since.elapsed()).unwrap_or_default();
        let requests = self.supply.cut_now();
        boot.kill()?;
        while let Heard::Line(line) = boot.hear(until + PATIENCE) {
            self.note(&line);
        }
        let loss = self.supply.restart(cut.mercy, &mut cut.random)?;
        self.after_cut = Some(self.supply.snapshot());
        print_cut(number, worked, requests, loss);
        Ok(Ok(()))
    }

    fn note(&mut self, line: &str) {
        self.notes.extend(line.strip_prefix("note ").map(str::to_owned));
    }

    fn nothing_found(&mut self) -> Result<()> {
        let Some(number) = self.unchecked.take() else { return Ok(()) };
        println!("cut {number}: good");
        Ok(self.record.good(number)?)
    }

    /// Says what was found after a cut, how to see it again, and keeps the disk.
    fn found(&mut self, number: u64, Damage(said): Damage) -> Result<()> {
        self.record.bad(number)?;
        println!("cut {number}: DAMAGE");
        said.iter().for_each(|line| println!("  | {line}"));
        println!("  again: scripts/powercut --seed {} --from {} --cuts {number}", self.seed, self.round);
        let kept = self.out.join(format!("seed-{}-cut-{number}.ext4", self.seed));
        if let Some(disk) = &self.after_cut {
            sparse_copy(&self.base, &kept)?;
            disk.write_over(&File::options().read(true).write(true).open(&kept)?)?;
            println!("  the disk, as the cut left it: {}", kept.display());
        }
        Ok(())
    }

    /// As libtest ends, so that scripts/test can add it up.
    fn report(&self, began: Instant) -> ExitCode {
        let (good, bad) = (self.record.good.len(), self.record.bad.len());
        if bad > 0 {
            println!("\nfailures:");
            self.record.bad.iter().for_each(|number| println!("    cut_{number}_of_seed_{}", self.seed));
        }
        println!(
            "\ntest result: {}. {good} passed; {bad} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
            if bad == 0 { "ok" } else { "FAILED" },
            began.elapsed().as_secs_f64()
        );
        if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// For a boot that nobody cuts.
fn listen_to_the_end(boot: &mut Boot) -> Result<Result<(), Damage>> {
    let until = Instant::now() + PATIENCE;
    loop {
        match boot.hear(until) {
            Heard::Line(_) => {}
            Heard::End if boot.succeeded()? => return Ok(Ok(())),
            Heard::End | Heard::PowerOff | Heard::Nothing => return Ok(Err(damage(boot))),
        }
    }
}

/// What a boot said that ended badly, or did not end.
fn damage(boot: &mut Boot) -> Damage {
    // It is gone already, mostly.
    let _ = boot.kill();
    Damage(std::mem::take(&mut boot.said))
}

fn print_cut(number: u64, worked: Duration, requests: u64, loss: Loss) {
    println!(
        "cut {number}: after {:.1} s of work, {requests} writes and flushes; of {} writes not flushed {} lost, {} torn",
        worked.as_secs_f64(),
        loss.kept + loss.torn + loss.lost,
        loss.lost,
        loss.torn
    );
}

/// Of 8 GiB a few MB are used.
fn sparse_copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("--sparse=always").args([from, to]).status()?;
    if !status.success() {
        bail!("cp {} {}: {status}", from.display(), to.display());
    }
    Ok(())
}
