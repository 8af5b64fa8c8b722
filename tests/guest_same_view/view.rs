//! What a container sees of itself, made comparable.

use std::collections::BTreeMap;

/// The last line of what `look.sh` prints.
pub const END: &str = "== end";

/// Sections by name; the lines of each, normalised.
#[derive(Debug, PartialEq, Eq)]
pub struct View(BTreeMap<String, Vec<String>>);

impl View {
    /// `masked`: paths whose content is hidden, in whatever way; `read_only`: those that cannot be written.
    pub fn parse(text: &str, masked: &[String], read_only: &[String]) -> View {
        let mut sections = BTreeMap::<String, Vec<String>>::new();
        let mut name = String::new();
        for line in text.lines() {
            match line.strip_prefix("== ") {
                Some(section) => name = section.to_owned(),
                None => sections.entry(name.clone()).or_default().push(line.to_owned()),
            }
        }
        if let Some(mounts) = sections.get_mut("mounts") {
            *mounts = mounts.iter().map(|line| mount(line, masked, read_only)).collect();
            mounts.sort();
        }
        assert!(sections.values().all(|lines| !lines.is_empty()), "a section is empty: {text}");
        View(sections)
    }

    pub fn section(&self, name: &str) -> &[String] {
        &self.0[name]
    }

    /// Shows every line that only one of them has.
    pub fn assert_equals(&self, crun: &View) {
        let mut differences = Vec::new();
        for (name, lines) in &self.0 {
            let theirs = crun.0.get(name).cloned().unwrap_or_default();
            differences.extend(only_in(lines, &theirs).map(|line| format!("{name}: podkeep only: {line}")));
            differences.extend(only_in(&theirs, lines).map(|line| format!("{name}: crun only:    {line}")));
        }
        assert!(differences.is_empty(), "\n{}", differences.join("\n"));
        assert_eq!(self.0.keys().collect::<Vec<_>>(), crun.0.keys().collect::<Vec<_>>());
    }
}

fn only_in<'a>(these: &'a [String], others: &'a [String]) -> impl Iterator<Item = &'a String> {
    these.iter().filter(|line| !others.contains(line))
}

/// A line of mountinfo without the numbers, and without what cannot be the same.
fn mount(line: &str, masked: &[String], read_only: &[String]) -> String {
    let (mount, system) = line.split_once(" - ").unwrap();
    let fields: Vec<&str> = mount.split(' ').collect();
    let (root, at, options) = (fields[3], fields[4], fields[5]);
    let system: Vec<&str> = system.split(' ').collect();
    match at {
        // An overlay of the image here, a bind of its one layer there.
        "/" => format!("/ {options}"),
        // Hidden behind `/dev/null`, a file of the host's or the container's own, or behind an empty read-only tmpfs.
        at if masked.iter().any(|path| path == at) => format!("{at} masked"),
        // podkeep keeps the other flags of the mount below; crun 1.8 drops them.
        at if read_only.iter().any(|path| path == at) => {
            let keeps = options.split(',').next().unwrap();
            format!("{at} {keeps} of {} {root}", system[0])
        }
        _ => format!("{at} {options} of {} {root} {}", system[0], system[2]),
    }
}
