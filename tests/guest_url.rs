//! A node that takes Pods from a URL, beside its folder: whatever becomes of the server and of podkeep, they run on.
//!
//! Run with `scripts/vm test guest_url`; anywhere else these tests fail.

mod harness;
#[path = "registry/server.rs"]
#[allow(dead_code)]
mod server;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use harness::manifest::shell_pod;
use harness::{Node, Options, Site, kill, process, wait_until};
use server::{Answer, End, Server};

const EMPTY_LIST: &str = r#"{"apiVersion": "v1", "kind": "List", "items": []}"#;

/// A server of manifests that can be taken away and brought back.
struct Manifests {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    server: Option<Server>,
}

impl Manifests {
    fn start(text: &str) -> Manifests {
        let answer = Arc::new(Mutex::new(Answer::ok(text)));
        let mut manifests = Manifests { address: "127.0.0.1:0".parse().unwrap(), answer, server: None };
        manifests.up();
        manifests
    }

    fn up(&mut self) {
        let answer = self.answer.clone();
        let server = Server::start_at(self.address, move |_| answer.lock().unwrap().clone());
        self.address = server.address;
        self.server = Some(server);
    }

    fn down(&mut self) {
        self.server.take().unwrap().stop();
    }

    /// Answers so from now on.
    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// A node that asks it every second.
    fn site(&self) -> Site {
        let site = Site::new(Options::default());
        self.configure(&site);
        site
    }

    fn configure(&self, site: &Site) {
        site.configure(&format!(
            "staticPodURL: http://me:sesame1@{}/pods?token=sesame2\nhttpCheckFrequency: 1s\n\
             staticPodURLHeader: {{X-Token: [sesame3]}}\n",
            self.address
        ));
    }
}

fn sleeping(name: &str, version: u32) -> String {
    shell_pod(name, &format!("echo {version}; exec sleep 1000"))
}

fn list_of(pods: &[String]) -> String {
    let items: String =
        pods.iter().map(|pod| format!("- {}\n", pod.trim_end().replace('\n', "\n  "))).collect();
    format!("apiVersion: v1\nkind: List\nitems:\n{items}")
}

fn wait_problem(node: &Node, part: &str) {
    node.wait_for(part, |list| list.problems().iter().any(|problem| problem.contains(part)).then_some(()));
}

fn wait_no_problem(node: &Node) {
    node.wait_for("no problem", |list| list.problems().is_empty().then_some(()));
}

fn wait_another(node: &Node, pod: &str, first: u32) -> u32 {
    node.wait_for(&format!("another {pod} runs"), |list| {
        list.pod(pod)?.container("main")?.running_pid().filter(|pid| *pid != first)
    })
}

