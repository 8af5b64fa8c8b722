//! What can be typed after `podkeep oci`: the names and meanings are runc's.

use std::path::PathBuf;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum, ValueHint};

use super::id::ContainerId;
use super::user::User;

/// The line by which podman and others recognise a runtime, and the specification that it follows.
pub const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// An OCI runtime's command line, for podman, containerd and their like.
#[derive(Debug, ClapArgs)]
#[command(version = VERSION, disable_help_subcommand = true)]
pub struct OciArgs {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The same where the program itself is called by a name such as `podkeep-oci`: its callers know one path and no more.
#[derive(Debug, Parser)]
#[command(name = "podkeep oci", max_term_width = 100)]
pub struct Called {
    #[command(flatten)]
    pub oci: OciArgs,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Global {
    /// Where the state of containers is kept; meant to be a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/run/podkeep/oci", value_hint = ValueHint::DirPath)]
    pub root: PathBuf,
    /// Also write what goes wrong to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Also write to the log which steps a container's process takes
    #[arg(long)]
    pub debug: bool,
    /// Refused: cgroups are made by hand (podman: --cgroup-manager=cgroupfs)
    #[arg(long)]
    pub systemd_cgroup: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a container up to the moment before its program
    Create(CreateArgs),
    /// Let a created container run its program
    Start(OneArgs),
    /// Print a container's state as JSON
    State(OneArgs),
    /// Send a signal to a container's first process
    Kill(KillArgs),
    /// Remove a container that has ended
    Delete(DeleteArgs),
    /// Create and start a container
    Run(RunArgs),
    /// Run a process in a container
    Exec(ExecArgs),
    /// List containers
    List(ListArgs),
    /// List the processes of a container
    Ps(PsArgs),
    /// Freeze all processes of a container
    Pause(OneArgs),
    /// Let the processes of a paused container go on
    Resume(OneArgs),
    /// Change the limits of a container
    Update(Box<UpdateArgs>),
    /// Print what a container uses
    Events(EventsArgs),
    /// Print what this runtime can do as JSON
    Features,
    /// Write a config.json to begin with
    Spec(SpecArgs),
}

#[derive(Debug, ClapArgs)]
pub struct OneArgs {
    #[arg(value_name = "ID")]
    pub id: ContainerId,
}

/// What `create` and `run` have in common.
#[derive(Debug, ClapArgs)]
pub struct CreateArgs {
    #[arg(value_name = "ID")]
    pub id: ContainerId,
    /// The directory of config.json
    #[arg(short, long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub bundle: PathBuf,
    /// Where to write the PID of the container's first process
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub pid_file: Option<PathBuf>,
    /// A unix socket that gets the master end of the container's terminal
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub console_socket: Option<PathBuf>,
    /// How many descriptors from 3 on are handed on to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Move the root instead of pivoting to it: for a host whose root is an initramfs
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the container the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
}

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    #[command(flatten)]
    pub create: CreateArgs,
    /// Do not wait for its end
    #[arg(short, long)]
    pub detach: bool,
    /// Do not remove it after its end
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, ClapArgs)]
pub struct KillArgs {
    #[arg(value_name = "ID")]
    pub id: ContainerId,
    /// A name or a number
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
    /// To all processes of the container
    #[arg(short, long)]
    pub all: bool,
}

