//! The set of Pods: examples from daily use, and laws that hold whatever happens in whatever order.

#[path = "pod_set/found.rs"]
mod found;
#[path = "pod_set/scale.rs"]
mod scale;
#[path = "pod_set/world.rs"]
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use podkeep::manifest::object::{Hidden, Object, ObjectId, ObjectKind};
use podkeep::manifest::{Pod, PodId, Uid};
use podkeep::pod::set::{Good, Origin, Problem, Set, SetCommand, SetEvent, SourceId, StopReason};

const FOLDER: SourceId = SourceId(0);
const URL: SourceId = SourceId(1);

/// `web1` is the Pod `web` with the content `1`, which takes the place of another one the kubelet's way.
fn pod(text: &str) -> Arc<Pod> {
    Arc::new(Pod { recreate: true, ..plain(text) })
}

/// The same, and first it must be known that it can be prepared.
fn careful(text: &str) -> Arc<Pod> {
    Arc::new(plain(text))
}

/// The same, and it comes after others.
fn after(text: &str, others: &[&str]) -> Arc<Pod> {
    let after = others.iter().map(|name| id(name)).collect();
    Arc::new(Pod { recreate: true, after, ..plain(text) })
}

fn plain(text: &str) -> Pod {
    let (name, _) = text.split_at(text.len() - 1);
    Pod {
        termination_grace: Duration::ZERO,
        node_name: "node".to_owned(),
        ..Pod::plain(id(name), uid(text), Vec::new())
    }
}

fn id(name: &str) -> PodId {
    PodId { namespace: "default".to_owned(), name: name.to_owned() }
}

fn uid(text: &str) -> Uid {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    Uid::parse(&format!("{hex:0>32}")).unwrap()
}

