//! Programs that know credentials: `docker-credential-NAME get`, with the registry on standard input.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::credentials::Credential;

/// A helper may ask a server of its own.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that a helper may say.
const MAX_OUTPUT: u64 = 1 << 20;
/// What a helper says that runs well and knows nothing (`credentials.errCredentialsNotFoundMessage` of Docker's helpers).
const UNKNOWN: &str = "credentials not found in native keychain";
/// The user's name when the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why a helper gave no credential.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    #[error("{name:?} is not the name of a credential helper")]
    Name { name: String },
    #[error("run {program}: {source}")]
    Run { program: String, source: io::Error },
    #[error("{program} did not end within {} seconds", TIMEOUT.as_secs())]
    Hangs { program: String },
    #[error("{program} failed for {registry}: {said}")]
    Failed { program: String, registry: String, said: String },
    #[error("{program} says something else than a credential")]
    Nonsense { program: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    username: String,
    secret: String,
}

/// What the helper knows of `registry`; `None` if that is nothing.
pub(super) fn ask(name: &str, registry: &str) -> Result<Option<Credential>, HelperError> {
    if name.is_empty() || name.contains('/') {
        return Err(HelperError::Name { name: name.to_owned() });
    }
    let program = format!("docker-credential-{name}");
    let (status, output) = run(&program, registry)?;
    let said = String::from_utf8_lossy(&output).trim().to_owned();
    if !status.success() {
        let unknown = said.contains(UNKNOWN);
        let failed = HelperError::Failed { program, registry: registry.to_owned(), said };
        return if unknown { Ok(None) } else { Err(failed) };
    }
    let Output { username, secret } =
        serde_json::from_slice(&output).map_err(|_| HelperError::Nonsense { program })?;
    Ok(Some(match username.as_str() {
        TOKEN_USER => Credential::IdentityToken(secret),
        _ => Credential::Password { user: username, password: secret },
    }))
}

fn run(program: &str, registry: &str) -> Result<(ExitStatus, Vec<u8>), HelperError> {
    let failed = |source| HelperError::Run { program: program.to_owned(), source };
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let outcome = converse(&mut child, registry);
    if !matches!(outcome, Ok(Some(_))) {
        // It may have ended meanwhile; either way it has to be reaped.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    match outcome.map_err(failed)? {
        Some(output) => Ok((status, output)),
        None => Err(HelperError::Hangs { program: program.to_owned() }),
    }
}

/// `None` if the program does not end in time.
fn converse(child: &mut Child, registry: &str) -> io::Result<Option<Vec<u8>>> {
    if let Some(mut input) = child.stdin.take() {
        // One that does not read its input may still answer.
        let _ = writeln!(input, "{registry}");
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec { tv_sec: TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
    // An answer fits into a pipe (64 KiB), so the program need not be read from before it ends.
    if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? == 0 {
        return Ok(None);
    }
    let mut output = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        // Whatever it may have left behind that holds the pipe open is not waited for.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        match pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut output) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => drop(other?),
        }
    }
    Ok(Some(output))
}
