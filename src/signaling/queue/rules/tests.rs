//! The rules as tables: what happens, when, and what either side reads.

use std::task::Poll;

use super::*;
use crate::proto::webrtc::IceCandidate;
use crate::signaling::queue::MAX_HOST;

/// Rules with a clock of their own.
struct Lab {
    rules: Rules,
    now: Instant,
    offers: usize,
}

type Answers = Vec<Result<Option<AnswererItem>, QueueError>>;

impl Lab {
    fn new() -> Self {
        Self::with(QueueLimits::default())
    }

    fn with(limits: QueueLimits) -> Self {
        Self { rules: Rules::new(limits), now: Instant::now(), offers: 0 }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.rules.tick(self.now);
    }

    fn offer(&mut self, host: &str) -> Result<Arc<str>, QueueError> {
        self.offers += 1;
        let uuid: Arc<str> = format!("call-{}", self.offers).into();
        self.rules.offer(self.now, uuid.clone(), Offer::new(host, "offer"), Signal::default())?;
        Ok(uuid)
    }

    fn wait(&mut self, hosts: &[&str]) -> Result<u64, QueueError> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        self.rules.wait(self.now, hosts, Signal::default())
    }

    fn claimed(&mut self, id: u64) -> Option<Arc<str>> {
        match self.rules.claimed(self.now, id) {
            Poll::Ready(claimed) => Some(claimed.unwrap().uuid),
            Poll::Pending => None,
        }
    }

    fn leave(&mut self, id: u64) {
        self.rules.leave(self.now, id);
    }

    fn abandon(&mut self, uuid: &str) {
        self.rules.abandon(self.now, uuid);
    }

    fn say(&mut self, id: u64, item: AnswererItem) {
        self.rules.send(self.now, id, item).unwrap();
    }

    fn update(&mut self, host: &str, uuid: &str, item: CallerItem) -> Result<(), QueueError> {
        self.rules.update(self.now, host, uuid, item)
    }

    /// All that the caller can read; ends with `Ok(None)` or an error when the stream has ended.
    fn caller_reads(&mut self, uuid: &str) -> Answers {
        let mut all = Vec::new();
        while let Poll::Ready(item) = self.rules.read_answerer(uuid, all.len()) {
            let last = !matches!(item, Ok(Some(_)));
            all.push(item);
            if last {
                break;
            }
        }
        all
    }

    fn answerer_reads(&self, uuid: &str) -> Vec<Option<CallerItem>> {
        let mut all = Vec::new();
        while let Poll::Ready(item) = self.rules.read_caller(uuid, all.len()) {
            let item = item.unwrap();
            let last = item.is_none();
            all.push(item);
            if last {
                break;
            }
        }
        all
    }

    /// A call in the hands of an answerer.
    fn claimed_call(&mut self) -> (u64, Arc<str>) {
        let id = self.wait(&["h"]).unwrap();
        let uuid = self.offer("h").unwrap();
        assert_eq!(self.claimed(id).as_deref(), Some(&*uuid));
        (id, uuid)
    }

    fn is_empty(&self) -> bool {
        self.rules.counts() == [0; 5] && self.rules.bytes == 0
    }
}

fn answer() -> AnswererItem {
    AnswererItem::Answer("answer".into())
}

fn candidate(text: &str) -> IceCandidate {
    IceCandidate { candidate: text.into(), ..IceCandidate::default() }
}

fn refusal(text: &str) -> Status {
    failed(Code::ResourceExhausted, text)
}

#[test]
fn an_offer_reaches_one_answerer_and_the_newest() {
    let mut lab = Lab::new();
    let (old, new) = (lab.wait(&["h"]).unwrap(), lab.wait(&["h"]).unwrap());
    let first = lab.offer("h").unwrap();
    assert_eq!((lab.claimed(old), lab.claimed(new)), (None, Some(first)));
    let second = lab.offer("h").unwrap();
    assert_eq!(lab.claimed(old), Some(second));
}