fn word(uid: &Uid) -> String {
    let hex = uid.as_str().trim_start_matches('0');
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap() as char;
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn origin(file: &str) -> Origin {
    Origin { source: FOLDER, file: PathBuf::from(file) }
}

fn pods(texts: &[&str]) -> Vec<Arc<Pod>> {
    texts.iter().map(|text| pod(text)).collect()
}

fn read(file: &str, texts: &[&str]) -> SetEvent {
    holding(file, pods(texts))
}

fn holding(file: &str, pods: Vec<Arc<Pod>>) -> SetEvent {
    SetEvent::FileRead { origin: origin(file), pods, objects: Vec::new() }
}

fn rehearsed(text: &str) -> SetEvent {
    SetEvent::Rehearsed { uid: uid(text), id: pod(text).id.clone() }
}

fn rehearsal_failed(text: &str, why: &str) -> SetEvent {
    SetEvent::RehearsalFailed { uid: uid(text), id: pod(text).id.clone(), message: why.to_owned() }
}

fn is_ready(text: &str, ready: bool) -> SetEvent {
    SetEvent::Readiness { uid: uid(text), id: pod(text).id.clone(), ready }
}

fn began(text: &str) -> SetEvent {
    SetEvent::Began { uid: uid(text), id: pod(text).id.clone() }
}

/// `key1` is the Secret `key` with the content `1`.
fn holds(file: &str, texts: &[&str]) -> SetEvent {
    SetEvent::FileRead { origin: origin(file), pods: Vec::new(), objects: secrets(texts) }
}

/// Before this worker, it did.
fn held(file: &str, texts: &[&str]) -> SetEvent {
    SetEvent::ObjectsRestored { origin: origin(file), objects: secrets(texts) }
}

fn secrets(texts: &[&str]) -> Vec<Arc<Object>> {
    let secret = |text: &&str| {
        let (name, content) = text.split_at(text.len() - 1);
        let content = Hidden::new(content.as_bytes().to_vec());
        let data = [("key".to_owned(), content)].into();
        let (type_, binary) = ("Opaque".to_owned(), Default::default());
        Arc::new(Object { id: secret_id(name), type_, data, binary, sealed: Vec::new(), place: (1, 1) })
    };
    texts.iter().map(secret).collect()
}

fn secret_id(name: &str) -> ObjectId {
    ObjectId { kind: ObjectKind::Secret, namespace: "default".to_owned(), name: name.to_owned() }
}

fn gone(file: &str) -> SetEvent {
    SetEvent::FileGone { origin: origin(file) }
}

fn broken(file: &str) -> SetEvent {
    SetEvent::FileBroken { origin: origin(file), message: "line 1".to_owned() }
}

fn restored(file: &str, texts: &[&str]) -> SetEvent {
    SetEvent::Restored { origin: origin(file), pods: good(texts, false) }
}

/// They ran on an earlier boot.
fn ran(file: &str, texts: &[&str]) -> SetEvent {
    SetEvent::Restored { origin: origin(file), pods: good(texts, true) }
}

fn good(texts: &[&str], ran: bool) -> Vec<Good> {
    pods(texts).into_iter().map(|pod| Good { pod, ran }).collect()
}

fn listed(files: &[&str]) -> SetEvent {
    SetEvent::Listed { source: FOLDER, files: files.iter().map(PathBuf::from).collect() }
}

fn adopted(text: &str) -> SetEvent {
    SetEvent::Adopted { pod: pod(text), stopping: false, ready: false, ran: true }
}

fn pod_gone(text: &str) -> SetEvent {
    SetEvent::PodGone { uid: uid(text), id: pod(text).id.clone() }
}

fn set() -> Set {
    Set::new(&[FOLDER], None)
}

/// What the URL `file` asks for.
fn at_url(file: &str) -> Origin {
    Origin { source: URL, file: PathBuf::from(file) }
}

fn answered(file: &str, texts: &[&str]) -> SetEvent {
    SetEvent::FileRead { origin: at_url(file), pods: pods(texts), objects: Vec::new() }
}

/// What is started, stopped and reported, in words; what is saved is left out.
fn words(commands: Vec<SetCommand>) -> Vec<String> {
    commands.iter().filter_map(in_a_word).collect()
}

fn in_a_word(command: &SetCommand) -> Option<String> {
    match command {
        SetCommand::Start(pod) => Some(format!("start {}", word(&pod.uid))),
        SetCommand::Rehearse(pod) => Some(format!("rehearse {}", word(&pod.uid))),
        SetCommand::Proceed { uid } => Some(format!("proceed {}", word(uid))),
        SetCommand::Stop { uid, why: StopReason::Removed } => Some(format!("remove {}", word(uid))),
        SetCommand::Stop { uid, why: StopReason::Replaced } => Some(format!("replace {}", word(uid))),
        SetCommand::SaveGood { .. } | SetCommand::ForgetGood { .. } | SetCommand::Discard { .. } => None,
        SetCommand::Report(Problem::Broken { origin, .. }) => {
            Some(format!("broken {}", origin.file.display()))
        }
        SetCommand::Report(Problem::Duplicate { origin, kept, .. }) => {
            Some(format!("duplicate {} of {}", origin.file.display(), kept.file.display()))
        }
        SetCommand::ObjectChanged(id) => Some(format!("secret {}", id.name)),
        SetCommand::Report(Problem::DuplicateObject { origin, kept, .. }) => {
            Some(format!("duplicate secret {} of {}", origin.file.display(), kept.file.display()))
        }
        SetCommand::Report(Problem::OutOfPods { id, .. }) => Some(format!("waits {}", id.name)),
        SetCommand::Report(Problem::NotReplaced { id, message, .. }) => {
            Some(format!("keeps {}: {message}", id.name))
        }
        SetCommand::Report(Problem::Waits { id, after, .. }) => {
            Some(format!("{} waits for {}", id.name, names(after)))
        }
        SetCommand::Report(Problem::Circle { ids }) => Some(format!("circle {}", names(ids))),
    }
}

fn names(ids: &[PodId]) -> String {
    ids.iter().map(|id| id.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// Runs a story: each event with what it leads to.
fn story(mut set: Set, steps: Vec<(SetEvent, &[&str])>) -> Set {
    for (event, expected) in steps {
        let told = format!("{event:?}");
        assert_eq!(words(set.step(event)), expected, "after {told}");
    }
    set
}

#[test]
fn an_edit_replaces_and_only_the_last_of_several_counts() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (read("a", &["web2"]), &["replace web1"]),
            (read("a", &["web3"]), &[]),
            (pod_gone("web1"), &["start web3"]),
        ],
    );
}

