//! Answers of every kind, and what is told of them.

use std::io;

use super::*;

const EVERY: Duration = Duration::from_secs(20);

/// A source and its clock.
struct World {
    source: UrlSource,
    now: Duration,
}

impl World {
    fn new() -> World {
        let now = Duration::from_secs(100);
        let url = "https://me:pw@h.example/pods?token=1".parse().unwrap();
        World { source: UrlSource::new(Target { url, headers: Headers::default() }, EVERY, now), now }
    }

    /// Waits for the next question.
    fn question(&mut self) -> Question {
        self.now = self.source.deadline().unwrap();
        match self.source.step(self.now) {
            Some(Due::Ask(question)) => question,
            other => panic!("{other:?}"),
        }
    }

    /// Lets the next question have this answer; in words what is told.
    fn answer(&mut self, answer: Result<Answer, UrlError>) -> Vec<String> {
        self.question();
        self.answered(answer)
    }

    fn answered(&mut self, answer: Result<Answer, UrlError>) -> Vec<String> {
        self.source.answered(answer, self.now).iter().map(word).collect()
    }
}

fn word(change: &Change) -> String {
    match change {
        Change::Read { file, bytes } => format!("{}: {}", file.display(), String::from_utf8_lossy(bytes)),
        Change::Unreadable { error, .. } => error.to_string(),
        Change::Listed { files } => format!("listed {files:?}"),
        other => panic!("{other:?}"),
    }
}

fn tagged(etag: &str) -> Validators {
    Validators { etag: Some(etag.to_owned()), last_modified: None }
}

fn content(text: &str) -> Result<Answer, UrlError> {
    Ok(Answer::Content { bytes: text.into(), validators: tagged(text) })
}

fn status(status: u16) -> Result<Answer, UrlError> {
    Err(UrlError::Status { url: "u".to_owned(), status })
}

fn fault(cause: Cause) -> Result<Answer, UrlError> {
    Err(UrlError::of(http::Error { url: "u".to_owned(), cause }))
}

const LISTED: &str = r#"listed ["https://h.example/pods"]"#;

#[test]
fn content_is_told_when_it_is_new() {
    let mut world = World::new();
    assert_eq!(world.answer(content("a")), ["https://h.example/pods: a", LISTED]);
    assert_eq!(world.answer(content("a")), [""; 0]);
    assert_eq!(world.answer(Ok(Answer::Unchanged)), [""; 0]);
    assert_eq!(world.answer(content("b")), ["https://h.example/pods: b"]);
}

#[test]
fn a_question_names_what_was_answered_before() {
    let mut world = World::new();
    assert_eq!(world.question().validators, Validators::default());
    world.answered(content("a"));
    assert_eq!(world.question().validators, tagged("a"));
    world.answered(Ok(Answer::Unchanged));
    assert_eq!(world.question().validators, tagged("a"));
}

#[test]
fn the_next_question_is_a_period_after_the_answer() {
    let mut world = World::new();
    world.question();
    world.now += Duration::from_secs(3);
    world.answered(content("a"));
    assert_eq!(world.source.deadline(), Some(world.now + EVERY));
    assert!(world.source.step(world.now + EVERY - Duration::from_nanos(1)).is_none());
}

#[test]
fn trouble_is_told_when_it_comes_and_when_it_changes_and_its_end_by_a_whole_answer() {
    let mut world = World::new();
    world.answer(content("a"));
    assert_eq!(world.answer(status(500)), ["u: the server answered 500"]);
    assert_eq!(world.answer(status(500)), [""; 0]);
    assert_eq!(world.answer(status(503)).len(), 1);
    assert!(world.source.is_in_trouble());
    // With the validators of before, it would be told that nothing has changed, and not what.
    assert_eq!(world.question().validators, Validators::default());
    assert_eq!(world.answered(content("a")), ["https://h.example/pods: a"]);
    assert!(!world.source.is_in_trouble());
}

#[test]
fn a_certificate_that_has_expired_is_told_once_although_the_clock_goes_on() {
    let mut world = World::new();
    let expired = |now: &str| fault(Cause::Tls(TlsFault::Expired { now: now.to_owned() }));
    assert_eq!(world.answer(expired("12:00")).len(), 1);
    assert_eq!(world.answer(expired("12:01")), [""; 0]);
    assert_eq!(world.answer(fault(Cause::Tls(TlsFault::NotTls))).len(), 1);
}

#[test]
fn an_empty_body_is_trouble_and_no_content() {
    let mut world = World::new();
    world.answer(content("a"));
    let told = world.answer(content(" \r\n"));
    assert!(told.len() == 1 && told[0].contains("the answer is empty"), "{told:?}");
    assert_eq!(world.answer(content("a")), ["https://h.example/pods: a"]);
}

#[test]
fn what_takes_too_long_is_given_up_and_its_answer_is_no_answer() {
    let mut world = World::new();
    world.question();
    assert_eq!(world.source.deadline(), Some(world.now + ANSWER_WITHIN));
    world.now += ANSWER_WITHIN;
    let Some(Due::GiveUp(told)) = world.source.step(world.now) else { panic!("not given up") };
    assert_eq!(word(&told[0]), "https://h.example/pods: no whole answer within 10 seconds");
    // There is one request at a time.
    assert!(world.source.deadline().is_none() && world.source.step(world.now * 2).is_none());
    assert_eq!(world.answered(content("a")), [""; 0]);
    assert_eq!(world.answer(content("a")), ["https://h.example/pods: a", LISTED]);
}

#[test]
fn a_source_that_only_ever_failed_is_not_listed() {
    let mut world = World::new();
    let refused = || fault(Cause::Connect(io::ErrorKind::ConnectionRefused.into()));
    assert_eq!(world.answer(refused()).len(), 1);
    assert_eq!(world.answer(refused()), [""; 0]);
    assert_eq!(world.answer(content("a")), ["https://h.example/pods: a", LISTED]);
}

#[test]
fn what_may_be_secret_is_in_no_word_that_is_told() {
    let mut world = World::new();
    let mut told = world.answer(content(""));
    told.extend(world.answer(fault(Cause::Tls(TlsFault::UnknownAuthority))));
    told.push(world.source.file().display().to_string());
    for word in told {
        assert!(!word.contains("pw") && !word.contains("token=1"), "{word}");
    }
}
