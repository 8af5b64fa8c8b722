//! A disk that may lose its power: what is written lasts only once it is flushed, as behind the cache of a real one.
//!
//! A cut keeps some of the writes since the last flush and loses the others, each by chance: whole, torn between two
//! sectors, or not at all. Of two that overlap the later one never lies under the earlier one. Otherwise
//! any of them may reach the disk, whatever was written before it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::random::Random;

/// Bytes that a disk writes as a whole. Disks of today do, whatever smaller sectors they show, and ext4 counts on it: where a
/// commit block of 4 KiB is torn, it refuses its journal as corrupt and is not mounted (Linux 6.1).
pub const SECTOR: usize = 4096;

type Sector = Arc<[u8; SECTOR]>;

/// What differs from the base, by number of the sector.
type Sectors = HashMap<u64, Sector>;

pub struct Disk {
    /// Never written to. Behind its end are zeroes.
    base: File,
    size: u64,
    /// What a reader finds while the power is on.
    now: Sectors,
    /// What a cut cannot take away.
    lasting: Sectors,
    /// Since the last flush, in order.
    unflushed: Vec<Write>,
}

struct Write {
    offset: u64,
    content: Content,
    /// FUA: it was on the disk before it was answered.
    lasting: bool,
}

pub enum Content {
    Bytes(Vec<u8>),
    Zeroes(usize),
}

/// How much of what was not flushed a cut keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mercy {
    /// Of a hundred writes.
    pub kept: u64,
    /// Of a hundred that are not kept: those of which some sectors are.
    pub torn: u64,
}

/// What became of the writes since the last flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub kept: usize,
    pub torn: usize,
    pub lost: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Torn,
    Lost,
}

impl Mercy {
    fn decide(self, random: &mut Random) -> Fate {
        match random.below(100) {
            chance if chance < self.kept => Fate::Kept,
            _ if random.below(100) < self.torn => Fate::Torn,
            _ => Fate::Lost,
        }
    }
}

impl Loss {
    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Kept => self.kept += 1,
            Fate::Torn => self.torn += 1,
            Fate::Lost => self.lost += 1,
        }
    }
}

/// What lay on the disk at some time.
#[derive(Clone)]
pub struct Snapshot(Sectors);

impl Disk {
    pub fn new(base: File) -> io::Result<Disk> {
        let size = base.metadata()?.len();
        Ok(Disk { base, size, now: Sectors::new(), lasting: Sectors::new(), unflushed: Vec::new() })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether `length` bytes at `offset` are on the disk.
    pub fn has(&self, offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.size)
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        read_over(&self.base, &self.now, offset, buffer)
    }

    pub fn write(&mut self, offset: u64, content: Content, lasting: bool) -> io::Result<()> {
        let write = Write { offset, content, lasting };
        write.sectors().try_for_each(|sector| write.apply(sector, &self.base, &mut self.now))?;
        self.unflushed.push(write);
        Ok(())
    }

    /// What was written until now lasts.
    pub fn flush(&mut self) {
        for number in self.unflushed.drain(..).flat_map(|write| write.sectors()) {
            if let Some(sector) = self.now.get(&number) {
                self.lasting.insert(number, Arc::clone(sector));
            }
        }
    }

    pub fn cut(&mut self, mercy: Mercy, random: &mut Random) -> io::Result<Loss> {
        let mut loss = Loss::default();
        for write in std::mem::take(&mut self.unflushed) {
            let fate = match mercy.decide(random) {
                _ if write.lasting => Fate::Kept,
                // One sector is written or not.
                Fate::Torn if write.sectors().count() == 1 => Fate::Lost,
                fate => fate,
            };
            loss.count(fate);
            for sector in write.sectors() {
                if fate == Fate::Kept || fate == Fate::Torn && random.one_in(2) {
                    write.apply(sector, &self.base, &mut self.lasting)?;
                }
            }
        }
        self.now = self.lasting.clone();
        Ok(loss)
    }

    /// What would be there after a cut that keeps nothing.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.lasting.clone())
    }

    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.lasting = snapshot.0.clone();
        self.now = snapshot.0.clone();
        self.unflushed.clear();
    }

    /// How many writes were not flushed.
    pub fn unflushed(&self) -> usize {
        self.unflushed.len()
    }
}

impl Snapshot {
    /// Writes what differs from the base over `copy`, a copy of it. Its holes stay holes where they can.
    pub fn write_over(&self, copy: &File) -> io::Result<()> {
        let mut before = [0; SECTOR];
        for (number, sector) in &self.0 {
            let offset = number * SECTOR as u64;
            read_base(copy, offset, &mut before)?;
            if before != **sector {
                copy.write_all_at(&sector[..], offset)?;
            }
        }
        Ok(())
    }
}

impl Write {
    fn length(&self) -> usize {
        match &self.content {
            Content::Bytes(bytes) => bytes.len(),
            Content::Zeroes(length) => *length,
        }
    }

    fn end(&self) -> u64 {
        self.offset + self.length() as u64
    }

    fn sectors(&self) -> std::ops::Range<u64> {
        self.offset / SECTOR as u64..self.end().div_ceil(SECTOR as u64)
    }

    /// Puts the part of it that lies in sector `number` of the disk there.
    fn apply(&self, number: u64, base: &File, sectors: &mut Sectors) -> io::Result<()> {
        let begin = self.offset.max(number * SECTOR as u64);
        let end = self.end().min((number + 1) * SECTOR as u64);
        let length = within_a_sector(end - begin);
        let place = within_a_sector(begin % SECTOR as u64);
        let target = &mut sector_mut(base, sectors, number)?[place..place + length];
        match &self.content {
            Content::Zeroes(_) => target.fill(0),
            Content::Bytes(bytes) => {
                let from = usize::try_from(begin - self.offset).expect("within the write");
                target.copy_from_slice(&bytes[from..from + length]);
            }
        }
        Ok(())
    }
}

fn within_a_sector(count: u64) -> usize {
    usize::try_from(count).expect("no more than a sector")
}

fn sector_mut<'a>(base: &File, sectors: &'a mut Sectors, number: u64) -> io::Result<&'a mut [u8; SECTOR]> {
    let sector = match sectors.entry(number) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let mut sector = [0; SECTOR];
            read_base(base, number * SECTOR as u64, &mut sector)?;
            entry.insert(Arc::new(sector))
        }
    };
    Ok(Arc::make_mut(sector))
}

fn read_over(base: &File, sectors: &Sectors, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    read_base(base, offset, buffer)?;
    let end = offset + buffer.len() as u64;
    for number in offset / SECTOR as u64..end.div_ceil(SECTOR as u64) {
        let Some(sector) = sectors.get(&number) else { continue };
        let begin = number * SECTOR as u64;
        let (from, to) = (offset.max(begin), end.min(begin + SECTOR as u64));
        let place = usize::try_from(from - offset).expect("within what is read");
        let part = within_a_sector(from - begin)..within_a_sector(to - begin);
        buffer[place..place + part.len()].copy_from_slice(&sector[part]);
    }
    Ok(())
}

fn read_base(base: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match base.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => {
                buffer[done..].fill(0);
                break;
            }
            count => done += count,
        }
    }
    Ok(())
}
