//! `podkeep inspect --spec` and `--plan`: what a container is made from.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::args::{InspectArgs, NodeArgs};
use super::{json, known_pods};
use crate::api::client;
use crate::api::container::{Path, What};

pub fn inspect(options: &InspectArgs, node: &NodeArgs) -> Result<ExitCode> {
    let (pod, container) = known_pods::container(node, &options.pod, options.container.as_deref())?;
    let what = if options.plan { What::Plan } else { What::Spec };
    let path = Path { pod, container, what }.to_string();
    let answer = known_pods::patiently(node, |socket| client::get(socket, &path))?;
    if options.plan {
        let mut out = io::stdout().lock();
        let steps: Vec<String> = serde_json::from_slice(&answer).context("understand the node")?;
        steps.iter().try_for_each(|step| writeln!(out, "{step}"))?;
    } else {
        json::print_text(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}
