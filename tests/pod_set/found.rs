//! What a worker finds: Pods on the machine, versions of before, and news that is late.

use super::*;

#[test]
fn at_start_a_name_is_the_files_that_asks_for_what_runs() {
    story(
        set(),
        vec![
            (adopted("web2"), &[]),
            (restored("a", &["web1"]), &[]),
            (restored("b", &["web2"]), &["duplicate a of b"]),
            (listed(&["a", "b"]), &[]),
        ],
    );
}

#[test]
fn a_pod_that_an_earlier_worker_was_stopping_is_not_stopped_again() {
    let stopping = |pod: Arc<Pod>| SetEvent::Adopted { pod, stopping: true, ready: false, ran: true };
    story(
        set(),
        vec![
            (stopping(pod("web1")), &[]),
            (stopping(pod("db1")), &[]),
            (read("a", &["db1"]), &[]),
            (listed(&["a"]), &[]),
            (pod_gone("web1"), &[]),
            (pod_gone("db1"), &["start db1"]),
        ],
    );
}

#[test]
fn a_pod_that_was_ready_is_so_for_the_next_worker() {
    story(
        set(),
        vec![
            (SetEvent::Adopted { pod: pod("db1"), stopping: false, ready: true, ran: true }, &[]),
            (read("a", &["db1"]), &[]),
            (holding("b", vec![after("web1", &["db"])]), &["start web1"]),
        ],
    );
}

#[test]
fn only_the_version_that_is_there_and_stays_can_be_ready() {
    story(
        set(),
        vec![
            (read("a", &["db1"]), &["start db1"]),
            (is_ready("db1", true), &[]),
            (read("a", &["db2"]), &["replace db1"]),
            (holding("b", vec![after("web1", &["db"])]), &["web waits for db"]),
            (pod_gone("db1"), &["start db2"]),
            // Told late.
            (is_ready("db1", true), &[]),
            (is_ready("db2", true), &["start web1"]),
        ],
    );
}

#[test]
fn an_edit_that_closes_a_circle_is_not_even_rehearsed() {
    let second = Arc::new(Pod { after: vec![id("web")], ..plain("db2") });
    story(
        set(),
        vec![
            (read("a", &["db1"]), &["start db1"]),
            (is_ready("db1", true), &[]),
            (holding("b", vec![after("web1", &["db"])]), &["start web1"]),
            (holding("a", vec![second]), &["circle db web"]),
        ],
    );
}

#[test]
fn versions_on_the_machine_that_come_after_each_other_stop_all_the_same() {
    let adopted = |pod: Arc<Pod>| SetEvent::Adopted { pod, stopping: false, ready: true, ran: true };
    story(
        set(),
        vec![
            (adopted(after("web1", &["db"])), &[]),
            (adopted(after("db1", &["web"])), &[]),
            (listed(&[]), &["remove db1", "remove web1"]),
        ],
    );
}

#[test]
fn a_circle_is_open_when_a_listing_lacks_one_of_its_files() {
    let restored = |file: &str, pod: Arc<Pod>| {
        let pods = vec![Good { pod, ran: false }];
        SetEvent::Restored { origin: origin(file), pods }
    };
    story(
        set(),
        vec![
            (restored("a", after("web1", &["db"])), &[]),
            (restored("b", after("db1", &["web"])), &["circle db web"]),
            (listed(&["a"]), &["web waits for db"]),
        ],
    );
}
