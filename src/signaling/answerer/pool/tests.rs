use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pool(spare: usize, max: usize) -> (Pool, Instant) {
    let now = Instant::now();
    (Pool::new(spare, max, fastrand::Rng::with_seed(1), now), now)
}

/// A pool that is connected and online with streams 1 and 2.
fn online() -> (Pool, Instant) {
    let (mut pool, now) = pool(2, 4);
    assert_eq!(pool.step(Input::Tick, now), [Output::Connect]);
    let out = pool.step(Input::Connected, now);
    assert_eq!(opened(&out), [1, 2]);
    assert_eq!(out[2], Output::Ask);
    assert_eq!(states(&pool.step(Input::Reached, now)), [AnswererState::Online]);
    (pool, now)
}

fn opened(out: &[Output]) -> Vec<u64> {
    let id = |output: &Output| match output {
        Output::Open { id, .. } => Some(*id),
        _ => None,
    };
    out.iter().filter_map(id).collect()
}

fn states(out: &[Output]) -> Vec<AnswererState> {
    let state = |output: &Output| match output {
        Output::State(state) => Some(state.clone()),
        _ => None,
    };
    out.iter().filter_map(state).collect()
}

/// Steps with ticks, as the driver would, until something is to be done.
fn wait(pool: &mut Pool, from: Instant) -> (Vec<Output>, Instant) {
    let mut now = from;
    for _ in 0..100 {
        now = now.max(pool.wake_at().expect("something to wait for"));
        let out = pool.step(Input::Tick, now);
        if !out.is_empty() {
            return (out, now);
        }
    }
    panic!("a hot loop: nothing to do at {:?}", now - from);
}

#[test]
fn a_claimed_stream_is_replaced_at_once_up_to_the_limit() {
    let (mut pool, now) = online();
    assert_eq!(opened(&pool.step(Input::Claimed(1), now)), [3]);
    assert_eq!(opened(&pool.step(Input::Claimed(2), now)), [4]);
    assert!(pool.step(Input::Claimed(3), now).is_empty(), "two calls more than idle streams are the limit");
    assert!(pool.step(Input::Claimed(4), now).is_empty());
    assert_eq!(opened(&pool.step(Input::Ended(1, Ending::Failed), now)), [5]);
    assert_eq!(opened(&pool.step(Input::Ended(2, Ending::Answered), now)), [6]);
    assert!(pool.step(Input::Ended(3, Ending::Answered), now).is_empty());
}

#[test]
fn a_stream_that_lived_long_and_ended_as_streams_do_is_reopened_with_little_delay() {
    let (mut pool, now) = online();
    let later = now + 3600 * SECOND;
    pool.step(Input::Ended(1, Ending::Benign), later);
    let (out, at) = wait(&mut pool, later);
    assert_eq!(opened(&out), [3]);
    assert!(at - later < Duration::from_millis(100));
}

#[test]
fn streams_that_end_at_once_are_opened_ever_more_slowly() {
    for ending in [Ending::Benign, Ending::Refused("no".into()), Ending::Lost("no".into()), Ending::Violation]
    {
        let (mut pool, start) = online();
        let (mut now, mut opens) = (start, 2);
        pool.step(Input::Ended(1, ending.clone()), now);
        pool.step(Input::Ended(2, ending.clone()), now);
        while now < start + 60 * SECOND {
            let (out, at) = wait(&mut pool, now);
            now = at;
            for output in out {
                match output {
                    Output::Open { id, .. } => {
                        opens += 1;
                        pool.step(Input::Ended(id, ending.clone()), now);
                    }
                    Output::Connect => {
                        for id in opened(&pool.step(Input::Connected, now)) {
                            opens += 1;
                            pool.step(Input::Ended(id, ending.clone()), now);
                        }
                    }
                    _ => {}
                }
            }
        }
        assert!((8..60).contains(&opens), "{ending:?}: {opens} in a minute");
    }
}

#[test]
fn calls_that_fail_at_once_do_not_make_a_hot_loop() {
    let (mut pool, start) = online();
    let (mut now, mut opens) = (start, vec![1, 2]);
    let mut count = 0;
    while now < start + 10 * SECOND {
        for id in std::mem::take(&mut opens) {
            count += 1;
            opens.extend(opened(&pool.step(Input::Claimed(id), now)));
            opens.extend(opened(&pool.step(Input::Ended(id, Ending::Failed), now)));
        }
        if opens.is_empty() {
            let (out, at) = wait(&mut pool, now);
            (opens, now) = (opened(&out), at);
        }
    }
    assert!((90..130).contains(&count), "{count} in ten seconds");
}

