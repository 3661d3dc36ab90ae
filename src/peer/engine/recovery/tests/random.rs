//! Any peer, any time: what a flight promises holds.

use super::*;

/// What a flight is compared with: which chunks were acknowledged, and nothing clever.
struct Model {
    flight: Flight<usize>,
    told: Vec<u32>,
    now: Instant,
}

impl Model {
    fn check(&self, context: &str) {
        let flight = &self.flight;
        let under_way = flight.in_flight_bytes();
        assert!(
            flight.is_empty() != flight.deadline(self.now).is_some() || flight.is_empty(),
            "{context}: no timer"
        );
        assert!(
            !flight.is_empty() || under_way == 0,
            "{context}: {under_way} bytes of nothing are under way"
        );
        assert!(self.told.iter().all(|times| *times <= 1), "{context}: told twice");
        let complete = flight.cumulative().distance(FIRST) + 1;
        let told = &self.told[..complete as usize];
        assert!(told.iter().all(|times| *times == 1), "{context}: complete and not told");
    }
}

#[test]
fn whatever_a_peer_reports_each_chunk_is_told_once_and_a_timer_is_set() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now() + Duration::from_secs(100);
        let early_copies =
            random.choice([EarlyCopies::Adaptive, EarlyCopies::Always, EarlyCopies::Never]).unwrap();
        let congestion = random.choice([Algorithm::Model, Algorithm::Cubic]).unwrap();
        let config = RecoveryConfig { early_copies, congestion, ..RecoveryConfig::default() };
        let flight = Flight::new(&config, FIRST, 100_000, None, now);
        let mut model = Model { flight, told: Vec::new(), now };
        for step in 0..400 {
            let context = format!("seed {seed}, step {step}");
            match random.u32(0..10) {
                0..4 => send(&mut model, &mut random),
                4..8 => report(&mut model, &mut random),
                8 => model.now += random.u32(0..300) * MS / 4,
                _ => {
                    if let Some(at) = model.flight.deadline(model.now) {
                        model.now = model.now.max(at);
                    }
                    if model.flight.on_deadline(model.now).is_err() {
                        break;
                    }
                }
            }
            model.check(&context);
        }
        // An honest end: everything arrives.
        let last = model.flight.next_tsn().previous();
        let sack = Sack { cumulative: last, window: 1 << 20, gaps: &[], duplicates: &[] };
        let told = &mut model.told;
        model.flight.on_sack(model.now, &sack, |chunk| told[*chunk] += 1).unwrap();
        model.check(&format!("seed {seed}, end"));
        model.flight.out_of_data(model.now);
        assert!(model.flight.is_empty(), "seed {seed}");
        assert_eq!(model.flight.deadline(model.now), None, "seed {seed}");
    }
}

fn send(model: &mut Model, random: &mut fastrand::Rng) {
    for _ in 0..random.u32(1..20) {
        let mut bytes = 0;
        while let Some((_, chunk)) = model.flight.take_again(model.now, 1100 - bytes) {
            assert!(
                model.told[chunk] == 0 || model.flight.stats().reneged > 0,
                "acknowledged and sent again"
            );
            bytes += 40;
            if bytes > 1000 {
                break;
            }
        }
        let room = random.usize(1..1000);
        if model.flight.may_send(model.now) && bytes + room <= 1100 && model.flight.peer_room() >= room {
            model.flight.push(model.now, model.told.len(), room, random.bool());
            model.told.push(0);
            bytes += room;
        }
        model.flight.packet_sent(model.now, bytes + 40);
    }
    if random.bool() {
        model.flight.out_of_data(model.now);
    }
}

/// A report that may be honest, late, cut off, taken back or nonsense.
fn report(model: &mut Model, random: &mut fastrand::Rng) {
    let sent = model.flight.next_tsn().distance(FIRST);
    let complete = model.flight.cumulative().distance(FIRST) + 1;
    let cumulative = random.i32((complete - 3).max(-1)..=(complete + 3).min(sent));
    let beyond = (sent - cumulative).clamp(0, 60) as u16;
    let gaps: Vec<(u16, u16)> = (0..random.usize(0..25))
        .map(|_| (random.u16(0..=beyond), random.u16(0..=beyond)))
        .filter(|gap| i32::from(gap.1) + cumulative <= sent)
        .collect();
    let mut gaps = gaps;
    if random.bool() {
        gaps.sort();
    }
    let duplicates = [Tsn(random.u32(..)), FIRST.add(random.u32(0..50))];
    let sack = Sack {
        cumulative: FIRST.add(cumulative as u32).previous(),
        window: random.choice([0, 500, 100_000, u32::MAX]).unwrap(),
        gaps: &gaps,
        duplicates: &duplicates[..random.usize(0..=2)],
    };
    let told = &mut model.told;
    model.flight.on_sack(model.now, &sack, |chunk| told[*chunk] += 1).ok();
}
