//! The committed code under `src/proto/generated` and `tests/common/generated` is what `proto/` says.
//!
//! Fails on any difference. `UPDATE_GENERATED=1 cargo test --test generated_code_is_current` writes the
//! files anew. Pure Rust (`protox`): no protoc is needed here or anywhere.

use std::collections::BTreeMap;
use std::path::Path;

const CONTRACT: &[&str] = &[
    "google/rpc/status.proto",
    "rpc/v1/auth.proto",
    "rpc/webrtc/v1/grpc.proto",
    "rpc/webrtc/v1/signaling.proto",
    "rpc/examples/echo/v1/echo.proto",
    "common/v1/common.proto",
    "robot/v1/robot.proto",
];

#[test]
fn the_contract_is_current() {
    check("proto", CONTRACT, "src/proto/generated");
}

#[test]
fn the_probe_service_is_current() {
    check("tests/proto", &["probe.proto"], "tests/common/generated");
}

fn check(include: &str, files: &[&str], committed: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = generate(&root.join(include), files);
    let committed = root.join(committed);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(&committed).unwrap();
        for stale in read_dir(&committed).keys().filter(|name| !fresh.contains_key(*name)) {
            std::fs::remove_file(committed.join(stale)).unwrap();
        }
        for (name, text) in &fresh {
            std::fs::write(committed.join(name), text).unwrap();
        }
        return;
    }
    let found = read_dir(&committed);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&fresh), "files under {}", committed.display());
    for (name, text) in &fresh {
        assert!(
            &found[name] == text,
            "{}/{name} is stale: run UPDATE_GENERATED=1 cargo test --test generated_code_is_current",
            committed.display()
        );
    }
}

fn generate(include: &Path, files: &[&str]) -> BTreeMap<String, String> {
    let descriptors = protox::compile(files, [include]).unwrap();
    let out = std::env::temp_dir().join(format!("farlink-generated-{}-{}", std::process::id(), files.len()));
    std::fs::create_dir_all(&out).unwrap();
    tonic_prost_build::configure()
        .out_dir(&out)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .unwrap();
    let fresh = read_dir(&out);
    std::fs::remove_dir_all(&out).unwrap();
    fresh
}

fn read_dir(path: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(path) else { return BTreeMap::new() };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}