#[test]
fn a_touch_and_a_rename_do_nothing() {
    let set = story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (read("a", &["web1"]), &[]),
            (read("b", &["web1"]), &[]),
            (gone("a"), &[]),
            (read("b", &["web2"]), &["replace web1"]),
        ],
    );
    assert_eq!(set.origin(&id("web")), Some(&origin("b")));
    assert_eq!(set.problems(), []);
}

#[test]
fn a_rename_heard_in_the_other_order_starts_the_pod_again_once() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (gone("a"), &["remove web1"]),
            (read("b", &["web1"]), &[]),
            (pod_gone("web1"), &["start web1"]),
        ],
    );
}

#[test]
fn the_first_of_two_files_keeps_the_name_until_it_goes() {
    let set = story(
        set(),
        vec![
            (read("b", &["web1"]), &["start web1"]),
            (read("a", &["web2"]), &["duplicate a of b"]),
            (read("a", &["web2"]), &[]),
            (read("b", &["web3"]), &["replace web1"]),
            (pod_gone("web1"), &["start web3"]),
            (gone("b"), &["replace web3"]),
            (pod_gone("web3"), &["start web2"]),
        ],
    );
    assert_eq!(set.problems(), []);
}

#[test]
fn an_edit_wins_over_an_older_copy() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (read("copy", &["web1"]), &[]),
            (read("a", &["web2"]), &["replace web1", "duplicate copy of a"]),
        ],
    );
}

#[test]
fn of_those_that_wait_the_one_that_asks_for_what_runs_takes_over() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (read("b", &["web2"]), &["duplicate b of a"]),
            (read("c", &["web1"]), &[]),
            (gone("a"), &["duplicate b of c"]),
        ],
    );
}

#[test]
fn a_broken_file_keeps_its_last_good_pods() {
    let set = story(
        set(),
        vec![
            (read("a", &["web1", "db1"]), &["start web1", "start db1"]),
            (broken("a"), &["broken a"]),
            (broken("a"), &[]),
        ],
    );
    let keeps = vec![id("web"), id("db")];
    assert_eq!(
        set.problems(),
        [Problem::Broken { origin: origin("a"), message: "line 1".to_owned(), keeps }]
    );
    let set = story(set, vec![(read("a", &["web1", "db1"]), &[])]);
    assert_eq!(set.problems(), []);
}

#[test]
fn of_two_secrets_with_one_name_the_first_counts() {
    let set = story(
        set(),
        vec![
            (holds("a", &["key1", "other1"]), &["secret key", "secret other"]),
            (holds("b", &["key2"]), &["duplicate secret b of a"]),
            (holds("a", &["key3", "other1"]), &["secret key"]),
            (broken("a"), &["broken a"]),
        ],
    );
    assert_eq!(set.objects().get(&secret_id("key")).unwrap().data["key"].bytes(), b"3");
    let set = story(set, vec![(gone("a"), &["secret key", "secret other"])]);
    assert_eq!(set.objects().get(&secret_id("key")).unwrap().data["key"].bytes(), b"2");
    assert_eq!(set.objects().get(&secret_id("other")), None);
}

#[test]
fn what_a_broken_file_held_before_this_worker_counts_until_it_says_otherwise() {
    let set = story(
        set(),
        vec![
            (held("a", &["key1", "other1"]), &["secret key", "secret other"]),
            (broken("a"), &["broken a"]),
            (held("b", &["third1"]), &["secret third"]),
            // Of the folder that could not be listed there is this one only, by now.
            (listed(&["a"]), &["secret third"]),
            (holds("a", &["key1", "other2"]), &["secret other"]),
        ],
    );
    assert_eq!(set.objects().get(&secret_id("third")), None);
    assert_eq!(set.objects().get(&secret_id("other")).unwrap().data["key"].bytes(), b"2");
}

