//! Thresholds, delays and periods by hand.

use super::*;
use crate::manifest::pod::ProbeAction;

fn at(seconds: u64) -> BootTime {
    BootTime::from(Duration::from_secs(seconds))
}

fn spec(initial_delay: u64, success_threshold: u32, failure_threshold: u32) -> Probe {
    Probe {
        action: ProbeAction::Exec(vec!["true".into()]),
        initial_delay: Duration::from_secs(initial_delay),
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold,
        failure_threshold,
        termination_grace: None,
    }
}

fn failure() -> Outcome {
    Outcome::Failure("no".into())
}

#[test]
fn readiness_begins_as_a_failure_and_changes_at_its_thresholds() {
    let specs = Probes { readiness: Some(spec(5, 2, 3)), ..Probes::default() };
    let mut probing = Probing::begin(&specs, at(0));
    let mut ready = Vec::new();
    for turn in 0..8 {
        let now = at(5 + 10 * turn);
        assert_eq!(probing.deadline(false), Some(now), "a delay, then every period");
        assert_eq!(probing.ask(false, now), [ProbeKind::Readiness]);
        let outcome = if matches!(turn, 0 | 1 | 3) { Outcome::Success } else { failure() };
        assert!(!probing.take_in(&specs, ProbeKind::Readiness, &outcome, at(0), now));
        ready.push(probing.is_ready(&specs));
    }
    assert_eq!(ready, [false, true, true, true, true, true, false, false]);
}

#[test]
fn liveness_waits_for_the_startup_probe_and_is_on_hold_once_it_has_failed() {
    let specs = Probes {
        startup: Some(spec(0, 1, 3)),
        liveness: Some(spec(30, 1, 2)),
        readiness: Some(spec(0, 1, 1)),
    };
    let mut probing = Probing::begin(&specs, at(0));
    assert_eq!(probing.ask(false, at(0)), [ProbeKind::Startup]);
    assert!(!probing.take_in(&specs, ProbeKind::Startup, &failure(), at(0), at(1)));
    assert_eq!(probing.ask(false, at(10)), [ProbeKind::Startup]);
    assert!(!probing.has_started(&specs));
    assert!(!probing.take_in(&specs, ProbeKind::Startup, &Outcome::Success, at(0), at(11)));
    assert!(probing.has_started(&specs));
    assert_eq!(probing.ask(false, at(11)), [ProbeKind::Readiness], "the delay counts from the start");
    assert!(!probing.take_in(&specs, ProbeKind::Readiness, &Outcome::Success, at(0), at(11)));
    let both = vec![ProbeKind::Liveness, ProbeKind::Readiness];
    for (now, fails, asked) in [(30, false, both), (40, true, vec![ProbeKind::Liveness])] {
        assert_eq!(probing.ask(false, at(now)), asked, "never again for startup");
        assert_eq!(probing.take_in(&specs, ProbeKind::Liveness, &failure(), at(0), at(now)), fails);
    }
    let asked = probing.ask(false, at(1000));
    assert!(!asked.contains(&ProbeKind::Liveness) && !asked.contains(&ProbeKind::Startup), "{asked:?}");
}

#[test]
fn a_startup_probe_that_fails_for_good_ends_the_container() {
    let specs = Probes { startup: Some(spec(0, 1, 2)), ..Probes::default() };
    let mut probing = Probing::begin(&specs, at(0));
    for (now, fails) in [(0, false), (10, true)] {
        probing.ask(false, at(now));
        assert_eq!(probing.take_in(&specs, ProbeKind::Startup, &failure(), at(0), at(now)), fails);
    }
    assert_eq!(probing.deadline(false), None);
}

#[test]
fn a_probe_that_cannot_be_made_is_tried_three_times_and_counts_for_nothing() {
    let specs = Probes { liveness: Some(spec(0, 1, 1)), ..Probes::default() };
    let mut probing = Probing::begin(&specs, at(0));
    for _ in 0..3 {
        assert_eq!(probing.ask(false, at(0)), [ProbeKind::Liveness]);
        assert!(!probing.take_in(
            &specs,
            ProbeKind::Liveness,
            &Outcome::Broken("no socket".into()),
            at(0),
            at(0)
        ));
    }
    assert_eq!(probing.deadline(false), Some(at(10)));
}

