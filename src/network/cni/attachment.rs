//! A Pod's part in a network: what each command tells the plugins of it (`libcni/api.go`).

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::list::{Network, Plugin, Version};
use super::plugin::{Error, Plugins, Problem};
use super::{INTERFACE, result};

/// From before its ADD until after its DEL.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    pub network: Network,
    /// Letters and digits.
    pub container_id: String,
    /// A path that leads to the Pod's network namespace. CHECK compares it as text with that of ADD.
    pub namespace: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// By name of the capability. A plugin is told those that it takes.
    pub capabilities: Map<String, Value>,
    /// What the last plugin has answered to ADD, once all have.
    pub result: Option<Value>,
}

/// `CNI_COMMAND`, and how libcni calls it when it fails.
type Command = (&'static str, &'static str);

const ADD: Command = ("ADD", "add");
const CHECK: Command = ("CHECK", "check");
const DEL: Command = ("DEL", "delete");
const GC: Command = ("GC", "gc");

impl Attachment {
    /// Those that the Pod has in this network: one of IPv4, one of IPv6, or either.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.result.as_ref().map(result::addresses).unwrap_or_default()
    }

    /// Makes the Pod's link. Takes as long as the plugins do.
    ///
    /// # Errors
    /// The first plugin's that fails, and where the Pod has no address then. [`del`](Self::del) has to undo what was done until then.
    pub fn add(&mut self, plugins: &Plugins) -> Result<(), Error> {
        let mut before = None;
        for plugin in &self.network.plugins {
            let answer = self.run(plugins, plugin, ADD, &self.namespace, before.as_ref())?;
            let parsed = result::parse(&answer, self.network.version);
            before =
                Some(parsed.map_err(|reason| self.network.error(plugin, ADD, Problem::Nonsense(reason)))?);
        }
        self.result = before;
        match (self.addresses().is_empty(), self.network.plugins.last()) {
            (true, Some(last)) => {
                let problem = Problem::Nonsense(format!("its answer has no address of {INTERFACE}"));
                Err(self.network.error(last, ADD, problem))
            }
            _ => Ok(()),
        }
    }

    /// Asks whether all is as ADD has left it; where the version or the network has no such command, nothing is asked.
    ///
    /// # Errors
    /// The first plugin's that says that it is not.
    pub fn check(&self, plugins: &Plugins) -> Result<(), Error> {
        if self.network.version < Version::V0_4_0 || !self.network.is_checked || self.result.is_none() {
            return Ok(());
        }
        let run = |plugin| self.run(plugins, plugin, CHECK, &self.namespace, self.result.as_ref());
        self.network.plugins.iter().try_for_each(|plugin| run(plugin).map(drop))
    }

    /// Undoes what [`add`](Self::add) has done, all of it or a part; nothing there is no error. Without `has_namespace`, that is gone.
    ///
    /// # Errors
    /// The first plugin's that fails. All others were told nevertheless.
    pub fn del(&self, plugins: &Plugins, has_namespace: bool) -> Result<(), Error> {
        let namespace = if has_namespace { &self.namespace } else { "" };
        let before = self.result.as_ref().filter(|_| self.network.version >= Version::V0_4_0);
        let mut outcome = Ok(());
        for plugin in self.network.plugins.iter().rev() {
            match self.run(plugins, plugin, DEL, namespace, before) {
                // It will not come back for what is only in its own books any more.
                Err(Error { problem: Problem::NotThere(_), .. }) if !has_namespace => {}
                ran => outcome = outcome.and(ran.map(drop)),
            }
        }
        outcome
    }

    fn run(
        &self,
        plugins: &Plugins,
        plugin: &Plugin,
        command: Command,
        namespace: &str,
        before: Option<&Value>,
    ) -> Result<Vec<u8>, Error> {
        let environment = [
            ("CNI_COMMAND", command.0),
            ("CNI_CONTAINERID", self.container_id.as_str()),
            ("CNI_NETNS", namespace),
            ("CNI_IFNAME", INTERFACE),
            ("CNI_ARGS", self.args.as_str()),
        ];
        let ran = plugins.run(&plugin.kind, &environment, &self.input(plugin, before));
        ran.map_err(|problem| self.network.error(plugin, command, problem))
    }

    /// What a plugin reads: its part of the list, with what the list as a whole says and what is of this Pod.
    fn input(&self, plugin: &Plugin, before: Option<&Value>) -> Value {
        let mut input = self.network.input(plugin);
        if let Some(before) = before {
            input.insert("prevResult".to_owned(), before.clone());
        }
        let told = self.capabilities.iter().filter(|(name, _)| plugin.takes(name));
        let told: Map<String, Value> = told.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !told.is_empty() {
            input.insert("runtimeConfig".to_owned(), told.into());
        }
        input.into()
    }

    /// To be kept from before [`add`](Self::add) until after [`del`](Self::del): whatever becomes of the file that the network is from,
    /// the same plugins have to undo it.
    pub fn to_json(&self) -> Value {
        json!({
            "network": self.network.source,
            "containerId": self.container_id,
            "netns": self.namespace,
            "cniArgs": self.args,
            "capabilityArgs": self.capabilities,
            "result": self.result,
        })
    }

    /// What [`to_json`](Self::to_json) was made of.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_json(mut saved: Value) -> Result<Attachment, String> {
        let network = Network::of(saved["network"].take())?;
        let text = |key: &str| {
            saved[key].as_str().map(str::to_owned).ok_or_else(|| format!("{key}: a string is required"))
        };
        Ok(Attachment {
            network,
            container_id: text("containerId")?,
            namespace: text("netns")?,
            args: text("cniArgs")?,
            capabilities: saved["capabilityArgs"].as_object().cloned().unwrap_or_default(),
            result: Some(saved["result"].take()).filter(|result| !result.is_null()),
        })
    }
}

