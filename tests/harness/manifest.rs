//! Manifests for tests.

/// A Pod with one container, `main`, of busybox that runs a shell script; `$(` and `$$` mean to it what they mean in a
/// manifest. `spec` and `container`: further lines of theirs, without indentation.
pub struct ShellPod<'a> {
    pub name: &'a str,
    pub script: &'a str,
    pub spec: &'a str,
    pub container: &'a str,
}

impl ShellPod<'_> {
    pub fn yaml(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\nspec:\n{}  containers:\n  - name: main\n    \
             image: busybox:1.35\n    \
             command: {}\n{}",
            self.name,
            indented(self.spec, 2),
            // JSON is YAML.
            serde_json::json!(["sh", "-c", self.script]),
            indented(self.container, 4),
        )
    }
}

/// A Pod that runs a shell script and asks for nothing else; it ends within a second of being told to.
pub fn shell_pod(name: &str, script: &str) -> String {
    ShellPod { name, script, spec: "terminationGracePeriodSeconds: 1", container: "" }.yaml()
}

/// A Pod that runs a shell script to its end, once.
pub fn job(name: &str, script: &str) -> String {
    ShellPod { name, script, spec: "restartPolicy: Never\nterminationGracePeriodSeconds: 1", container: "" }
        .yaml()
}

fn indented(lines: &str, by: usize) -> String {
    lines.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}
