//! The house stands: every file under `src/` imports only from below, the webrtc crate stays in its room,
//! floor 0 knows no runtime and no clock, and no file grows past its cap.
//!
//! Reads the source as tokens, macros' bodies included, so that comments and strings do not count.
//! Modules under `#[cfg(test)]`, files `tests.rs` and generated code are left out.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The rooms and how high they are. A file imports from its own room and from rooms of a lower rank; rooms
/// of the same rank do not know each other. The tens digit is the floor.
const RANKS: &[(&str, u32)] = &[
    ("proto", 0),
    ("wire", 1),
    ("address", 2),
    ("backoff", 3),
    ("peer", 10),
    ("peer::memory", 11),
    ("peer::webrtc_rs", 11),
    ("peer::engine", 11),
    ("transport", 20),
    ("transport::direct", 21),
    ("transport::webrtc", 21),
    ("auth", 30),
    ("discovery", 31),
    ("signaling", 32),
    ("dial", 33),
    ("event", 40),
    ("channel", 41),
    ("server", 42),
    ("redial", 43),
    ("sessions", 44),
];

const LONGEST_FILE: usize = 600;

#[test]
fn every_file_imports_only_from_lower_floors() {
    assert_none(sources().iter().flat_map(Source::imports_from_above));
}

#[test]
fn the_webrtc_crate_stays_in_its_room() {
    assert_none(sources().iter().flat_map(Source::strays_of_the_webrtc_crate));
}

#[test]
fn floor_zero_knows_no_runtime_and_no_clock() {
    assert_none(sources().iter().flat_map(Source::runtime_and_clock_on_floor_zero));
}

#[test]
fn no_file_is_longer_than_its_cap() {
    assert_none(sources().iter().flat_map(Source::too_long));
}

#[test]
fn imports_from_above_are_caught() {
    let faults = |file, text| Source::new(file, text).imports_from_above().len();
    for (file, text) in [
        ("wire/frame.rs", "use crate::peer::Stack;"),
        ("peer/mod.rs", "use crate::{wire::{self, sdp}, transport::{Transport}};"),
        ("peer/ice.rs", "fn f() -> crate::peer::memory::Network { todo!() }"),
        ("peer/ice.rs", "use super::memory::Network;"),
        ("peer/memory.rs", "use super::webrtc_rs::Api;"),
        ("peer/memory/pipe.rs", "use super::super::webrtc_rs::Api;"),
        ("transport/direct.rs", "use crate::transport::webrtc::Mux;"),
        ("signaling/caller.rs", "async fn f() { tokio::select! { _ = crate::dial::plan() => {} } }"),
        ("event.rs", "pub(crate) use super::channel::Channel;"),
        ("dial/plan.rs", "#[cfg(feature = \"webrtc\")] mod inner { use crate::channel::Channel; }"),
        // From the crate's root instead of from the room, and from a room that has no floor.
        ("dial/plan.rs", "use crate::Channel;"),
        ("attic/mod.rs", "use crate::wire::sdp;"),
    ] {
        assert_eq!(faults(file, text), 1, "{file}: {text}");
    }
    for (file, text) in [
        (
            "wire/frame.rs",
            "use crate::proto::webrtc; use crate::wire::sdp; // crate::dial\n const S: &str = \"crate::dial\";",
        ),
        ("wire/frame.rs", "pub fn f() {} #[cfg(test)] mod tests { use super::*; use crate::dial::plan; }"),
        ("wire/frame/tests.rs", "use crate::dial::plan;"),
        ("peer/mod.rs", "pub mod memory; pub use self::memory::Network; pub(crate) fn f() {}"),
        (
            "peer/webrtc_rs/channel.rs",
            "use super::Shared; use super::super::Stack; use crate::peer::ice::IceUrl;",
        ),
        ("server/mod.rs", "use crate::{address, auth, dial, event, channel::Channel, transport::webrtc};"),
        ("lib.rs", "pub use crate::server::Robot;"),
    ] {
        assert_eq!(faults(file, text), 0, "{file}: {text}");
    }
}

#[test]
fn strays_of_the_webrtc_crate_are_caught() {
    let faults = |file, text| Source::new(file, text).strays_of_the_webrtc_crate().len();
    for text in [
        "use webrtc::api::APIBuilder;",
        "use ::webrtc::api::APIBuilder;",
        "use {std::fmt, webrtc::api};",
        "use webrtc as stack;",
        "fn f(_: webrtc::api::API) {}",
        "extern crate webrtc;",
    ] {
        assert_eq!(faults("signaling/caller.rs", text), 1, "{text}");
        assert_eq!(faults("peer/webrtc_rs/mod.rs", text), 0, "{text}");
    }
    for text in [
        "use crate::proto::webrtc::Request;",
        "use crate::proto::{self, webrtc::Request};",
        "use crate::proto::webrtc; fn f(_: webrtc::Request) {}",
        "pub mod webrtc; pub use webrtc::Mux;",
        "fn f() { let webrtc = 1; g(webrtc) }",
    ] {
        assert_eq!(faults("transport/mod.rs", text), 0, "{text}");
    }
}