/// Lets plugins remove what is left of containers other than these; where the version or the network has no such command, nothing is
/// done. Nothing else may be under way in any network meanwhile (the specification's "Lifecycle & Ordering").
///
/// # Errors
/// The first plugin's that fails. All others were told nevertheless.
pub fn collect(network: &Network, container_ids: &[String], plugins: &Plugins) -> Result<(), Error> {
    if network.version < Version::V1_1_0 || !network.is_collected {
        return Ok(());
    }
    let valid = container_ids.iter().map(|id| json!({"containerID": id, "ifname": INTERFACE}));
    let valid: Value = valid.collect::<Vec<_>>().into();
    let mut outcome = Ok(());
    for plugin in &network.plugins {
        let mut input = network.input(plugin);
        // Under both names, as libcni does: one of them was a mistake of the specification.
        input.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
        input.insert("cni.dev/attachments".to_owned(), valid.clone());
        let ran = plugins.run(&plugin.kind, &[("CNI_COMMAND", GC.0)], &input.into());
        outcome = outcome.and(ran.map(drop).map_err(|problem| network.error(plugin, GC, problem)));
    }
    outcome
}

impl Network {
    fn input(&self, plugin: &Plugin) -> Map<String, Value> {
        let mut input = plugin.config.clone();
        input.insert("name".to_owned(), self.name.as_str().into());
        input.insert("cniVersion".to_owned(), self.version.as_str().into());
        input
    }

