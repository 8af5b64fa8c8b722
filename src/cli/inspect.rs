//! `podkeep inspect`: all that is known of one Pod, for programs.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, ensure};

use super::args::{InspectArgs, InspectOutput, NodeArgs};
use super::{inspect_plan, json, known_pods, yaml};

/// Prints the Pod as it was read, with Kubernetes' defaults, its `PodStatus`, and what only podkeep knows; or what one of its
/// containers is made from.
pub fn inspect(options: &InspectArgs, node: &NodeArgs) -> Result<ExitCode> {
    if options.spec || options.plan {
        return inspect_plan::inspect(options, node);
    }
    ensure!(options.container.is_none(), "-c goes with --spec or --plan: the Pod is shown as a whole");
    let list = known_pods::known(node)?;
    let pod = serde_json::to_vec_pretty(known_pods::one(&list, &options.pod, node)?)?;
    match options.output {
        InspectOutput::Json => json::print_text(&pod)?,
        InspectOutput::Yaml => {
            io::stdout().lock().write_all(yaml::of(&serde_json::from_slice(&pod)?).as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