#[test]
fn runtimes_and_clocks_on_floor_zero_are_caught() {
    let faults = |file, text| Source::new(file, text).runtime_and_clock_on_floor_zero().len();
    for text in [
        "use tokio::sync::mpsc;",
        "use tokio_util::sync::CancellationToken;",
        "use std::time::{Duration, Instant};",
        "fn f() -> std::time::SystemTime { todo!() }",
        "use std::time; fn f(_: time::Instant) {}",
    ] {
        assert_eq!(faults("wire/frame.rs", text), 1, "{text}");
        assert_eq!(faults("address.rs", text), 1, "{text}");
        assert_eq!(faults("peer/mod.rs", text), 0, "{text}");
    }
    assert_eq!(faults("wire/frame.rs", "use std::time::Duration; // tokio"), 0);
}

#[test]
fn long_files_are_caught() {
    let faults = |file, lines: usize| Source::new(file, &"\n".repeat(lines)).too_long().iter().count();
    assert_eq!(faults("wire/frame.rs", LONGEST_FILE), 0);
    assert_eq!(faults("wire/frame.rs", LONGEST_FILE + 1), 1);
    assert_eq!(faults("wire/frame/tests.rs", LONGEST_FILE + 1), 0);
}

/// One file under `src/`.
struct Source {
    /// Relative to `src/`, with `/` between the parts.
    file: String,
    lines: usize,
    mentions: Vec<Mention>,
}

/// A path in the text, as `a::b::c`, groups of `use` spread out. A name alone is a mention too.
struct Mention {
    segments: Vec<String>,
}

struct Fault(String);

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Source {
    fn new(file: &str, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("src/{file}: {error}"));
        let mut mentions = Vec::new();
        collect(&tokens.into_iter().collect::<Vec<_>>(), &mut mentions);
        Self { file: file.to_owned(), lines: text.lines().count(), mentions }
    }

    fn imports_from_above(&self) -> Vec<Fault> {
        if self.is_test() || self.file == "lib.rs" {
            return Vec::new();
        }
        let modules = self.module();
        let Some((own, rank)) = room(&modules) else {
            return vec![Fault(format!("src/{}: has no floor; give its room a rank", self.file))];
        };
        let mut faults = Vec::new();
        for mention in &self.mentions {
            let Some(target) = self.resolve(mention) else { continue };
            match room(&target) {
                Some((room, _)) if room == own => {}
                Some((_, below)) if below < rank => {}
                Some((room, _)) => faults.push(self.fault(mention, format!("{own} is not above {room}"))),
                None if target.is_empty() => {}
                None => faults.push(self.fault(mention, "name the room that it lives in".to_owned())),
            }
        }
        faults
    }

    fn strays_of_the_webrtc_crate(&self) -> Vec<Fault> {
        let ours = self.mentions.iter().any(|mention| match mention.names().as_slice() {
            ["mod", "webrtc"] => true,
            [first, .., "webrtc"] => matches!(*first, "crate" | "self" | "super"),
            _ => false,
        });
        if self.is_test() || self.file.starts_with("peer/webrtc_rs") {
            return Vec::new();
        }
        let stray = |mention: &&Mention| match mention.names().as_slice() {
            ["", "webrtc", ..] | ["extern", "webrtc"] | ["use", "webrtc"] => true,
            ["webrtc", _, ..] => !ours,
            _ => false,
        };
        let reason = || "only peer::webrtc_rs may name the webrtc crate".to_owned();
        self.mentions.iter().filter(stray).map(|mention| self.fault(mention, reason())).collect()
    }

    fn runtime_and_clock_on_floor_zero(&self) -> Vec<Fault> {
        if self.is_test() || room(&self.module()).is_none_or(|(_, rank)| rank >= 10) {
            return Vec::new();
        }
        let forbidden = |mention: &&Mention| {
            let names = mention.names();
            let first = names.iter().find(|name| !name.is_empty());
            first.is_some_and(|first| *first == "tokio" || first.starts_with("tokio_"))
                || names.iter().any(|name| matches!(*name, "Instant" | "SystemTime"))
        };
        let reason = || "floor 0 knows no runtime and no clock".to_owned();
        self.mentions.iter().filter(forbidden).map(|mention| self.fault(mention, reason())).collect()
    }

    fn too_long(&self) -> Option<Fault> {
        (!self.is_test() && self.lines > LONGEST_FILE)
            .then(|| Fault(format!("src/{}: {} lines, the cap is {LONGEST_FILE}", self.file, self.lines)))
    }

    fn is_test(&self) -> bool {
        self.file == "tests.rs" || self.file.ends_with("/tests.rs") || self.file.contains("/tests/")
    }

    /// The path of this file's module below the crate.
    fn module(&self) -> Vec<String> {
        let stem = self.file.trim_end_matches(".rs").trim_end_matches("/mod");
        stem.split('/').map(str::to_owned).collect()
    }

    /// Where a path leads, below the crate; `None` for one that begins with another crate or a local name.
    ///
    /// `self` is left out: it opens a room's own doors. `super` within an inline module is taken to be
    /// the file's parent, which is the same room or one further down.
    fn resolve(&self, mention: &Mention) -> Option<Vec<String>> {
        let mut base = match mention.segments.first()?.as_str() {
            "crate" => Vec::new(),
            "super" => self.module(),
            _ => return None,
        };
        let mut rest = mention.segments.as_slice();
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = others;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn fault(&self, mention: &Mention, reason: String) -> Fault {
        Fault(format!("src/{}: {}: {reason}", self.file, mention.segments.join("::")))
    }
}

