//! What is below a container: `/v1/pods/NAMESPACE/NAME/containers/CONTAINER/…`.

use super::PODS;
use crate::manifest::PodId;

/// Which container, and what of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    pub pod: PodId,
    pub container: String,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// POST: a command in it ([`exec`](super::exec)).
    Exec,
    /// GET: the OCI runtime `Spec` it is made from.
    Spec,
    /// GET: the steps that its process takes, a list of sentences.
    Plan,
}

impl What {
    const ALL: [What; 3] = [What::Exec, What::Spec, What::Plan];

    fn word(self) -> &'static str {
        match self {
            What::Exec => "exec",
            What::Spec => "spec",
            What::Plan => "plan",
        }
    }
}

impl Path {
    pub fn parse(path: &str) -> Option<Path> {
        let mut words = path.strip_prefix(PODS)?.strip_prefix('/')?.split('/');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let (namespace, name) = (word()?.to_owned(), word()?.to_owned());
        (word()? == "containers").then_some(())?;
        let container = word()?.to_owned();
        let last = word()?;
        let what = What::ALL.into_iter().find(|what| what.word() == last)?;
        words.next().is_none().then_some(Path { pod: PodId { namespace, name }, container, what })
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Path { pod: PodId { namespace, name }, container, what } = self;
        write!(f, "{PODS}/{namespace}/{name}/containers/{container}/{}", what.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_was_written() {
        for what in What::ALL {
            let pod = PodId { namespace: "default".to_owned(), name: "web-edge7".to_owned() };
            let path = Path { pod, container: "main".to_owned(), what };
            assert_eq!(Path::parse(&path.to_string()), Some(path));
        }
        for wrong in [
            "/v1/pods",
            "/v1/pods/a/b/containers/c",
            "/v1/pods/a/b/containers/c/logs",
            "/v1/pods/a//containers/c/exec",
            "/v1/pods/a/b/containers/c/exec/d",
        ] {
            assert_eq!(Path::parse(wrong), None, "{wrong}");
        }
    }
}