#[test]
fn each_host_of_an_answerer_reaches_it_and_no_other_does() {
    for host in ["a", "b:80"] {
        let mut lab = Lab::new();
        let id = lab.wait(&["a", "b:80", "a"]).unwrap();
        assert!(matches!(lab.offer("b"), Err(QueueError::Offline)));
        let uuid = lab.offer(host).unwrap();
        assert_eq!(lab.claimed(id), Some(uuid));
        // It has one call, so the other hosts' callers wait.
        let other = lab.offer("a").unwrap();
        assert_eq!(lab.caller_reads(&other).len(), 0);
        lab.leave(id);
        let id = lab.wait(&["a", "b:80"]).unwrap();
        assert!(lab.claimed(id).is_some());
    }
}

#[test]
fn an_early_offer_is_kept_for_the_next_answerer_unless_little_time_is_left() {
    for (after, taken) in [(0, true), (7_900, true), (8_100, false)] {
        let mut lab = Lab::new();
        lab.claimed_call();
        let uuid = lab.offer("h").unwrap();
        lab.pass(after);
        let next = lab.wait(&["h"]).unwrap();
        assert_eq!(lab.claimed(next), taken.then(|| uuid.clone()), "after {after} ms");
        lab.pass(10_000 - after);
        let waited = if taken { Waited::ForAnswer } else { Waited::ForAnswerer };
        let end = lab.caller_reads(&uuid).pop();
        assert!(matches!(end, Some(Err(QueueError::Deadline(w))) if w == waited), "{end:?}");
    }
}

#[test]
fn an_offer_is_offered_again_when_its_claimer_dies_before_it_answered() {
    let mut lab = Lab::new();
    let (id, uuid) = lab.claimed_call();
    let later = lab.offer("h").unwrap();
    lab.update("h", &uuid, CallerItem::Candidate(candidate("c"))).unwrap();
    lab.leave(id);
    let next = lab.wait(&["h"]).unwrap();
    assert_eq!(lab.claimed(next).as_deref(), Some(&*uuid), "the older offer goes first");
    assert_eq!(
        lab.answerer_reads(&uuid),
        [Some(CallerItem::Candidate(candidate("c")))],
        "from the beginning"
    );
    let third = lab.wait(&["h"]).unwrap();
    assert_eq!(lab.claimed(third), Some(later));
}

#[test]
fn a_claimer_that_dies_after_its_answer_counts_as_done() {
    let mut lab = Lab::new();
    let (id, uuid) = lab.claimed_call();
    lab.say(id, answer());
    lab.leave(id);
    let reads = lab.caller_reads(&uuid);
    assert!(matches!(&reads[..], [Ok(Some(a)), Ok(Some(AnswererItem::Done)), Ok(None)] if *a == answer()));
    lab.update("h", &uuid, CallerItem::Done).unwrap();
}

#[test]
fn both_sides_read_everything_in_order_and_the_call_ends_when_both_are_done() {
    let mut lab = Lab::new();
    let id = lab.wait(&["h"]).unwrap();
    let uuid = lab.offer("h").unwrap();
    lab.update("h", &uuid, CallerItem::Candidate(candidate("1"))).unwrap();
    lab.claimed(id).unwrap();
    lab.say(id, answer());
    lab.say(id, AnswererItem::Candidate(candidate("2")));
    lab.say(id, AnswererItem::Done);
    lab.say(id, AnswererItem::Error(refusal("late")));
    let reads = lab.caller_reads(&uuid);
    let items: Vec<_> = reads.into_iter().map(Result::unwrap).collect();
    let said =
        [Some(answer()), Some(AnswererItem::Candidate(candidate("2"))), Some(AnswererItem::Done), None];
    assert_eq!(items, said);
    // The Call stream has ended, the caller's candidates still get through.
    lab.abandon(&uuid);
    lab.update("h", &uuid, CallerItem::Candidate(candidate("3"))).unwrap();
    lab.update("h", &uuid, CallerItem::Done).unwrap();
    lab.update("h", &uuid, CallerItem::Error(refusal("late"))).unwrap();
    let said = [
        Some(CallerItem::Candidate(candidate("1"))),
        Some(CallerItem::Candidate(candidate("3"))),
        Some(CallerItem::Done),
        None,
    ];
    assert_eq!(lab.answerer_reads(&uuid), said);
    lab.leave(id);
    lab.pass(15_000);
    assert!(lab.is_empty(), "{:?}", lab.rules.counts());
}

