//! How far a pull or a load is: a bar for each layer under way on a terminal, a line for each event elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::images::size;
use crate::image::{Digest, Progress};

/// More often than this nobody can see it.
const REDRAW: Duration = Duration::from_millis(100);
/// Columns of a bar.
const BAR: u64 = 30;

/// Progress on standard error.
pub struct Shown(Mutex<Way>);

enum Way {
    Nothing,
    Lines(Lines<io::Stderr>),
    Bars(Bars<io::Stderr>),
}

impl Shown {
    /// Of what is called `name`, whose layers are to be fetched, unpacked, or whatever `verb` says.
    pub fn new(quiet: bool, name: String, verb: &'static str) -> Shown {
        let out = io::stderr();
        Shown(Mutex::new(match (quiet, out.is_terminal()) {
            (true, _) => Way::Nothing,
            (false, true) => Way::Bars(Bars::new(out)),
            (false, false) => Way::Lines(Lines::new(out, name, verb)),
        }))
    }

    /// That nobody reads it must not end the work.
    pub fn show(&self, progress: &Progress) {
        // Whoever panicked while drawing has hurt nothing but the picture.
        let _ = match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Way::Nothing => Ok(()),
            Way::Lines(lines) => lines.show(progress),
            Way::Bars(bars) => bars.show(progress),
        };
    }
}

/// One layer's way.
struct Layer {
    digest: Digest,
    size: u64,
    received: u64,
    done: bool,
}

impl Layer {
    fn new((digest, size): &(Digest, u64)) -> Layer {
        Layer { digest: digest.clone(), size: *size, received: 0, done: false }
    }

    fn name(&self) -> &str {
        &self.digest.hex()[..12]
    }
}

/// A line for each thing that happens, for logs.
struct Lines<W> {
    out: W,
    name: String,
    verb: &'static str,
}

impl<W: Write> Lines<W> {
    fn new(out: W, name: String, verb: &'static str) -> Lines<W> {
        Lines { out, name, verb }
    }

    fn show(&mut self, progress: &Progress) -> io::Result<()> {
        match progress {
            Progress::Missing(layers) => {
                let bytes = layers.iter().map(|(_, size)| size).sum();
                let noun = if layers.len() == 1 { "layer" } else { "layers" };
                let (count, bytes) = (layers.len(), size(bytes));
                writeln!(self.out, "{}: {count} {noun} to {}, {bytes}", self.name, self.verb)
            }
            Progress::Received { .. } => Ok(()),
            Progress::Done { layer } => {
                writeln!(self.out, "{}: layer {}: done", self.name, &layer.hex()[..12])
            }
            Progress::Waits(wait) => {
                let rest = wait.rest.as_secs_f32();
                writeln!(self.out, "{}: {}; again in {rest:.1} s", self.name, wait.why)
            }
        }
    }
}

/// A bar for each layer under way and a line for all of them, drawn over and over at the end of a terminal. What is done stands
/// above: an image may have more layers than a terminal has lines.
struct Bars<W> {
    out: W,
    layers: Vec<Layer>,
    /// Lines that stand on the terminal.
    drawn: usize,
    drawn_at: Option<Instant>,
}

impl<W: Write> Bars<W> {
    fn new(out: W) -> Bars<W> {
        Bars { out, layers: Vec::new(), drawn: 0, drawn_at: None }
    }