#[test]
fn a_slow_probe_is_followed_at_once_and_never_joined_by_another() {
    let specs = Probes { liveness: Some(spec(0, 1, 3)), ..Probes::default() };
    let mut probing = Probing::begin(&specs, at(0));
    probing.ask(false, at(0));
    assert_eq!((probing.deadline(false), probing.ask(false, at(20)).len()), (None, 0));
    probing.take_in(&specs, ProbeKind::Liveness, &failure(), at(0), at(25));
    assert_eq!(probing.deadline(false), Some(at(25)));
}

#[test]
fn an_answer_that_nobody_waits_for_counts_for_nothing() {
    let specs = Probes { readiness: Some(spec(5, 1, 1)), ..Probes::default() };
    let mut probing = Probing::begin(&specs, at(0));
    assert!(!probing.take_in(&specs, ProbeKind::Readiness, &Outcome::Success, at(0), at(1)));
    assert_eq!((probing.is_ready(&specs), probing.deadline(false)), (false, Some(at(5))));
}

#[test]
fn who_is_being_ended_is_only_asked_whether_it_is_ready() {
    let specs = Probes { liveness: Some(spec(0, 1, 1)), readiness: Some(spec(0, 1, 1)), startup: None };
    let mut probing = Probing::begin(&specs, at(0));
    assert_eq!(probing.ask(true, at(0)), [ProbeKind::Readiness]);
}

#[test]
fn a_new_worker_makes_up_for_missed_probes_within_a_period_each_at_its_own_time() {
    let specs = Probes { liveness: Some(spec(0, 1, 1)), readiness: Some(spec(0, 1, 1)), startup: None };
    let mut times = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut probing = Probing::begin(&specs, at(0));
        probing.ask(true, at(0));
        probing.spread(&specs, 4 * seed, at(1000));
        let (first, last) = (probing.liveness.unwrap().due.unwrap(), probing.readiness.unwrap().due.unwrap());
        assert!([first, last].iter().all(|due| (at(1000)..at(1010)).contains(due)), "what was under way too");
        times.extend([first, last]);
    }
    assert!(times.len() > 190, "{}", times.len());
}

#[test]
fn a_new_worker_leaves_alone_what_is_not_due_yet() {
    let specs = Probes { liveness: Some(spec(30, 1, 1)), ..Probes::default() };
    let mut probing = Probing::begin(&specs, at(0));
    probing.spread(&specs, 7, at(10));
    assert_eq!(probing.deadline(false), Some(at(30)));
}

#[test]
fn what_changes_neither_the_last_outcome_nor_what_counts_is_old_news() {
    let specs = Probes { readiness: Some(spec(0, 2, 2)), ..Probes::default() };
    let mut probing = Probing::begin(&specs, at(0));
    let broken = Outcome::Broken("no socket".into());
    let outcomes = [
        (Outcome::Success, false),
        (Outcome::Success, false),
        (Outcome::Success, true),
        (failure(), false),
        // It still counts as ready, but not as failed once.
        (Outcome::Success, false),
        (Outcome::Success, true),
        (broken, false),
        (Outcome::Success, false),
        (Outcome::Success, true),
    ];
    for (turn, (outcome, is_old)) in outcomes.into_iter().enumerate() {
        let now = probing.deadline(false).unwrap();
        probing.ask(false, now);
        assert_eq!(probing.is_old_news(ProbeKind::Readiness, &outcome), is_old, "{turn}");
        probing.take_in(&specs, ProbeKind::Readiness, &outcome, at(0), now);
    }
}

#[test]
fn probes_that_are_due_within_a_moment_are_made_together() {
    let specs = Probes { liveness: Some(spec(0, 1, 3)), ..Probes::default() };
    let due_after = |asked: u64| {
        let asked = BootTime::from_nanos(asked);
        let mut probing = Probing::begin(&specs, asked);
        assert_eq!(probing.ask(false, asked), [ProbeKind::Liveness]);
        probing.take_in(&specs, ProbeKind::Liveness, &Outcome::Success, asked, asked);
        probing.deadline(false).unwrap().as_nanos()
    };
    for asked in [5_000_000_000, 5_000_000_001, 5_010_000_000] {
        assert_eq!(due_after(asked), 15_000_000_000, "and the period does not grow");
    }
    for asked in [5_010_000_001, 5_049_999_999, 5_050_000_000, 5_060_000_000] {
        assert_eq!(due_after(asked), 15_050_000_000, "nor is it cut short");
    }
}
