//! What sessions cost, and how late they are: all rows in one run.
//!
//! `cargo bench --bench sessions [-- SECONDS] [crowd] [robot] [resets] [layer] [upload]`: all of them by default,
//! and 10 s for each row that takes real time. Figures of one run compare; figures of two runs, or of two
//! machines, do not.
//!
//! Rows: many callers in one process and many sessions on one robot (first, while the heap is empty), resets,
//! the layer's cost for each call, and how long heartbeats wait behind an upload that fills the link.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "sessions/crowd.rs"]
mod crowd;
#[path = "sessions/figures.rs"]
mod figures;
#[path = "sessions/layer.rs"]
mod layer;
#[path = "sessions/resets.rs"]
mod resets;
#[path = "sessions/robot.rs"]
mod robot;
#[path = "sessions/upload.rs"]
mod upload;
#[path = "sessions/wire.rs"]
mod wire;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Its name, and what prints its rows.
type Part = (&'static str, fn(Duration));

fn main() {
    // `cargo bench` and `cargo test --benches` pass flags of their own.
    let seconds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(10.0);
    let budget = Duration::from_secs_f64(seconds);
    let parts: [Part; 5] = [
        ("crowd", crowd::rows),
        ("robot", |_| robot::rows()),
        ("resets", |_| resets::rows()),
        ("layer", |_| layer::rows()),
        ("upload", upload::rows),
    ];
    let named = |name: &str| std::env::args().any(|word| word == name);
    let all = !parts.iter().any(|(name, _)| named(name));
    parts.iter().filter(|(name, _)| all || named(name)).for_each(|(_, rows)| rows(budget));
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
