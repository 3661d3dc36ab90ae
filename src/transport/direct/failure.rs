//! What an HTTP/2 failure means in gRPC's words.

use std::error::Error;

use h2::Reason;
use tonic::Status;

use crate::transport::CloseReason;

/// The status of a call that failed with this error on a connection that may have ended.
pub(super) fn status(error: &hyper::Error, closed: Option<CloseReason>) -> Status {
    if let Some(reason) = closed {
        return reason.status();
    }
    let h2 = find_h2(error);
    let reset = h2.filter(|h2| h2.is_reset()).and_then(h2::Error::reason);
    let text = describe(error);
    match reset {
        Some(Reason::CANCEL) => Status::cancelled(text),
        Some(Reason::ENHANCE_YOUR_CALM) => Status::resource_exhausted(text),
        Some(Reason::INADEQUATE_SECURITY) => Status::permission_denied(text),
        Some(Reason::REFUSED_STREAM) => Status::unavailable(text),
        Some(_) => Status::internal(text),
        // A caller's own body failed: its status says it better.
        None => match error.is_user().then(|| user_status(error)).flatten() {
            Some(status) => status,
            // Everything else is the connection's end, seen before the connection's task told us.
            None => CloseReason::Lost(text).status(),
        },
    }
}

/// The error and its causes in one line.
pub(super) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn find_h2(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref() {
            return Some(h2);
        }
        cause = error.source();
    }
    None
}

fn user_status(error: &hyper::Error) -> Option<Status> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(status) = error.downcast_ref::<Status>() {
            return Some(status.clone());
        }
        cause = error.source();
    }
    None
}
