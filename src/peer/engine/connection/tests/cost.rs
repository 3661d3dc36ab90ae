//! What a connection costs. Prints figures; run with `--release --ignored --nocapture`.

use std::time::Instant;

use super::super::*;
use super::world::{A, B, World, ms};

#[test]
#[ignore = "prints figures"]
fn figures() {
    // Warm: the identities.
    World::new(1).open();
    let began = Instant::now();
    for seed in 0..100 {
        World::new(seed).open();
    }
    println!("open, both sides: {:?}", began.elapsed() / 100);

    let held = allocation_counter::measure(|| {
        std::mem::forget(
            (0..100)
                .map(|seed| {
                    let mut world = World::new(seed);
                    world.open();
                    world.run(ms(60_000));
                    world
                })
                .collect::<Vec<_>>(),
        );
    });
    println!(
        "idle, both sides and their world: {} bytes of heap, {} of stack",
        held.bytes_current / 100,
        2 * size_of::<Connection>()
    );

    let mut world = World::new(1);
    world.delay = ms(0);
    world.open();
    let began = Instant::now();
    for round in 0..10_000 {
        world.send(A, vec![0; 1024]);
        world.until(ms(100), |world| world.sides[B].got.len() > round);
        world.send(B, vec![0; 1024]);
        world.until(ms(100), |world| world.sides[A].got.len() > round);
    }
    println!("echo of 1 KiB, both sides: {:?}, virtual {:?}", began.elapsed() / 10_000, world.time());

    let mut world = World::new(1);
    world.delay = ms(0);
    world.open();
    let began = Instant::now();
    let (mut sent, mut got, mut buffers) = (0, 0, 0);
    let total = 400 << 20;
    let mut buffer = Vec::new();
    let message = bytes::Bytes::from(vec![0; 16 * 1024]);
    while got < total {
        let now = world.now;
        while sent < total && world.sides[A].connection.buffered(DATA) < 1 << 20 {
            world.connection(A).send(now, DATA, Message::binary(message.clone())).unwrap();
            sent += message.len();
        }
        let mut idle = true;
        for side in [A, B] {
            let [one, two] = &mut world.sides;
            let (from, to) = if side == A { (one, two) } else { (two, one) };
            while let Some(transmit) = from.connection.poll_transmit(now, &mut buffer) {
                idle = false;
                buffers += 1;
                let size = transmit.segment.unwrap_or(buffer.len());
                for datagram in buffer.chunks_mut(size) {
                    to.connection.handle_input(
                        now,
                        transmit.source,
                        transmit.destination,
                        transmit.protocol,
                        datagram,
                    );
                }
            }
            while let Some(message) = to.connection.receive(DATA) {
                got += message.data.len();
            }
            while to.connection.poll_event().is_some() {}
        }
        if idle {
            let next =
                world.sides.iter_mut().filter_map(|side| side.connection.poll_timeout(now)).min().unwrap();
            world.now = next.max(now);
            let now = world.now;
            for side in &mut world.sides {
                side.connection.handle_timeout(now);
            }
        } else {
            world.now += std::time::Duration::from_micros(50);
        }
    }
    let took = began.elapsed();
    println!(
        "bulk of 16 KiB, both sides on one core: {:.0} MB/s, {buffers} buffers, virtual {:?}",
        total as f64 / 1e6 / took.as_secs_f64(),
        world.time()
    );
}