#[test]
fn an_error_of_either_side_reaches_the_other_whole_and_first() {
    let status = Status { details: vec![Default::default()], ..refusal("full") };
    let mut lab = Lab::new();
    let (id, uuid) = lab.claimed_call();
    lab.say(id, AnswererItem::Error(status.clone()));
    lab.say(id, AnswererItem::Error(refusal("second")));
    let reads = lab.caller_reads(&uuid);
    assert!(matches!(&reads[..], [Ok(Some(AnswererItem::Error(s))), Ok(None)] if *s == status));
    assert_eq!(lab.answerer_reads(&uuid), [None]);

    let mut lab = Lab::new();
    let (id, uuid) = lab.claimed_call();
    lab.say(id, answer());
    lab.update("h", &uuid, CallerItem::Error(status.clone())).unwrap();
    lab.update("h", &uuid, CallerItem::Error(refusal("second"))).unwrap();
    assert_eq!(lab.answerer_reads(&uuid), [Some(CallerItem::Error(status)), None]);
    let reads = lab.caller_reads(&uuid);
    assert!(matches!(&reads[..], [Ok(Some(a)), Err(QueueError::CallerFailed)] if *a == answer()));
}

#[test]
fn an_abandoned_call_frees_its_answerer_unless_the_caller_had_all_it_needs() {
    // (caller done, answer read) -> whether the answerer is told
    for (done, read, told) in
        [(false, false, true), (false, true, true), (true, false, true), (true, true, false)]
    {
        let mut lab = Lab::new();
        let (id, uuid) = lab.claimed_call();
        lab.say(id, answer());
        if done {
            lab.update("h", &uuid, CallerItem::Done).unwrap();
        }
        if read {
            lab.caller_reads(&uuid);
        }
        lab.abandon(&uuid);
        let reads = lab.answerer_reads(&uuid);
        assert_eq!(reads.last() == Some(&None), told, "{done} {read}: {reads:?}");
        let error =
            matches!(reads.first(), Some(Some(CallerItem::Error(e))) if e.code == Code::Cancelled as i32);
        assert_eq!(error, !done, "{done} {read}: {reads:?}");
        lab.leave(id);
        lab.pass(16_000);
        assert!(lab.is_empty());
    }
}

#[test]
fn a_call_abandoned_before_its_answerer_looked_leaves_the_answerer_waiting() {
    let mut lab = Lab::new();
    let id = lab.wait(&["a", "b"]).unwrap();
    let gone = lab.offer("a").unwrap();
    lab.abandon(&gone);
    assert_eq!(lab.claimed(id), None);
    let uuid = lab.offer("b").unwrap();
    assert_eq!(lab.claimed(id), Some(uuid));
}

#[test]
fn late_updates_of_a_known_call_are_ignored_and_strangers_are_told() {
    let mut lab = Lab::new();
    let (id, uuid) = lab.claimed_call();
    let unknown = |result: Result<(), QueueError>, uuid: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), format!("no active offer for \"{uuid}\""));
        assert_eq!(error.code(), Code::Unknown);
    };
    unknown(lab.update("h", "x", CallerItem::Done), "x");
    unknown(lab.update("other", &uuid, CallerItem::Done), &uuid);
    lab.say(id, AnswererItem::Error(refusal("no")));
    lab.leave(id);
    lab.update("h", &uuid, CallerItem::Done).unwrap();
    lab.abandon(&uuid);
    lab.update("h", &uuid, CallerItem::Done).unwrap();
    unknown(lab.update("other", &uuid, CallerItem::Done), &uuid);
    lab.pass(14_000);
    lab.update("h", &uuid, CallerItem::Done).unwrap();
    lab.pass(2_000);
    unknown(lab.update("h", &uuid, CallerItem::Done), &uuid);
}