impl Mention {
    fn names(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }
}

/// The room that a path below the crate is in, and its rank.
fn room(path: &[String]) -> Option<(&'static str, u32)> {
    let find = |name: &str| RANKS.iter().find(|(room, _)| *room == name).copied();
    let first = path.first()?;
    path.get(1).and_then(|second| find(&format!("{first}::{second}"))).or_else(|| find(first))
}

/// Finds the paths among these tokens, in the order of the text.
fn collect(tokens: &[TokenTree], mentions: &mut Vec<Mention>) {
    let mut at = 0;
    while at < tokens.len() {
        if let Some(end) = end_of_test_item(tokens, at) {
            at = end;
            continue;
        }
        at = match &tokens[at] {
            TokenTree::Group(group) => {
                collect(&group.stream().into_iter().collect::<Vec<_>>(), mentions);
                at + 1
            }
            // A path that begins with `::` begins with an empty name.
            TokenTree::Punct(_) if is_path_separator(tokens, at) => path(tokens, at, &[], mentions),
            TokenTree::Ident(name) => {
                // A bare name after one of these is kept with it: `use webrtc as x`, `mod webrtc`.
                let name = name.to_string();
                let next = tokens.get(at + 1).filter(|_| !is_path_separator(tokens, at + 2));
                match next {
                    Some(TokenTree::Ident(named)) if matches!(name.as_str(), "use" | "mod") => {
                        mentions.push(Mention { segments: vec![name, named.to_string()] });
                        at + 2
                    }
                    Some(TokenTree::Ident(named)) if name == "extern" && *named == "crate" => {
                        let segments =
                            vec![name, tokens.get(at + 2).map(ToString::to_string).unwrap_or_default()];
                        mentions.push(Mention { segments });
                        at + 3
                    }
                    _ if is_keyword(&name) => at + 1,
                    _ => path(tokens, at, &[], mentions),
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
        };
    }
}

/// Reads the path at `at`, with all that a group at its end spreads out to, and says where it ends.
fn path(tokens: &[TokenTree], mut at: usize, prefix: &[String], mentions: &mut Vec<Mention>) -> usize {
    let mut segments = prefix.to_vec();
    if is_path_separator(tokens, at) {
        segments.push(String::new());
        at += 2;
    }
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => segments.push(name.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner = group.stream().into_iter().collect::<Vec<_>>();
                let mut start = 0;
                while start < inner.len() {
                    let end = path(&inner, start, &segments, mentions);
                    let is_comma =
                        |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
                    let comma = inner[end..].iter().position(is_comma);
                    start = comma.map_or(inner.len(), |comma| end + comma + 1);
                }
                return at + 1;
            }
            // A glob, or the generic arguments of the last name: those are read as tokens of their own.
            _ => break,
        }
        at += 1;
        if !is_path_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    mentions.push(Mention { segments });
    at
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon =
        |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
}

fn is_keyword(name: &str) -> bool {
    ["use", "mod", "pub", "fn", "as", "in", "return", "mut", "ref", "dyn", "impl", "where", "for", "extern"]
        .contains(&name)
}

/// Where an item under `#[cfg(test)]` ends, when one begins here.
fn end_of_test_item(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let TokenTree::Punct(hash) = tokens.get(at)? else { return None };
    let TokenTree::Group(attribute) = tokens.get(at + 1)? else { return None };
    let attribute = attribute.stream().to_string().replace(' ', "");
    if hash.as_char() != '#' || attribute != "cfg(test)" {
        return None;
    }
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    let body = tokens[at + 2..].iter().position(ends)?;
    Some(at + 2 + body + 1)
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 5, "found only {files:?}");
    let name = |file: &PathBuf| {
        let parts = file.strip_prefix(&root).unwrap().iter();
        parts.map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("/")
    };
    files.iter().map(|file| Source::new(&name(file), &fs::read_to_string(file).unwrap())).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "generated") {
                walk(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn assert_none(faults: impl Iterator<Item = Fault>) {
    let faults = faults.collect::<Vec<_>>();
    assert!(faults.is_empty(), "{faults:#?}");
}
