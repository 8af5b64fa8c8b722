//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, ValueHint};

use super::oci::args::OciArgs;
use crate::image::Hosts;
use crate::node::Folders;

/// Keeps Pods running on this machine from a folder of manifests.
#[derive(Debug, Parser)]
#[command(name = "podkeep", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Args {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the node is that a command is about.
#[derive(Clone, Debug, ClapArgs)]
pub struct NodeArgs {
    /// Images and Pods' state
    #[arg(long, global = true, value_name = "DIR", default_value = Folders::DEFAULT_ROOT, value_hint = ValueHint::DirPath)]
    pub root_dir: PathBuf,
    /// The node's socket and what is needed only until the next reboot
    #[arg(long, global = true, value_name = "DIR", default_value = Folders::DEFAULT_RUN, value_hint = ValueHint::DirPath)]
    pub run_dir: PathBuf,
    /// Namespace of the Pods that are meant [default for `ps`, `pods` and `events`: all; for others: default]
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node: keep the Pods of a folder of manifests running
    Run(RunArgs),
    /// List containers
    Ps(PsArgs),
    /// List Pods
    Pods(PodsArgs),
    /// Tell all that is known of a Pod
    Describe(DescribeArgs),
    /// Print all that is known of a Pod, for programs
    Inspect(InspectArgs),
    /// Print a container's logs
    Logs(LogsArgs),
    /// Run a command in a container
    Exec(ExecArgs),
    /// Show what happened to Pods
    Events(EventsArgs),
    /// Bring images from OCI layouts or archives into the store
    Load(LoadArgs),
    /// Bring images from their registries into the store
    Pull(PullArgs),
    /// Write images as an OCI archive
    Save(SaveArgs),
    /// List the images in the store, or check them
    Images(ImagesArgs),
    /// Remove images by their names
    Rmi(RmiArgs),
    /// Remove every image that nobody needs
    Prune(PruneArgs),
    /// Check manifests without running anything
    Lint(LintArgs),
    /// Encrypt the values of Secrets, so that only this node, or others, can read them
    Seal(SealArgs),
    /// Be an OCI runtime, for podman, containerd and their like
    #[command(display_name = "podkeep oci")]
    Oci(Box<OciArgs>),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Clone, Debug, ClapArgs)]
pub struct RunArgs {
    /// The folder of manifests, or one manifest [default: staticPodPath of the configuration, else
    /// /etc/podkeep/manifests]
    #[arg(long, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub pod_manifest_path: Option<PathBuf>,
    /// Where else manifests come from [default: staticPodURL of the configuration, which keeps a password from others'
    /// eyes]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub manifest_url: Option<String>,
    /// A KubeletConfiguration [default: /etc/podkeep/config.yaml if it exists]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// A folder of images (OCI layouts and archives) to take from
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub image_dir: Option<PathBuf>,
    /// A folder with a folder for each registry: mirrors, certificates (containerd's hosts.toml)
    #[arg(long, value_name = "DIR", default_value = Hosts::FOLDER, value_hint = ValueHint::DirPath)]
    pub hosts_dir: PathBuf,
    /// The node's name [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct PsArgs {
    /// Also show containers that do not run
    #[arg(short, long)]
    pub all: bool,
    #[arg(short, long, value_enum, default_value_t = PsOutput::Table)]
    pub output: PsOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PsOutput {
    Table,
    Wide,
    Json,
}

#[derive(Debug, ClapArgs)]
pub struct PodsArgs {
    #[arg(short, long, value_enum, default_value_t = PsOutput::Table)]
    pub output: PsOutput,
}

#[derive(Debug, ClapArgs)]
pub struct DescribeArgs {
    /// `web`, `web-<node>` or `namespace/name`
    pub pod: String,
}

#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// `web`, `web-<node>` or `namespace/name`
    pub pod: String,
    /// Which container, where the Pod has several
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as more is written, over restarts
    #[arg(short, long)]
    pub follow: bool,
    /// The run before the current one
    #[arg(long, short)]
    pub previous: bool,
    /// Only this many lines from the end
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct ExecArgs {
    /// `web`, `web-<node>` or `namespace/name`
    pub pod: String,
    /// Which container, where the Pod has several
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass our standard input on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// `web`, `web-<node>` or `namespace/name`
    pub pod: String,
    /// Which container, where the Pod has several and what it is made from is asked
    #[arg(short, long)]
    pub container: Option<String>,
    /// Only a container's OCI runtime specification, as config.json for another runtime
    #[arg(long)]
    pub spec: bool,
    /// Only the steps that its process takes between clone and exec
    #[arg(long, conflicts_with = "spec")]
    pub plan: bool,
    #[arg(short, long, value_enum, default_value_t = InspectOutput::Json, conflicts_with_all = ["spec", "plan"])]
    pub output: InspectOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InspectOutput {
    Json,
    Yaml,
}

#[derive(Debug, ClapArgs)]
pub struct EventsArgs {
    /// Only of this Pod: `web`, `web-<node>` or `namespace/name`
    pub pod: Option<String>,
    /// Go on as more happens
    #[arg(short, long)]
    pub watch: bool,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    pub output: ListOutput,
}

#[derive(Debug, ClapArgs)]
pub struct LoadArgs {
    /// OCI layouts (folders), OCI archives or docker-archives, also gzip or zstd compressed; `-` is an archive on standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, ClapArgs)]
pub struct PullArgs {
    /// `nginx:1.27`, `registry.example:5000/team/web@sha256:…`
    #[arg(required = true, value_name = "IMAGE")]
    pub references: Vec<String>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Fetch blobs and manifests too that the store has cleaned away of an image that is there: `podkeep save` needs them
    #[arg(long)]
    pub spare_copies: bool,
    /// A folder with a folder for each registry: mirrors, certificates (containerd's hosts.toml)
    #[arg(long, value_name = "DIR", default_value = Hosts::FOLDER, value_hint = ValueHint::DirPath)]
    pub hosts_dir: PathBuf,
    /// Credentials, as docker keeps them [default: config.json in the root folder, else
    /// $DOCKER_CONFIG/config.json, else ~/.docker/config.json]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub docker_config: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct SaveArgs {
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// The archive [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct RmiArgs {
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct PruneArgs {
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ImagesArgs {
    /// Read everything, compare it with what it was when it came, and mend what is damaged
    #[arg(long)]
    pub verify: bool,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    pub output: ListOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListOutput {
    Table,
    Json,
}

#[derive(Debug, ClapArgs)]
pub struct LintArgs {
    /// Manifests, or folders of them
    #[arg(required = true, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = LintOutput::Text)]
    pub output: LintOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LintOutput {
    Text,
    Json,
}

#[derive(Debug, ClapArgs)]
pub struct SealArgs {
    /// A manifest with Secrets; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Who can read the values: `age1…`; may be said several times [default: this node]
    #[arg(short, long = "recipient", value_name = "RECIPIENT")]
    pub recipients: Vec<String>,
    /// Only print who this node is as a recipient; its key is made if there is none
    #[arg(long, conflicts_with_all = ["file", "recipients"])]
    pub public_key: bool,
}

#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_hold_together() {
        super::Args::command().debug_assert();
    }
}
