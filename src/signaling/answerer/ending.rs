//! How an `Answer` stream ended, so far as it matters for opening the next one.
//!
//! Floor 3, pure.

use std::error::Error;

use tonic::{Code, Status};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The call on it was answered and handed over.
    Answered,
    /// The call on it failed.
    Failed,
    /// Nobody called, and the server or something on the way ended it as such things do.
    Benign,
    /// The server has enough answerers for this host.
    Crowded,
    /// The connection to the server is gone.
    Lost(String),
    /// The server does not want us.
    Refused(String),
    /// No heartbeat came any more.
    Silent,
    /// The server broke the rules.
    Violation,
    /// The answerer is being stopped.
    Stopped,
}

/// Texts of stream ends that mean nothing. Contract: goutils `rpc/wrtc_signaling_answerer.go`.
const BENIGN: [&str; 5] = [
    "too_many_pings",
    "upstream max stream duration reached",
    "stream terminated by RST_STREAM",
    "server closed the stream without sending trailers",
    // What the `h2` crate says where Go says RST_STREAM.
    "stream error received",
];

impl Ending {
    /// What the error of an idle stream means.
    pub(super) fn of(status: &Status) -> Self {
        let text = whole_text(status);
        if status.code() == Code::Unavailable && text.contains("too many connection attempts") {
            return Self::Crowded;
        }
        let benign = matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded)
            || BENIGN.iter().any(|known| text.contains(known));
        if benign {
            Self::Benign
        } else if is_local(status) {
            Self::Lost(text)
        } else {
            Self::Refused(text)
        }
    }
}

/// Whether the status was made on this side because no server answered.
pub(super) fn is_local(status: &Status) -> bool {
    status.source().is_some() || status.message().starts_with("Service was not ready")
}

/// The message with the causes below it.
pub(super) fn whole_text(status: &Status) -> String {
    let mut text = format!("{}: {}", status.code(), status.message());
    let mut cause = status.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_mean_nothing_are_benign_and_the_others_are_not() {
        let of = |code, text: &str| Ending::of(&Status::new(code, text));
        for status in [
            (Code::Cancelled, ""),
            (Code::DeadlineExceeded, ""),
            (Code::Unavailable, "upstream max stream duration reached"),
            (Code::Internal, "stream terminated by RST_STREAM with error code: NO_ERROR"),
            (Code::Internal, "server closed the stream without sending trailers"),
            (Code::Unavailable, "closing transport: too_many_pings"),
        ] {
            assert_eq!(of(status.0, status.1), Ending::Benign, "{status:?}");
        }
        let crowded = "too many connection attempts; please wait a bit and try again";
        assert_eq!(of(Code::Unavailable, crowded), Ending::Crowded);
        assert!(matches!(of(Code::PermissionDenied, "no"), Ending::Refused(_)));
        assert!(matches!(of(Code::Unavailable, "no"), Ending::Refused(_)));
        let lost = Status::from_error(Box::new(std::io::Error::other("connection reset")));
        assert!(matches!(Ending::of(&lost), Ending::Lost(text) if text.contains("connection reset")));
    }
}