#[test]
fn a_crowded_server_is_left_alone_quietly() {
    let (mut pool, now) = online();
    assert_eq!(opened(&pool.step(Input::Claimed(1), now)), [3]);
    assert!(states(&pool.step(Input::Ended(3, Ending::Crowded), now)).is_empty());
    assert!(pool.wake_at().unwrap() >= now + Duration::from_millis(800));
    // The server's limit is per stream: with one fewer there is room.
    assert_eq!(opened(&pool.step(Input::Ended(1, Ending::Failed), now)), [4]);
}

#[test]
fn the_last_lost_stream_makes_a_new_connection() {
    let (mut pool, now) = online();
    assert!(states(&pool.step(Input::Ended(1, Ending::Lost("reset".into())), now)).is_empty());
    let out = pool.step(Input::Ended(2, Ending::Lost("reset".into())), now);
    let expected = AnswererState::Connecting { attempt: 2, last_error: Some("reset".into()) };
    assert_eq!(states(&out), [expected]);
    let (out, at) = wait(&mut pool, now);
    assert_eq!(out, [Output::Connect]);
    assert!(at > now, "with jitter");
    let out = pool.step(Input::ConnectFailed("refused".into()), at);
    let expected = AnswererState::Connecting { attempt: 3, last_error: Some("refused".into()) };
    assert_eq!(states(&out), [expected]);
    let (out, at) = wait(&mut pool, at);
    assert_eq!(out, [Output::Connect]);
    pool.step(Input::Connected, at);
    let (_, at) = if pool.idle.is_empty() { wait(&mut pool, at) } else { (Vec::new(), at) };
    assert_eq!(states(&pool.step(Input::Heard, at)), [AnswererState::Online]);
}

#[test]
fn a_server_that_refuses_is_asked_again_and_then_connected_anew() {
    let (mut pool, mut now) = online();
    let refused = || Ending::Refused("denied".into());
    pool.step(Input::Ended(1, refused()), now);
    let out = pool.step(Input::Ended(2, refused()), now);
    assert!(matches!(states(&out).as_slice(), [AnswererState::Connecting { attempt: 2, .. }]));
    let (out, at) = wait(&mut pool, now);
    now = at;
    assert_eq!(opened(&out), [3, 4]);
    assert!(out.contains(&Output::Ask), "to know whether it is online again: {out:?}");
    pool.step(Input::Ended(3, refused()), now);
    pool.step(Input::Ended(4, refused()), now);
    // The answer comes when no stream is left: not online.
    assert!(states(&pool.step(Input::Reached, now)).is_empty());
    assert_eq!(wait(&mut pool, now).0, [Output::Connect]);
}

#[test]
fn a_connection_on_which_nothing_answers_is_given_up() {
    let (mut pool, now) = pool(2, 4);
    pool.step(Input::Tick, now);
    pool.step(Input::Connected, now);
    let out = pool.step(Input::Unreached("silence".into()), now);
    let closed = out.iter().filter(|output| matches!(output, Output::Close(_))).count();
    assert_eq!(closed, 2);
    assert_eq!(wait(&mut pool, now).0, [Output::Connect]);
}

#[test]
fn an_answer_that_is_lost_does_not_matter_once_something_was_heard() {
    let (mut pool, now) = pool(2, 4);
    pool.step(Input::Tick, now);
    pool.step(Input::Connected, now);
    assert_eq!(states(&pool.step(Input::Heard, now)), [AnswererState::Online]);
    assert!(pool.step(Input::Unreached("silence".into()), now).is_empty());
    assert_eq!(pool.wake_at(), None);
}

#[test]
fn streams_know_of_heartbeats_seen_on_their_connection() {
    let (mut pool, now) = online();
    pool.step(Input::Heartbeats, now);
    assert_eq!(pool.step(Input::Claimed(1), now), [Output::Open { id: 3, heartbeats: true }]);
}

#[test]
fn calls_that_succeed_are_not_slowed_down() {
    let (mut pool, now) = online();
    let mut next = vec![1, 2];
    for _ in 0..500 {
        let id = next.remove(0);
        next.extend(opened(&pool.step(Input::Claimed(id), now)));
        next.extend(opened(&pool.step(Input::Ended(id, Ending::Answered), now)));
        assert_eq!(next.len(), 2);
    }
}