#[test]
fn a_secret_that_moves_to_another_file_is_no_change() {
    let steps: Vec<(_, &[_])> = vec![
        (holds("a", &["key1"]), &["secret key"]),
        (holds("b", &["key1"]), &[]),
        (gone("a"), &[]),
        (holds("b", &["key1"]), &[]),
        (gone("b"), &["secret key"]),
    ];
    story(set(), steps);
}

#[test]
fn the_pods_of_one_file_are_handled_one_by_one() {
    story(
        set(),
        vec![
            (read("a", &["web1", "db1", "log1"]), &["start web1", "start db1", "start log1"]),
            (read("a", &["web1", "db2", "new1"]), &["replace db1", "remove log1", "start new1"]),
        ],
    );
}

#[test]
fn those_beyond_the_limit_wait_in_order_and_a_replacement_keeps_its_place() {
    story(
        Set::new(&[FOLDER], Some(1)),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (read("b", &["zoo1"]), &["waits zoo"]),
            (read("c", &["db1"]), &["waits db"]),
            (read("a", &["web2"]), &["replace web1"]),
            (pod_gone("web1"), &["start web2"]),
            (gone("a"), &["remove web2"]),
            (pod_gone("web2"), &["start zoo1"]),
        ],
    );
}

#[test]
fn a_replacement_goes_before_one_that_came_earlier_and_waits() {
    story(
        Set::new(&[FOLDER], Some(1)),
        vec![
            (restored("a", &["old1"]), &[]),
            (read("b", &["web1"]), &["start web1"]),
            (listed(&["a", "b"]), &["waits old"]),
            (read("b", &["web2"]), &["replace web1"]),
            (pod_gone("web1"), &["start web2"]),
        ],
    );
}

#[test]
fn a_restored_pod_starts_when_nothing_newer_is_to_be_had() {
    story(
        set(),
        vec![
            (restored("a", &["web1"]), &[]),
            (restored("b", &["db1"]), &[]),
            (restored("c", &["log1"]), &[]),
            (restored("d", &["old1"]), &[]),
            (read("a", &["web2"]), &["start web2"]),
            (broken("b"), &["start db1", "broken b"]),
            (listed(&["a", "b", "c"]), &["start log1"]),
        ],
    );
    story(
        set(),
        vec![(restored("a", &["web1"]), &[]), (SetEvent::Unlistable { source: FOLDER }, &["start web1"])],
    );
}

#[test]
fn a_source_that_does_not_answer_keeps_no_pod_of_the_other() {
    let set = story(
        Set::new(&[FOLDER, URL], None),
        vec![
            (adopted("file1"), &[]),
            (adopted("url1"), &[]),
            (adopted("lost1"), &[]),
            (restored("a", &["file1"]), &[]),
            (SetEvent::Restored { origin: at_url("u"), pods: good(&["url1", "new1"], false) }, &[]),
            (listed(&[]), &["remove file1"]),
            (
                SetEvent::FileBroken { origin: at_url("u"), message: "down".to_owned() },
                &["start new1", "broken u"],
            ),
            (SetEvent::Unlistable { source: URL }, &[]),
        ],
    );
    // Of `lost` nothing was saved: it may be the URL's.
    assert!(!set.is_listed());
    let set = story(
        set,
        vec![
            (answered("u", &["url1"]), &["remove new1"]),
            (SetEvent::Listed { source: URL, files: vec!["u".into()] }, &["remove lost1"]),
        ],
    );
    assert!(set.is_listed());
}

