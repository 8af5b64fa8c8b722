//! What can be typed: runc's flags, for those who call an OCI runtime.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::id::ContainerId;

/// Run containers from OCI bundles, as other programs (podman, containerd) ask for it
#[derive(Debug, Parser)]
#[command(
    name = "podkeep-oci",
    disable_version_flag = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct OciArgs {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where the state of containers is kept; a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/run/podkeep/oci")]
    pub root: PathBuf,
    /// Write errors to this file too
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Accepted: there is no more to say
    #[arg(long)]
    pub debug: bool,
    /// Refused: podkeep makes its cgroups itself (podman: --cgroup-manager=cgroupfs)
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Refused unless `false` or `auto`: podkeep needs root
    #[arg(long, value_name = "BOOL")]
    pub rootless: Option<String>,
    /// Print the versions of podkeep and of the specification
    #[arg(short, long)]
    pub version: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a container; it waits to be started
    Create(CreateArgs),
    /// Start a container that was made
    Start { id: ContainerId },
    /// Make and start a container, wait for its end and remove it
    Run(RunArgs),
    /// Run another process in a container
    Exec(ExecArgs),
    /// Print a container's state as JSON
    State { id: ContainerId },
    /// Send a signal to a container's first process
    Kill(KillArgs),
    /// Remove a container that has ended
    Delete(DeleteArgs),
    /// List containers
    List(ListArgs),
    /// List a container's processes
    Ps(PsArgs),
    /// Freeze a container
    Pause { id: ContainerId },
    /// Thaw a container
    Resume { id: ContainerId },
    /// Change a container's limits
    Update(Box<UpdateArgs>),
    /// Print what a container uses
    Events(EventsArgs),
    /// Print what this runtime can do as JSON
    Features,
    /// Write a config.json to begin with
    Spec(SpecArgs),
}

/// How the first process is made.
#[derive(Clone, Debug, Args)]
pub struct Making {
    /// The folder of config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Write the first process's id here
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send the container's terminal over this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Keep this many descriptors open from 3 on, beside LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Move the root instead of pivoting it, where the host's root is an initramfs: less safe
    #[arg(long)]
    pub no_pivot: bool,
    /// Accepted: podkeep makes no keyrings
    #[arg(long)]
    pub no_new_keyring: bool,
}

#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub making: Making,
    pub id: ContainerId,
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub making: Making,
    /// Do not wait for its end
    #[arg(short, long)]
    pub detach: bool,
    /// Do not remove it after its end
    #[arg(long)]
    pub keep: bool,
    pub id: ContainerId,
}

#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// The process as JSON (`process` of config.json)
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    #[arg(short, long)]
    pub tty: bool,
    #[arg(short, long)]
    pub detach: bool,
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// UID[:GID]
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Capabilities beside those of the container's own process
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    #[arg(long)]
    pub no_new_privs: bool,
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Also in a paused container: it waits until that is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    pub id: ContainerId,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct KillArgs {
    /// To all processes of the container
    #[arg(short, long)]
    pub all: bool,
    pub id: ContainerId,
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// Kill it first; no error if there is none
    #[arg(short, long)]
    pub force: bool,
    pub id: ContainerId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Debug, Args)]
pub struct PsArgs {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    pub id: ContainerId,
}

#[derive(Clone, Debug, Args)]
pub struct UpdateArgs {
    /// `linux.resources` as JSON; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Bytes; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<i64>,
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<i64>,
    #[arg(long, value_name = "N", alias = "cpu-share")]
    pub cpu_shares: Option<u64>,
    /// Microseconds of each period
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<u64>,
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    #[arg(long, value_name = "10..1000")]
    pub blkio_weight: Option<u16>,
    pub id: ContainerId,
}

#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Once, and no more
    #[arg(long)]
    pub stats: bool,
    /// Seconds between two
    #[arg(long, value_name = "SECONDS", default_value = "5s")]
    pub interval: String,
    pub id: ContainerId,
}

#[derive(Clone, Debug, Args)]
pub struct SpecArgs {
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Refused: podkeep needs root
    #[arg(long)]
    pub rootless: bool,
}