#[test]
fn pods_come_from_a_url_change_with_it_and_go_with_an_empty_list() {
    let manifests = Manifests::start(&list_of(&[sleeping("web", 1), sleeping("db", 1)]));
    let node = Node::start_in(manifests.site());
    node.manifest("local.yaml", &sleeping("local", 1));
    let (web, db) = (node.wait_running("web", "main"), node.wait_running("db", "main"));
    let local = node.wait_running("local", "main");

    manifests.say(Answer::ok(list_of(&[sleeping("web", 2), sleeping("db", 1)])));
    let web = wait_another(&node, "web", web);
    assert_eq!(node.wait_running("db", "main"), db);

    for (answer, problem) in [
        (Answer::new(500, "oh"), "the server answered 500"),
        (Answer::ok(""), "the answer is empty"),
        (Answer::ok("null\n"), "the answer is empty"),
        (Answer::ok("<html>log in</html>"), "expected an object"),
        (Answer::ok("kind: Pod").ending(End::CutAfter(2)), "broke"),
        (Answer::ok("kind: Pod").ending(End::SilenceAfter(2)), "no whole answer within 10 seconds"),
    ] {
        manifests.say(answer);
        wait_problem(&node, problem);
        assert_eq!(
            (node.wait_running("web", "main"), node.wait_running("db", "main")),
            (web, db),
            "{problem}"
        );
    }
    manifests.say(Answer::ok(list_of(&[sleeping("web", 2)])));
    node.wait_gone("db");
    wait_no_problem(&node);
    assert_eq!(node.wait_running("web", "main"), web);
    manifests.say(Answer::ok(EMPTY_LIST));
    node.wait_gone("web");
    assert_eq!(node.wait_running("local", "main"), local);

    let log = node.node_log_text();
    assert!(log.contains("answers again"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
    let secret = fs::read_dir(node.run()).unwrap().flatten().filter(|entry| {
        entry.path().is_file() && fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("sesame"))
    });
    for file in secret {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    node.stop();
}

#[test]
fn what_came_from_a_url_that_is_away_runs_on_and_comes_up_again() {
    let mut manifests = Manifests::start(&sleeping("web", 1));
    let node = Node::start_in(manifests.site());
    node.manifest("local.yaml", &sleeping("local", 1));
    let first = node.wait_running("web", "main");
    let local = node.wait_running("local", "main");

    manifests.down();
    wait_problem(&node, "cannot connect");
    assert_eq!(node.wait_running("web", "main"), first);
    let saved = node.root().join("manifests");
    wait_until("the last good versions are kept", || {
        (fs::read_dir(&saved).ok()?.flatten().filter(|entry| entry.path().extension().is_some()).count() == 2)
            .then_some(())
    });

    let worker = node.worker().unwrap();
    kill(worker, Signal::KILL);
    wait_until("another worker", || node.worker().filter(|pid| *pid != worker));
    wait_problem(&node, "its last good version stays: default/web");
    assert_eq!(node.wait_running("web", "main"), first);

    // While nobody looks, a file goes. The URL, which does not answer, must not keep its Pod.
    let (site, _) = node.end(Signal::USR1);
    site.remove("local.yaml");
    // The volumes of a Pod of which nothing else is known: only the URL can say that nobody wants them.
    let volumes = site.root().join("pods/00000000000000000000000000000001");
    fs::create_dir(&volumes).unwrap();
    let node = Node::start_in(site);
    node.wait_gone("local");
    assert!(volumes.exists());
    assert_eq!(process::status(local, "State"), None);
    wait_problem(&node, "cannot connect");
    assert_eq!(node.wait_running("web", "main"), first);

    // As after a power cut: nothing runs any more, and the server is still away.
    let site = node.stop();
    let node = Node::start_in(site);
    let second = node.wait_running("web", "main");
    assert_ne!(second, first);

    manifests.up();
    wait_no_problem(&node);
    assert_eq!(node.wait_running("web", "main"), second);
    wait_until("volumes that nobody wants are gone", || (!volumes.exists()).then_some(()));
    manifests.say(Answer::ok(EMPTY_LIST));
    node.wait_gone("web");
}

#[test]
fn a_name_in_both_sources_is_reported_and_what_runs_stays() {
    let manifests = Manifests::start(&sleeping("web", 1));
    let node = Node::start_in(manifests.site());
    let first = node.wait_running("web", "main");
    node.manifest("web.yaml", &sleeping("web", 2));
    wait_problem(&node, "is already asked for by http://127.0.0.1");
    assert_eq!(node.wait_running("web", "main"), first);

    // The same Pod in both: it moves from the URL to the file.
    node.manifest("web.yaml", &sleeping("web", 1));
    let other = "is already asked for";
    node.wait_for("the move", |list| list.problems().iter().any(|p| p.contains(other)).then_some(()));
    manifests.say(Answer::ok(EMPTY_LIST));
    wait_no_problem(&node);
    assert_eq!(node.wait_running("web", "main"), first);
    node.remove("web.yaml");
    node.wait_gone("web");
}

#[test]
fn a_url_that_is_taken_out_of_the_configuration_takes_its_pods_along_and_another_one_when_it_answers() {
    let mut manifests = Manifests::start(&sleeping("web", 1));
    let node = Node::start_in(manifests.site());
    let first = node.wait_running("web", "main");
    manifests.down();
    // Another port: another URL, which is not there yet.
    manifests.address = "127.0.0.1:8".parse().unwrap();
    manifests.configure(&node);
    node.signal(Signal::HUP);
    wait_problem(&node, "127.0.0.1:8/pods: cannot connect");
    assert_eq!(node.wait_running("web", "main"), first);
    manifests.say(Answer::ok(list_of(&[sleeping("web", 1), sleeping("new", 1)])));
    manifests.up();
    let new = node.wait_running("new", "main");
    assert_eq!(node.wait_running("web", "main"), first);

    node.configure("");
    node.signal(Signal::HUP);
    node.wait_gone("web");
    node.wait_gone("new");
    assert_eq!(process::status(new, "State"), None);
}