#[test]
fn of_another_url_nothing_goes_before_the_new_one_has_answered() {
    story(
        Set::new(&[FOLDER, URL], None),
        vec![
            (adopted("web1"), &[]),
            (SetEvent::Restored { origin: at_url("old"), pods: good(&["web1", "db1"], false) }, &[]),
            (SetEvent::FileBroken { origin: at_url("new"), message: "down".to_owned() }, &["broken new"]),
            (SetEvent::Unlistable { source: URL }, &["start db1"]),
            (answered("new", &["web1"]), &[]),
            (SetEvent::Listed { source: URL, files: vec!["new".into()] }, &["remove db1"]),
        ],
    );
}

#[test]
fn the_same_pod_moves_from_one_source_to_the_other_without_a_restart() {
    story(
        Set::new(&[FOLDER, URL], None),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (answered("u", &["web1"]), &[]),
            (gone("a"), &[]),
            (read("a", &["web2"]), &["duplicate a of u"]),
            (answered("u", &[]), &["replace web1"]),
        ],
    );
}

#[test]
fn an_adopted_pod_runs_on_until_the_listing_says_otherwise() {
    story(
        set(),
        vec![
            (restored("a", &["web1"]), &[]),
            (adopted("web1"), &[]),
            (adopted("db1"), &[]),
            (read("c", &["log1"]), &["start log1"]),
            (listed(&["c"]), &["remove db1", "remove web1"]),
        ],
    );
    story(
        set(),
        vec![
            (restored("a", &["web1"]), &[]),
            (adopted("web1"), &[]),
            (read("a", &["web2"]), &["replace web1"]),
        ],
    );
}

/// What is saved of the file, or that it is forgotten: `web1+` ran. In the order in which it is asked for.
fn saves(commands: &[SetCommand]) -> Vec<String> {
    let shown = |good: &Good| format!("{}{}", word(&good.pod.uid), if good.ran { "+" } else { "" });
    let save = |command: &SetCommand| match command {
        SetCommand::SaveGood { origin, pods } => {
            let pods: Vec<_> = pods.iter().map(shown).collect();
            Some(format!("{}: {}", origin.file.display(), pods.join(" ")))
        }
        SetCommand::ForgetGood { origin } => Some(format!("{} forgotten", origin.file.display())),
        SetCommand::Discard { uid } => Some(format!("{} discarded", word(uid))),
        _ => None,
    };
    commands.iter().filter_map(save).collect()
}

#[test]
fn the_last_good_version_is_the_one_that_ran_last() {
    let mut set = set();
    let mut after = |event: SetEvent, expected: &[&str]| {
        let told = format!("{event:?}");
        assert_eq!(saves(&set.step(event)), expected, "after {told}");
    };
    // Before anything ran, what the file says is better than nothing.
    after(read("a", &["web1", "db1"]), &["a: web1 db1"]);
    after(read("a", &["web1", "db1"]), &[]);
    after(read("a", &["web2", "db1"]), &["web1 discarded", "a: web2 db1"]);
    after(pod_gone("web1"), &[]);
    after(began("web2"), &["a: web2+ db1"]);
    after(began("web2"), &[]);
    after(holding("a", vec![careful("web3"), pod("db1")]), &[]);
    after(rehearsal_failed("web3", "no image"), &[]);
    after(broken("a"), &[]);
    after(rehearsed("web3"), &[]);
    // The old one is gone, and the new one has not run yet.
    after(pod_gone("web2"), &[]);
    after(began("web3"), &["web2 discarded", "a: web3+ db1"]);
    // What runs under another file's name is that file's.
    after(holding("b", vec![careful("web4")]), &["b: web4"]);
    after(gone("a"), &["a forgotten", "web3 discarded", "db1 discarded", "web4 discarded", "b: web3+"]);
    after(gone("a"), &[]);
    after(restored("c", &["log1"]), &[]);
    after(read("c", &["log1"]), &[]);
    after(began("log1"), &["c: log1+"]);
}

