//! A container: Pod and image → OCI runtime `Spec` → plan → process.
//!
//! [`spec()`] says what the container is, [`plan()`] how the kernel makes it (a list of steps, every string
//! and number ready), [`spawn()`] clones the process that carries the steps out. Neither of the first two
//! needs a privilege. [`limit_devices`] comes before the process is there.
#![forbid(unsafe_code)]

mod beside;
mod devices;
mod env_file;
pub mod environment;
mod expand;
mod hooks;
mod lsm;
mod namespaces;
mod plan;
mod recipe;
pub mod resources;
pub mod seccomp;
mod spawn;
mod spec;
mod sub_path;
pub mod user;

pub use beside::Beside;
pub use devices::{DeviceError, limit_devices};
pub use environment::{Environment, environment, expanded_command};
pub use hooks::{HookError, HookProblem, run_hooks};
pub use lsm::{Lsm, is_apparmor_profile_loaded};
pub use namespaces::{JoinError, Mappings, NamespaceError, Namespaces, PodNamespaces, user_namespace};
pub use plan::{
    ExecSetting, ImageVolume, Overlay, Plan, PlanError, Root, Setting, Stdio, Target, exec_plan, hook_plan,
    pause_plan, plan, sysctl_path,
};
pub use recipe::{Bind, IdRange, ImageConfig, Recipe};
pub use spawn::{About, News, Parent, Progress, Report, SpawnError, Spawned, StartError, spawn, spawn_by};
pub use spec::{Error, permitted_capabilities, spec};
pub use sub_path::{SubPath, SubPathError, expanded_sub_path};
pub use user::ResolvedUser;
