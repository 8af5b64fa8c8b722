//! `podkeep oci create`.

use std::process::ExitCode;

use anyhow::Result;

use super::args::{CreateArgs, Global};
use super::bundle::Bundle;
use super::launch::{When, launch};
use super::{console, descriptors};

pub fn create(global: &Global, mut args: CreateArgs) -> Result<ExitCode> {
    let handed_on = descriptors::handed_on(args.preserve_fds)?;
    super::keep_to_ourselves()?;
    let mut bundle = Bundle::open(&args.bundle)?;
    args.preserve_fds = handed_on.tell(bundle.spec.process_mut());
    let terminal = console::wanted(bundle.spec.process());
    let (stdio, _) = console::streams(terminal, args.console_socket.as_deref(), true)?;
    let launched = launch(global, &args, bundle, stdio, &When::Later)?;
    descriptors::write_pid(args.pid_file.as_deref(), launched.spawned.pid)?;
    Ok(ExitCode::SUCCESS)
}