#[test]
fn after_a_power_cut_what_ran_runs_on_until_its_new_version_can_be_had() {
    let set = story(
        set(),
        vec![
            (ran("a", &["web1"]), &[]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (listed(&["a"]), &[]),
            (rehearsal_failed("web2", "no image"), &["start web1", "keeps web: no image"]),
            (began("web1"), &[]),
            (rehearsed("web2"), &["replace web1"]),
            (pod_gone("web1"), &["proceed web2"]),
        ],
    );
    assert_eq!(set.problems(), []);
}

#[test]
fn a_version_that_is_there_at_once_is_started_instead_of_the_one_that_ran() {
    story(
        set(),
        vec![
            (ran("a", &["web1"]), &[]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (rehearsed("web2"), &["proceed web2"]),
            (SetEvent::TakesTime, &[]),
        ],
    );
    story(
        set(),
        vec![
            (ran("a", &["web1"]), &[]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (SetEvent::TakesTime, &["start web1"]),
            (SetEvent::TakesTime, &[]),
            (rehearsed("web2"), &["replace web1"]),
        ],
    );
}

#[test]
fn what_never_ran_is_not_waited_for_nor_what_shall_be_recreated() {
    story(
        set(),
        vec![
            (restored("a", &["web1"]), &[]),
            (ran("b", &["db1"]), &[]),
            (holding("a", vec![careful("web2")]), &["start web2"]),
            (holding("b", vec![pod("db2")]), &["start db2"]),
        ],
    );
}

#[test]
fn what_ran_and_is_asked_for_no_more_comes_back_no_more() {
    let steps: Vec<(_, &[_])> = vec![
        (ran("a", &["web1", "db1"]), &[]),
        (ran("b", &["log1"]), &[]),
        (holding("a", vec![careful("web2")]), &["rehearse web2"]),
        (listed(&["a"]), &[]),
        (gone("a"), &["remove web2"]),
        (pod_gone("web2"), &[]),
        (holding("a", vec![careful("web2")]), &["start web2"]),
    ];
    story(set(), steps);
}

#[test]
fn what_ran_waits_for_its_place_and_its_turn() {
    story(
        Set::new(&[FOLDER], Some(1)),
        vec![
            (ran("a", &["web1"]), &[]),
            (read("b", &["db1"]), &["start db1"]),
            (holding("a", vec![careful("web2")]), &["rehearse web2", "waits web"]),
            (SetEvent::TakesTime, &[]),
            (gone("b"), &["remove db1"]),
            (pod_gone("db1"), &["start web1"]),
        ],
    );
    let good = vec![Good { pod: after("web1", &["db"]), ran: true }];
    story(
        set(),
        vec![
            (SetEvent::Restored { origin: origin("a"), pods: good }, &[]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (rehearsal_failed("web2", "no image"), &[]),
            (read("b", &["db1"]), &["start db1"]),
            (is_ready("db1", true), &["start web1", "keeps web: no image"]),
        ],
    );
}

#[test]
fn a_circle_that_an_edit_closed_keeps_nothing_from_coming_back() {
    let good = vec![Good { pod: after("web1", &["db"]), ran: true }, Good { pod: pod("db1"), ran: true }];
    let edited = Arc::new(Pod { recreate: false, ..(*after("db2", &["web"])).clone() });
    story(
        set(),
        vec![
            (SetEvent::Restored { origin: origin("a"), pods: good }, &[]),
            (holding("a", vec![after("web1", &["db"]), edited]), &["start db1", "circle db web"]),
            (is_ready("db1", true), &["start web1"]),
        ],
    );
}

#[test]
fn what_runs_is_replaced_first_when_its_new_version_can_be_prepared() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (rehearsal_failed("web2", "no image"), &["keeps web: no image"]),
            (rehearsal_failed("web2", "no image"), &[]),
            (rehearsed("web2"), &["replace web1"]),
            (pod_gone("web1"), &["proceed web2"]),
            (holding("a", vec![careful("web2")]), &[]),
        ],
    );
}

#[test]
fn of_several_edits_only_the_last_is_rehearsed_to_its_end() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (holding("a", vec![careful("web3")]), &["replace web2"]),
            (rehearsed("web2"), &[]),
            (holding("a", vec![careful("web2")]), &[]),
            (pod_gone("web2"), &["rehearse web2"]),
            // Back to what runs.
            (read("a", &["web1"]), &["replace web2"]),
            (pod_gone("web2"), &[]),
        ],
    );
}

