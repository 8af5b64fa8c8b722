//! `podkeep inspect`: all that is known of one Pod, for programs.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use super::args::{InspectArgs, NodeArgs};
use super::{inspect_plan, known_pods};

/// Prints the Pod as it was read, with Kubernetes' defaults, its `PodStatus`, and what only podkeep knows; or what one of its
/// containers is made from.
pub fn inspect(options: &InspectArgs, node: &NodeArgs) -> Result<ExitCode> {
    if options.spec || options.plan {
        return inspect_plan::inspect(options, node);
    }
    ensure!(options.container.is_none(), "-c goes with --spec or --plan: the Pod is shown as a whole");
    let list = known_pods::known(node)?;
    known_pods::print_json(known_pods::one(&list, &options.pod, node)?)?;
    Ok(ExitCode::SUCCESS)
}