    fn error(&self, plugin: &Plugin, command: Command, problem: Problem) -> Error {
        Error { network: self.name.clone(), plugin: plugin.kind.clone(), command: command.1, problem }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::Folder;
    use super::*;

    /// Writes down what it was told, a line each: its name, the command, what it has read. Adds its name to the result.
    const PLUGIN: &str = r#"
        name=${0##*/}; input=$(cat)
        printf '%s %s [%s %s] %s\n' $name "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$input" >>"${0%/*}/log"
        [ ! -e "${0%/*}/$name.$CNI_COMMAND" ] || { cat "${0%/*}/$name.$CNI_COMMAND"; exit 1; }
        [ "$CNI_COMMAND" != ADD ] || printf '{"by": "%s", "ips": [{"address": "10.1.0.9/16"}]}' $name"#;

    fn folder() -> Folder {
        let folder = Folder::new();
        ["one", "two"].iter().for_each(|name| folder.plugin(name, PLUGIN));
        folder
    }

    /// Each of them on its own: name and command, the rest as it was written down.
    fn log(folder: &Folder) -> Vec<(String, Value)> {
        let path = folder.path().join("log");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let line = |line: &str| {
            let (head, input) = line.split_once("] ").unwrap();
            (head.to_owned(), serde_json::from_str(input).unwrap())
        };
        text.lines().map(line).collect()
    }

    fn heads(folder: &Folder) -> Vec<String> {
        log(folder).into_iter().map(|(head, _)| head).collect()
    }

    fn attachment(version: &str, more: &str) -> Attachment {
        let list = format!(
            r#"{{"cniVersion": "{version}", "name": "net", {more} "plugins": [
                {{"type": "one", "mtu": 9, "capabilities": {{"portMappings": true, "ips": false}}}}, {{"type": "two"}}]}}"#
        );
        let capabilities = json!({"portMappings": [{"hostPort": 80}], "ips": ["10.1.0.9"]});
        Attachment {
            network: Network::of(serde_json::from_str(&list).unwrap()).unwrap(),
            container_id: "id".to_owned(),
            namespace: "/n".to_owned(),
            args: "K8S_POD_NAME=web".to_owned(),
            capabilities: capabilities.as_object().unwrap().clone(),
            result: None,
        }
    }

    #[test]
    fn each_plugin_is_told_what_concerns_it_and_what_the_one_before_has_made() {
        let (folder, mut of_pod) = (folder(), attachment("1.0.0", ""));
        of_pod.add(&folder.plugins()).unwrap();
        assert_eq!(of_pod.addresses(), ["10.1.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(of_pod.result.as_ref().unwrap()["by"], "two");
        let of_one = json!({"cniVersion": "1.0.0", "by": "one", "ips": [{"address": "10.1.0.9/16"}]});
        let first = json!({
            "name": "net", "cniVersion": "1.0.0", "type": "one", "mtu": 9, "capabilities": {"portMappings": true, "ips": false},
            "runtimeConfig": {"portMappings": [{"hostPort": 80}]},
        });
        let second = json!({"name": "net", "cniVersion": "1.0.0", "type": "two", "prevResult": of_one});
        let told = [("one ADD [id /n".to_owned(), first), ("two ADD [id /n".to_owned(), second)];
        assert_eq!(log(&folder), told);

        // Kept and read again, it is undone in reverse, with what has come of it.
        let of_pod = Attachment::of_json(of_pod.to_json()).unwrap();
        of_pod.check(&folder.plugins()).unwrap();
        of_pod.del(&folder.plugins(), true).unwrap();
        let told = log(&folder);
        let heads: Vec<_> = told.iter().map(|(head, _)| head.as_str()).collect();
        assert_eq!(heads, ["one CHECK [id /n", "two CHECK [id /n", "two DEL [id /n", "one DEL [id /n"]);
        assert!(told.iter().all(|(_, input)| input["prevResult"]["by"] == "two"), "{told:?}");
        assert_eq!(told[3].1["runtimeConfig"]["portMappings"][0]["hostPort"], 80);
        of_pod.del(&folder.plugins(), false).unwrap();
        assert_eq!(self::heads(&folder)[0], "two DEL [id ");
        // Who was uninstalled can undo nothing.
        fs::remove_file(folder.path().join("two")).unwrap();
        assert!(of_pod.del(&folder.plugins(), true).is_err());
        of_pod.del(&folder.plugins(), false).unwrap();
    }

    #[test]
    fn the_first_that_fails_ends_add_and_del_goes_on() {
        let (folder, mut of_pod) = (folder(), attachment("0.4.0", ""));
        fs::write(folder.path().join("one.ADD"), r#"{"code": 11, "msg": "later", "details": "busy"}"#)
            .unwrap();
        let error = of_pod.add(&folder.plugins()).unwrap_err().to_string();
        assert_eq!(error, r#"CNI network "net": plugin type="one" failed (add): later; busy"#);
        assert_eq!((heads(&folder).len(), &of_pod.result), (1, &None));
        fs::write(folder.path().join("two.DEL"), "").unwrap();
        let error = of_pod.del(&folder.plugins(), true).unwrap_err().to_string();
        assert!(error.contains(r#"type="two" failed (delete): exit status: 1"#), "{error}");
        assert_eq!(heads(&folder), ["two DEL [id /n", "one DEL [id /n"]);
    }

    #[test]
    fn a_network_without_an_address_is_none() {
        let (folder, mut of_pod) = (folder(), attachment("0.3.1", ""));
        folder.plugin("two", "echo '{}'");
        let error = of_pod.add(&folder.plugins()).unwrap_err().to_string();
        assert!(error.ends_with(r#"type="two" failed (add): its answer has no address of eth0"#), "{error}");
        folder.plugin("two", "echo hello");
        let error = of_pod.add(&folder.plugins()).unwrap_err().to_string();
        assert!(error.contains("its answer is no JSON"), "{error}");
    }

    #[test]
    fn only_what_the_version_and_the_network_have_is_asked_for() {
        let folder = folder();
        let told = |version: &str, more: &str| {
            let mut of_pod = attachment(version, more);
            of_pod.result = Some(json!({"by": "two"}));
            of_pod.check(&folder.plugins()).unwrap();
            collect(&of_pod.network, &["id".to_owned()], &folder.plugins()).unwrap();
            of_pod.del(&folder.plugins(), true).unwrap();
            log(&folder)
        };
        let commands = |told: &[(String, Value)]| {
            let command = |(head, _): &(String, Value)| head.split(' ').nth(1).unwrap().to_owned();
            told.iter().map(command).collect::<Vec<_>>().join(" ")
        };
        let old = told("0.3.1", "");
        assert_eq!((commands(&old).as_str(), old[0].1.get("prevResult")), ("DEL DEL", None));
        assert_eq!(commands(&told("1.0.0", "")), "CHECK CHECK DEL DEL");
        assert_eq!(commands(&told("1.0.0", r#""disableCheck": true,"#)), "DEL DEL");
        assert_eq!(commands(&told("1.1.0", r#""disableGC": true,"#)), "CHECK CHECK DEL DEL");
        let new = told("1.1.0", "");
        assert_eq!(commands(&new), "CHECK CHECK GC GC DEL DEL");
        assert_eq!(new[2].1["cni.dev/valid-attachments"], json!([{"containerID": "id", "ifname": "eth0"}]));
    }
}
