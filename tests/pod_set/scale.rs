//! Many Pods that come after each other: all start and end in order. By hand, what that costs:
//! `PODS=5000 cargo test --test pod_set many_pods -- --nocapture`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podkeep::manifest::{Pod, Uid};
use podkeep::pod::BootTime;
use podkeep::pod::set::{Set, SetCommand, SetEvent};
use podkeep::pod::shutdown::{Period, Shutdown};

use super::{FOLDER, began, gone, holding, id, listed, plain, pod_gone, word};

/// One that all come after, and chains of ten; a file for each, in no order.
fn pods(count: usize) -> Vec<Arc<Pod>> {
    let name = |number: usize| format!("p{number}-");
    let number = |place: usize| place * 7919 % count;
    let pod = |place: usize| {
        let number = number(place);
        let before = (!number.is_multiple_of(10)).then(|| id(&name(number - 1)));
        let base = (number != 0).then(|| id("base"));
        Arc::new(Pod {
            after: before.into_iter().chain(base).collect(),
            ..plain(&format!("{}1", name(number)))
        })
    };
    (0..count).map(pod).chain([Arc::new(plain("base1"))]).collect()
}

struct Stopwatch(Instant);

impl Stopwatch {
    fn lap(&mut self, what: &str) {
        println!("{what}: {} ms", self.0.elapsed().as_millis());
        self.0 = Instant::now();
    }
}

fn in_order(pods: &[Arc<Pod>]) {
    let mut set = Set::new(&[FOLDER], None);
    let mut watch = Stopwatch(Instant::now());
    let file = |pod: &Arc<Pod>| format!("{}.yaml", pod.id.name);
    let mut started = VecDeque::new();
    let starts = |commands: Vec<SetCommand>| {
        commands.into_iter().filter_map(|command| match command {
            SetCommand::Start(pod) => Some(pod),
            _ => None,
        })
    };
    for pod in pods {
        started.extend(starts(set.step(holding(&file(pod), vec![Arc::clone(pod)]))));
    }
    let files: Vec<_> = pods.iter().map(file).collect();
    set.step(listed(&files.iter().map(String::as_str).collect::<Vec<_>>()));
    watch.lap("read");
    let mut count = 0;
    while let Some(pod) = started.pop_front() {
        count += 1;
        set.step(began(&word(&pod.uid)));
        let readiness = SetEvent::Readiness { uid: pod.uid.clone(), id: pod.id.clone(), ready: true };
        started.extend(starts(set.step(readiness)));
    }
    assert_eq!(count, pods.len());
    watch.lap("started");
    let mut stopped: VecDeque<Uid> = VecDeque::new();
    let stops = |commands: Vec<SetCommand>| {
        commands.into_iter().filter_map(|command| match command {
            SetCommand::Stop { uid, .. } => Some(uid),
            _ => None,
        })
    };
    for pod in pods.iter().rev() {
        stopped.extend(stops(set.step(gone(&file(pod)))));
    }
    let mut count = 0;
    while let Some(uid) = stopped.pop_front() {
        count += 1;
        stopped.extend(stops(set.step(pod_gone(&word(&uid)))));
    }
    assert_eq!(count, pods.len());
    watch.lap("removed");
}

fn shut_down(pods: &[Arc<Pod>]) {
    let mut watch = Stopwatch(Instant::now());
    let now = BootTime::from(Duration::from_secs(1));
    let mut shutdown = Shutdown::new(pods.to_vec(), &[Period { priority: 0, within: None }]);
    let mut stopped: VecDeque<Uid> = shutdown.step(None, now).into_iter().map(|(uid, _)| uid).collect();
    let mut count = 0;
    while let Some(uid) = stopped.pop_front() {
        count += 1;
        stopped.extend(shutdown.step(Some(&uid), now).into_iter().map(|(uid, _)| uid));
    }
    assert_eq!(count, pods.len());
    watch.lap("shut down");
}

#[test]
fn many_pods_start_and_end_in_order() {
    let count = std::env::var("PODS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    println!("{count} Pods without an order");
    let plain: Vec<_> =
        pods(count).iter().map(|pod| Arc::new(Pod { after: Vec::new(), ..(**pod).clone() })).collect();
    in_order(&plain);
    println!("{count} Pods that come after each other");
    in_order(&pods(count));
    shut_down(&pods(count));
}
