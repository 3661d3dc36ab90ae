use super::*;

fn lost() -> Input {
    Input::Lost(CloseReason::Peer)
}

fn failed(permanent: bool) -> Input {
    Input::DialFailed { why: "nobody there".into(), permanent }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn down(attempt: u32, failure: Option<&str>) -> Output {
    Output::Down(Reconnecting::new(attempt, CloseReason::Peer, failure.map(Into::into)))
}

/// A machine and its clock.
struct Scene {
    machine: Machine,
    now: Instant,
}

impl Scene {
    fn new(max_attempts: u32) -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(max_attempts, fastrand::Rng::with_seed(3), now), now }
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        self.machine.step(input, self.now)
    }

    /// Goes to where these outputs say that it sleeps until, and dials there. Says how long that was.
    fn slept(&mut self, out: &[Output]) -> Duration {
        let Some(Output::SleepUntil(until)) = out.last() else { panic!("does not sleep: {out:?}") };
        let slept = *until - self.now;
        // Whoever wakes too early is sent back.
        assert_eq!(self.step(Input::Timer), [Output::SleepUntil(*until)]);
        self.now = *until;
        assert_eq!(self.step(Input::Timer), [Output::Dial]);
        slept
    }
}

#[test]
fn a_lost_connection_is_dialed_at_once_and_numbered() {
    let mut scene = Scene::new(3);
    for connection in 2..5 {
        scene.now += LONG_LIFE;
        assert_eq!(scene.step(lost()), [down(1, None), Output::Dial]);
        scene.now += millis(70);
        let up = Output::Up { connection, attempts: 1, after: millis(70) };
        assert_eq!(scene.step(Input::Dialed), [up]);
    }
}

#[test]
fn failed_dials_back_off_up_to_ten_seconds() {
    let mut scene = Scene::new(0);
    let mut out = scene.step(lost());
    for (attempt, full) in
        [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000].into_iter().enumerate()
    {
        out = scene.step(failed(false));
        assert_eq!(out[0], down(u32::try_from(attempt).unwrap() + 2, Some("nobody there")));
        let slept = scene.slept(&out);
        assert!((millis(full) / 2..=millis(full)).contains(&slept), "{attempt}: {slept:?}");
    }
    assert!(matches!(out[..], [Output::Down(_), Output::SleepUntil(_)]));
    assert!(matches!(scene.step(Input::Dialed)[..], [Output::Up { connection: 2, attempts: 11, .. }]));
}

#[test]
fn it_gives_up_after_so_many_failures_in_a_row_and_then_does_nothing() {
    for max in [1, 2, 3, 7] {
        let mut scene = Scene::new(max);
        scene.step(lost());
        for _ in 1..max {
            let out = scene.step(failed(false));
            scene.slept(&out);
        }
        let reason = CloseReason::GaveUp { attempts: max, last: "nobody there".into() };
        assert_eq!(scene.step(failed(false)), [Output::End(reason)]);
        for input in [Input::Timer, Input::Dialed, failed(false), lost(), Input::Close] {
            assert_eq!(scene.step(input), []);
        }
    }
}

#[test]
fn a_connection_begins_the_count_anew() {
    let mut scene = Scene::new(2);
    for _ in 0..10 {
        let out = scene.step(lost());
        if out.last() != Some(&Output::Dial) {
            scene.slept(&out);
        }
        let out = scene.step(failed(false));
        scene.slept(&out);
        assert!(matches!(scene.step(Input::Dialed)[..], [Output::Up { attempts: 2, .. }]));
    }
}

#[test]
fn zero_attempts_are_for_ever() {
    let mut scene = Scene::new(0);
    scene.step(lost());
    for _ in 0..10_000 {
        let out = scene.step(failed(false));
        scene.slept(&out);
    }
}

#[test]
fn what_cannot_be_mended_by_trying_ends_it_at_once_even_for_ever() {
    for max in [0, 3] {
        let mut scene = Scene::new(max);
        scene.step(lost());
        let reason = CloseReason::GaveUp { attempts: 1, last: "nobody there".into() };
        assert_eq!(scene.step(failed(true)), [Output::End(reason)]);
    }
}

#[test]
fn connections_that_do_not_live_are_dialed_ever_more_slowly_and_never_given_up() {
    let mut scene = Scene::new(1);
    // The one that the user had was no fault of dialing.
    assert_eq!(scene.step(lost()), [down(1, None), Output::Dial]);
    let mut slept = vec![];
    for connection in 2..14 {
        let up = Output::Up { connection, attempts: 1, after: slept.last().copied().unwrap_or_default() };
        assert_eq!(scene.step(Input::Dialed), [up]);
        scene.now += LONG_LIFE - millis(1);
        let out = scene.step(lost());
        assert_eq!(out[0], down(1, None));
        slept.push(scene.slept(&out));
    }
    assert!(slept[0] <= millis(1000) && slept[11] >= millis(5000), "{slept:?}");
    scene.step(Input::Dialed);
    scene.now += LONG_LIFE;
    assert_eq!(scene.step(lost()), [down(1, None), Output::Dial]);
}

#[test]
fn closing_ends_it_wherever_it_stands() {
    let ended = [Output::End(CloseReason::Local)];
    assert_eq!(Scene::new(3).step(Input::Close), ended);
    let mut dialing = Scene::new(3);
    dialing.step(lost());
    assert_eq!(dialing.step(Input::Close), ended);
    assert_eq!(dialing.step(Input::Dialed), []);
    let mut sleeping = Scene::new(3);
    sleeping.step(lost());
    sleeping.step(failed(false));
    assert_eq!(sleeping.step(Input::Close), ended);
    assert_eq!(sleeping.step(Input::Timer), []);
}

#[test]
fn what_does_not_belong_where_it_stands_is_nothing() {
    let mut scene = Scene::new(3);
    for input in [Input::Dialed, failed(true), Input::Timer] {
        assert_eq!(scene.step(input), []);
    }
    scene.step(lost());
    assert_eq!(scene.step(lost()), []);
    assert_eq!(scene.step(Input::Timer), []);
}