    fn show(&mut self, progress: &Progress) -> io::Result<()> {
        match progress {
            Progress::Missing(layers) => {
                self.layers = layers.iter().map(Layer::new).collect();
                self.draw(&[])
            }
            Progress::Received { layer, bytes } => {
                self.each(layer, |layer| layer.received = *bytes);
                let is_due = self.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW);
                if is_due { self.draw(&[]) } else { Ok(()) }
            }
            Progress::Done { layer: digest } => {
                self.each(digest, |layer| layer.done = true);
                self.draw(&[format!("{}  done", &digest.hex()[..12])])
            }
            Progress::Waits(wait) => {
                self.draw(&[format!("{}; again in {:.1} s", wait.why, wait.rest.as_secs_f32())])
            }
        }
    }

    fn each(&mut self, digest: &Digest, change: impl Fn(&mut Layer)) {
        self.layers.iter_mut().filter(|layer| layer.digest == *digest).for_each(change);
    }

    /// In one write, so that nothing flickers.
    fn draw(&mut self, above: &[String]) -> io::Result<()> {
        let under_way = self.layers.iter().filter(|layer| layer.received > 0 && !layer.done);
        let mut below: Vec<String> = under_way.map(bar).collect();
        below.extend(summary(&self.layers));
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        for line in above.iter().chain(&below) {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = below.len();
        self.drawn_at = Some(Instant::now());
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

fn bar(layer: &Layer) -> String {
    let full = BAR.checked_mul(layer.received).map_or(BAR, |part| part / layer.size.max(1)).min(BAR);
    let [full, empty] = [full, BAR - full].map(|columns| usize::try_from(columns).unwrap_or_default());
    let (received, whole) = (size(layer.received), size(layer.size));
    format!("{}  [{}{}]  {received} of {whole}", layer.name(), "=".repeat(full), " ".repeat(empty))
}

/// Nothing where nothing has to come.
fn summary(layers: &[Layer]) -> Option<String> {
    let done = layers.iter().filter(|layer| layer.done).count();
    let sum = |of: fn(&Layer) -> u64| size(layers.iter().map(of).sum());
    let (received, whole) = (sum(|layer| layer.received), sum(|layer| layer.size));
    (!layers.is_empty()).then(|| format!("{done} of {} layers, {received} of {whole}", layers.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<(Digest, u64)> {
        vec![(Digest::of(b"a"), 1000), (Digest::of(b"b"), 4_000_000)]
    }

    #[test]
    fn lines_say_what_happened_and_nothing_in_between() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, "web:latest".to_owned(), "fetch");
        let layers = layers();
        let id = &layers[0].0;
        lines.show(&Progress::Missing(&layers)).unwrap();
        lines.show(&Progress::Received { layer: id, bytes: 500 }).unwrap();
        lines.show(&Progress::Done { layer: id }).unwrap();
        let text = String::from_utf8(out).unwrap();
        let name = &id.hex()[..12];
        assert_eq!(text, format!("web:latest: 2 layers to fetch, 4.0MB\nweb:latest: layer {name}: done\n"));
    }

    #[test]
    fn bars_are_drawn_over_each_other_and_a_wait_stays_above_them() {
        let mut out = Vec::new();
        let mut bars = Bars::new(&mut out);
        let layers = layers();
        bars.show(&Progress::Missing(&layers)).unwrap();
        bars.each(&layers[0].0, |layer| layer.received = 500);
        let why = "broken".to_owned();
        let rest = Duration::from_millis(500);
        bars.show(&Progress::Waits(crate::image::Wait { why, rest })).unwrap();
        bars.show(&Progress::Done { layer: &layers[1].0 }).unwrap();
        let text = String::from_utf8(out).unwrap();
        let half = "=".repeat(15) + &" ".repeat(15);
        let names = [0, 1].map(|index| layers[index].0.hex()[..12].to_owned());
        let bar = format!("{}  [{half}]  500B of 1.0kB\n", names[0]);
        let all = [
            "0 of 2 layers, 0B of 4.0MB\n",
            "0 of 2 layers, 500B of 4.0MB\n",
            "1 of 2 layers, 500B of 4.0MB\n",
        ];
        let expected = [
            all[0],
            &format!("\x1b[1A\x1b[Jbroken; again in 0.5 s\n{bar}{}", all[1]),
            &format!("\x1b[2A\x1b[J{}  done\n{bar}{}", names[1], all[2]),
        ];
        assert_eq!(text, expected.concat());
    }
}