#[test]
fn a_host_is_offline_when_nobody_answers_nor_did_seconds_ago() {
    let mut lab = Lab::new();
    let offline = |result: Result<Arc<str>, QueueError>| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert_eq!(error.to_string(), "host appears to be offline; ensure machine is online and try again");
    };
    offline(lab.offer("h"));
    let id = lab.wait(&["h"]).unwrap();
    lab.leave(id);
    lab.pass(2_000);
    let waits = lab.offer("h").unwrap();
    lab.pass(900);
    assert!(lab.caller_reads(&waits).is_empty());
    lab.pass(100);
    assert!(matches!(lab.caller_reads(&waits)[..], [Err(QueueError::Offline)]));
    offline(lab.offer("h"));
    // The caller that still holds its end does not make the host look present.
    lab.abandon(&waits);
    lab.pass(20_000);
    assert!(lab.is_empty());
}

#[test]
fn a_host_that_negotiates_is_present() {
    let mut lab = Lab::new();
    let (id, _) = lab.claimed_call();
    lab.pass(5_000);
    let uuid = lab.offer("h").unwrap();
    lab.leave(id);
    lab.pass(1_000);
    let back = lab.wait(&["h"]).unwrap();
    lab.pass(2_500);
    assert!(lab.claimed(back).is_some());
    assert!(lab.caller_reads(&uuid).is_empty(), "the grace of before must not end it");
}

#[test]
fn callers_and_answerers_per_host_are_limited() {
    let limits = QueueLimits { callers_per_host: 2, answerers_per_host: 2, ..QueueLimits::default() };
    let mut lab = Lab::with(limits);
    let answerers: Vec<_> = (0..2).map(|_| lab.wait(&["h", "i"]).unwrap()).collect();
    assert!(matches!(lab.wait(&["j", "h"]), Err(QueueError::TooManyAnswerers)));
    lab.leave(answerers[0]);
    lab.wait(&["h"]).unwrap();
    let calls: Vec<_> = (0..2).map(|_| lab.offer("h").unwrap()).collect();
    let error = lab.offer("h").unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(error.to_string(), "too many connection attempts; please wait a bit and try again");
    lab.offer("i").unwrap();
    lab.abandon(&calls[0]);
    lab.offer("h").unwrap();
}

#[test]
fn what_a_peer_makes_us_hold_is_limited() {
    let limits = QueueLimits { candidates: 3, calls: 2, ..QueueLimits::default() };
    let mut lab = Lab::with(limits);
    let (id, uuid) = lab.claimed_call();
    lab.say(id, answer());
    for _ in 0..3 {
        lab.update("h", &uuid, CallerItem::Candidate(candidate("c"))).unwrap();
        lab.say(id, AnswererItem::Candidate(candidate("c")));
    }
    let full = lab.update("h", &uuid, CallerItem::Candidate(candidate("c")));
    assert!(matches!(full, Err(QueueError::TooManyCandidates)));
    let full = lab.rules.send(lab.now, id, AnswererItem::Candidate(candidate("c")));
    assert!(matches!(full, Err(QueueError::TooManyCandidates)));
    lab.update("h", &uuid, CallerItem::Done).unwrap();
    assert_eq!(lab.answerer_reads(&uuid).last(), Some(&Some(CallerItem::Done)));

    lab.offer("h").unwrap();
    assert!(matches!(lab.offer("h"), Err(QueueError::TooManyCalls)));
    let long = "h".repeat(MAX_HOST + 1);
    assert!(matches!(lab.offer(&long), Err(QueueError::HostTooLong)));
    assert!(matches!(lab.wait(&[&long]), Err(QueueError::HostTooLong)));
    assert!(lab.wait(&[&long[1..]]).is_ok());
}

#[test]
fn a_deadline_tells_both_sides_and_loses_nothing() {
    let mut lab = Lab::new();
    let (id, uuid) = lab.claimed_call();
    lab.say(id, answer());
    lab.pass(9_999);
    assert_eq!(lab.caller_reads(&uuid).len(), 1);
    lab.pass(1);
    let reads = lab.caller_reads(&uuid);
    assert!(matches!(reads[..], [Ok(Some(_)), Err(QueueError::Deadline(Waited::ForEnd))]), "{reads:?}");
    let reads = lab.answerer_reads(&uuid);
    assert!(
        matches!(&reads[..], [Some(CallerItem::Error(e)), None] if e.code == Code::DeadlineExceeded as i32)
    );
}