#[test]
fn an_edit_while_the_old_version_ends_counts() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (rehearsed("web2"), &["replace web1"]),
            (holding("a", vec![careful("web3")]), &["replace web2"]),
            (holding("a", vec![careful("web2")]), &[]),
            (pod_gone("web1"), &[]),
            (pod_gone("web2"), &["start web2"]),
        ],
    );
}

#[test]
fn a_pod_that_goes_takes_its_new_version_with_it() {
    story(
        set(),
        vec![
            (read("a", &["web1"]), &["start web1"]),
            (holding("a", vec![careful("web2")]), &["rehearse web2"]),
            (gone("a"), &["remove web2", "remove web1"]),
            (pod_gone("web2"), &[]),
            (pod_gone("web1"), &[]),
            (holding("a", vec![careful("web2")]), &["start web2"]),
        ],
    );
}

#[test]
fn a_pod_starts_when_those_are_ready_that_it_comes_after() {
    let set = story(
        set(),
        vec![
            (holding("a", vec![after("web1", &["db", "log"])]), &["web waits for db log"]),
            (read("b", &["db1", "log1"]), &["start db1", "start log1"]),
            (is_ready("log1", true), &["web waits for db"]),
            (is_ready("log1", false), &["web waits for db log"]),
            (is_ready("db1", true), &["web waits for log"]),
            (is_ready("log1", true), &["start web1"]),
            // From then on it runs, whatever becomes of them.
            (is_ready("log1", false), &[]),
            (gone("b"), &["remove db1", "remove log1"]),
        ],
    );
    assert_eq!(set.problems(), []);
}

#[test]
fn those_that_end_together_end_in_reverse() {
    story(
        set(),
        vec![
            (
                holding("a", vec![pod("db1"), after("app1", &["db"]), after("web1", &["app", "db"])]),
                &["start db1", "app waits for db", "web waits for app db"],
            ),
            (is_ready("db1", true), &["start app1", "web waits for app"]),
            (is_ready("app1", true), &["start web1"]),
            (gone("a"), &["remove web1"]),
            (pod_gone("web1"), &["remove app1"]),
            (pod_gone("app1"), &["remove db1"]),
            (pod_gone("db1"), &[]),
        ],
    );
}

#[test]
fn a_circle_starts_nothing_and_is_named() {
    let set = story(
        set(),
        vec![
            (holding("a", vec![after("web1", &["db"])]), &["web waits for db"]),
            (holding("b", vec![after("db1", &["log"]), pod("zoo1")]), &["start zoo1", "db waits for log"]),
            (holding("c", vec![after("log1", &["zoo", "web"])]), &["circle db log web"]),
            (holding("c", vec![pod("log1")]), &["start log1", "db waits for log", "web waits for db"]),
        ],
    );
    assert_eq!(set.problems().len(), 2);
}

#[test]
fn an_edit_that_closes_a_circle_leaves_what_runs() {
    story(
        set(),
        vec![
            (read("a", &["db1"]), &["start db1"]),
            (is_ready("db1", true), &[]),
            (holding("b", vec![after("web1", &["db"])]), &["start web1"]),
            (holding("a", vec![after("db2", &["web"])]), &["circle db web"]),
            // Its new version still comes after one that is not there.
            (gone("b"), &["remove web1", "db waits for web"]),
            (holding("a", vec![pod("db3")]), &[]),
            (pod_gone("web1"), &["replace db1"]),
        ],
    );
}

#[test]
fn what_runs_is_not_replaced_before_its_new_version_may_start() {
    story(
        set(),
        vec![
            (read("a", &["db1"]), &["start db1"]),
            (read("b", &["web1"]), &["start web1"]),
            (holding("b", vec![after("web2", &["db"])]), &["web waits for db"]),
            (is_ready("db1", true), &["replace web1"]),
            (pod_gone("web1"), &["start web2"]),
        ],
    );
}
