//! One boot of the guest: `scripts/vm` on the disk that the supply serves, and what is heard of it.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

/// The guest, powered off.
pub struct Machine {
    /// `scripts/vm`
    pub vm: PathBuf,
    pub kernel: String,
    /// Where its disk is served.
    pub socket: PathBuf,
}

/// A guest that may still run.
pub struct Boot {
    child: Child,
    heard: Receiver<Heard>,
    sender: Sender<Heard>,
    /// Of stdout and stderr: how many have not been read to their ends.
    open: usize,
    /// All lines, for whoever looks for what went wrong.
    pub said: Vec<String>,
}

#[derive(Debug)]
pub enum Heard {
    /// Of the guest's stdout or stderr, or of scripts/vm itself.
    Line(String),
    /// The teller was called.
    PowerOff,
    /// The guest is down, and all that it said has been heard.
    End,
    /// And the time is over.
    Nothing,
}

impl Machine {
    /// Starts `scripts/vm` with these words after its options.
    pub fn boot(&self, environment: &[String], words: &[&str]) -> io::Result<Boot> {
        // However this program ends, the guest ends too.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&self.vm);
        let disk = format!("nbd+unix:///?socket={}", self.socket.display());
        command.args(["--kernel", &self.kernel, "--disk", &disk]);
        command.args(environment.iter().flat_map(|variable| ["--env", variable]));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (sender, heard) = channel();
        read_lines(child.stdout.take().expect("piped"), sender.clone());
        read_lines(child.stderr.take().expect("piped"), sender.clone());
        Ok(Boot { child, heard, sender, open: 2, said: Vec::new() })
    }
}

fn read_lines(output: impl Read + Send + 'static, sender: Sender<Heard>) {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // What the guest prints need not be UTF-8.
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let _ = sender.send(Heard::Line(text));
            line.clear();
        }
        let _ = sender.send(Heard::End);
    });
}

impl Boot {
    /// To be called when the power goes off: it is heard then.
    pub fn teller(&self) -> impl FnOnce() + Send + 'static {
        let sender = self.sender.clone();
        move || drop(sender.send(Heard::PowerOff))
    }

    pub fn hear(&mut self, until: Instant) -> Heard {
        while self.open > 0 {
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Heard::End) => self.open -= 1,
                Ok(Heard::Line(line)) => {
                    self.said.push(line.clone());
                    return Heard::Line(line);
                }
                Ok(other) => return other,
                Err(_) => return Heard::Nothing,
            }
        }
        Heard::End
    }

    /// Whether the command in the guest, which is down, did well.
    pub fn succeeded(&mut self) -> io::Result<bool> {
        Ok(self.child.wait()?.success())
    }

    /// Ends QEMU: scripts/vm does it at once, without asking it. What it has said can still be heard.
    pub fn kill(&mut self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a PID");
        kill_process(pid, Signal::TERM)?;
        self.child.wait().map(drop)
    }
}