#[derive(Debug, ClapArgs)]
pub struct DeleteArgs {
    #[arg(value_name = "ID")]
    pub id: ContainerId,
    /// Kill it first if it runs; none of that name is no error
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ExecArgs {
    /// A file with the process as JSON, instead of a command
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub process: Option<PathBuf>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Do not wait for its end
    #[arg(short, long)]
    pub detach: bool,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// NAME=VALUE, added to the container's
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<User>,
    #[arg(short = 'g', long, value_name = "GID", value_parser = super::user::parse_id)]
    pub additional_gids: Vec<u32>,
    /// A capability beside the container's
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    #[arg(long)]
    pub no_new_privs: bool,
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub pid_file: Option<PathBuf>,
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub console_socket: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Refused: the process is born in the container's own cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,
    /// Also in a paused container, where the process waits
    #[arg(long)]
    pub ignore_paused: bool,
    #[arg(value_name = "ID")]
    pub id: ContainerId,
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Only names
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, ClapArgs)]
pub struct PsArgs {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    #[arg(value_name = "ID")]
    pub id: ContainerId,
    /// Options of ps(1) [default: -ef]
    #[arg(value_name = "PS OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct UpdateArgs {
    #[arg(value_name = "ID")]
    pub id: ContainerId,
    /// A file with `linux.resources` as JSON, `-` for standard input; the other options are not looked at then
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub resources: Option<PathBuf>,
    /// 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// µs
    #[arg(long, value_name = "TIME")]
    pub cpu_period: Option<u64>,
    /// µs in each period; -1 for no limit
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// µs
    #[arg(long, value_name = "TIME")]
    pub cpu_burst: Option<u64>,
    /// 2 to 262144
    #[arg(long, value_name = "SHARES", visible_alias = "cpu-shares")]
    pub cpu_share: Option<u64>,
    #[arg(long, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,
    #[arg(long, value_name = "NODES")]
    pub cpuset_mems: Option<String>,
    /// 1 makes it run only when nobody else wants to
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub cpu_idle: Option<i64>,
    /// Bytes; -1 for no limit
    #[arg(short, long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory: Option<i64>,
    /// Bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_swap: Option<i64>,
    /// -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
}

#[derive(Debug, ClapArgs)]
pub struct EventsArgs {
    #[arg(value_name = "ID")]
    pub id: ContainerId,
    /// Once, now: the only way that there is
    #[arg(long, required = true, action = ArgAction::SetTrue)]
    pub stats: bool,
}

#[derive(Debug, ClapArgs)]
pub struct SpecArgs {
    /// The directory of config.json
    #[arg(short, long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub bundle: PathBuf,
    /// Refused: podkeep is root
    #[arg(long)]
    pub rootless: bool,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(line: &str) -> Result<OciArgs, String> {
        let words = ["podkeep-oci"].into_iter().chain(line.split_whitespace());
        Called::try_parse_from(words).map(|called| called.oci).map_err(|error| error.to_string())
    }

    #[test]
    fn the_arguments_hold_together() {
        Called::command().debug_assert();
    }

    #[test]
    fn conmon_and_containerd_are_understood() {
        let create =
            "--log-format=json --log=/x/log --root /r create --bundle /b --pid-file /p --no-pivot web";
        let parsed = parse(create).unwrap();
        assert_eq!((parsed.global.log_format, parsed.global.root), (LogFormat::Json, "/r".into()));
        assert!(
            matches!(parsed.command, Command::Create(create) if create.no_pivot && create.id.as_str() == "web")
        );

        let exec = "exec --pid-file /p --process /x --detach --console-socket /s web";
        assert!(
            matches!(parse(exec).unwrap().command, Command::Exec(exec) if exec.detach && exec.command.is_empty())
        );
        let kill = parse("kill --all web 9").unwrap().command;
        assert!(matches!(kill, Command::Kill(kill) if kill.all && kill.signal == "9"));
        let update = parse("update --resources - web").unwrap().command;
        assert!(matches!(update, Command::Update(update) if update.resources == Some("-".into())));
    }

    #[test]
    fn what_follows_the_name_is_the_command() {
        let Command::Exec(exec) = parse("exec -t -u 5:6 web ls -l --tty").unwrap().command else { panic!() };
        assert_eq!(exec.command, ["ls", "-l", "--tty"]);
        assert_eq!(exec.user, Some(User { uid: 5, gid: Some(6) }));
    }

    #[test]
    fn negative_limits_mean_none() {
        let Command::Update(update) = parse("update --memory -1 --pids-limit=-1 web").unwrap().command else {
            panic!()
        };
        assert_eq!((update.memory, update.pids_limit), (Some(-1), Some(-1)));
    }

    #[test]
    fn an_id_beyond_31_bits_is_refused() {
        for user in ["2147483648", "4294967296", "-1", "0x0", "", "1:", ":1", "1:4294967295", "+1", "root"] {
            assert!(parse(&format!("exec -u={user} web true")).is_err(), "{user}");
        }
    }

    #[test]
    fn the_version_is_as_podman_reads_it() {
        let said = parse("--version").unwrap_err();
        assert!(said.starts_with("podkeep oci version ") && said.contains("\nspec: 1."), "{said}");
    }
}
