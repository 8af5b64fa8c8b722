//! The platform of this machine, in Go's words as images use them, and the choice of one image from several.

use oci_spec::image::Descriptor;

use super::Error;

const OS: &str = "linux";

/// This machine's architecture as `GOARCH` names it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Variants that run here, the best one first; the empty one is "not said". What only newer processors run (`amd64/v3`) is left out.
fn variants() -> &'static [&'static str] {
    match architecture() {
        "amd64" => &["", "v1"],
        "arm64" => &["v8", ""],
        "arm" => &["v7", "v6", "v5", ""],
        _ => &[""],
    }
}

/// The manifest for this machine; one without a platform stands behind those that name ours. `what` names the index in the error.
pub(super) fn choose<'a>(manifests: &'a [Descriptor], what: &str) -> Result<&'a Descriptor, Error> {
    let ranked = manifests.iter().filter_map(|manifest| Some((rank(manifest)?, manifest)));
    let best = ranked.min_by_key(|(rank, _)| *rank);
    best.map(|(_, manifest)| manifest).ok_or_else(|| Error::WrongPlatform {
        what: what.to_owned(),
        found: manifests.iter().map(shown).collect::<Vec<_>>().join(", "),
        wanted: wanted(),
    })
}

fn rank(manifest: &Descriptor) -> Option<usize> {
    let Some(platform) = manifest.platform() else { return Some(usize::MAX) };
    let variant = platform.variant().as_deref().unwrap_or_default();
    let is_ours = platform.os().to_string() == OS && platform.architecture().to_string() == architecture();
    variants().iter().position(|ours| is_ours && *ours == variant)
}

fn shown(manifest: &Descriptor) -> String {
    let Some(platform) = manifest.platform() else { return "any".to_owned() };
    let variant = platform.variant().as_ref().map_or(String::new(), |variant| format!("/{variant}"));
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}

fn wanted() -> String {
    format!("{OS}/{}", architecture())
}

/// The configuration has the last word on what an image runs on; some tools leave it empty.
pub(super) fn check(os: &str, found: &str, what: &str) -> Result<(), Error> {
    if (os.is_empty() || os == OS) && (found.is_empty() || found == architecture()) {
        return Ok(());
    }
    Err(Error::WrongPlatform { what: what.to_owned(), found: format!("{os}/{found}"), wanted: wanted() })
}