#[test]
fn closing_ends_everything_and_refuses_the_rest() {
    let mut lab = Lab::new();
    let (id, uuid) = lab.claimed_call();
    let idle = lab.wait(&["h"]).unwrap();
    lab.say(id, answer());
    lab.rules.close(lab.now);
    assert!(matches!(lab.caller_reads(&uuid)[..], [Ok(Some(_)), Err(QueueError::Closed)]));
    assert!(matches!(lab.rules.read_caller(&uuid, 0), Poll::Ready(Err(QueueError::Closed))));
    assert!(matches!(lab.rules.claimed(lab.now, idle), Poll::Ready(Err(QueueError::Closed))));
    assert!(matches!(lab.offer("h"), Err(QueueError::Closed)));
    assert!(matches!(lab.wait(&["h"]), Err(QueueError::Closed)));
    assert!(matches!(lab.update("h", &uuid, CallerItem::Done), Err(QueueError::Closed)));
    assert_eq!(QueueError::Closed.code(), Code::Unavailable);
    lab.abandon(&uuid);
    for id in [id, idle] {
        lab.leave(id);
    }
    lab.pass(15_000);
    assert!(lab.is_empty());
}

#[test]
fn hosts_that_are_gone_leave_nothing_behind() {
    let mut lab = Lab::new();
    for n in 0..10_000 {
        let host = format!("host-{n}");
        let id = lab.wait(&[&host, "shared"]).unwrap();
        let uuid = lab.offer(&host).unwrap();
        assert_eq!(lab.claimed(id).as_deref(), Some(&*uuid));
        if n % 2 == 0 {
            lab.abandon(&uuid);
            lab.leave(id);
        } else {
            lab.leave(id);
            lab.abandon(&uuid);
        }
        let _ = lab.offer(&format!("stranger-{n}"));
    }
    lab.pass(16_000);
    assert!(lab.is_empty(), "{:?}", lab.rules.counts());
}

#[test]
fn calls_hold_no_more_bytes_together_than_they_may() {
    let limits = QueueLimits { bytes: 100_000, candidate_bytes: 1 << 20, ..QueueLimits::default() };
    let mut lab = Lab::with(limits);
    let (answerer, first) = lab.claimed_call();
    let big = |bytes: usize| "x".repeat(bytes);
    let offer = |lab: &mut Lab, uuid: &str, bytes: usize| {
        lab.rules.offer(lab.now, uuid.into(), Offer::new("h", big(bytes)), Signal::default())
    };

    // Offers and what callers say are refused, and the calls that are there stay as they are.
    offer(&mut lab, "second", 60_000).unwrap();
    assert!(matches!(offer(&mut lab, "third", 60_000), Err(QueueError::TooManyCalls)));
    let more = CallerItem::Candidate(candidate(&big(60_000)));
    assert!(matches!(lab.update("h", &first, more), Err(QueueError::TooManyCalls)));
    lab.update("h", &first, CallerItem::Candidate(candidate("small"))).unwrap();
    assert!(lab.answerer_reads(&first).contains(&Some(CallerItem::Candidate(candidate("small")))));

    // An answer without room ends its call in words that both sides hear.
    let answered = lab.rules.send(lab.now, answerer, AnswererItem::Answer(big(60_000)));
    assert!(matches!(answered, Err(QueueError::TooManyCalls)));
    let heard = lab.caller_reads(&first);
    let [Ok(Some(AnswererItem::Error(status))), Ok(None)] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!(status.code, Code::Unavailable as i32);
    assert_eq!(status.message, QueueError::TooManyCalls.to_string());

    // What ended gives back what it held: answers and candidates too.
    lab.leave(answerer);
    lab.abandon(&first);
    lab.abandon("second");
    let (answerer, last) = lab.claimed_call();
    lab.say(answerer, AnswererItem::Answer(big(40_000)));
    lab.say(answerer, AnswererItem::Candidate(candidate(&big(40_000))));
    assert!(matches!(offer(&mut lab, "fourth", 40_000), Err(QueueError::TooManyCalls)));
    lab.leave(answerer);
    lab.abandon(&last);
    offer(&mut lab, "fifth", 90_000).unwrap();
    lab.abandon("fifth");
    lab.pass(60_000);
    assert!(lab.is_empty());
}
