//! The `Call` stream: what the answerer says, as the caller hears it.
//!
//! Floor 3. Ends as soon as the answerer is done: browsers do not count a dial as done before. Invariant:
//! everything the answerer said comes before the end, and its error keeps code and details.

use futures_core::stream::BoxStream;
use futures_util::stream;
use prost::Message as _;
use tonic::{Code, Status};

use crate::proto::google_rpc;
use crate::proto::webrtc::call_response::Stage;
use crate::proto::webrtc::{CallResponse, CallResponseInitStage, CallResponseUpdateStage};
use crate::signaling::queue::{AnswererItem, Call, QueueError};

pub(super) fn stream(call: Box<dyn Call>) -> BoxStream<'static, Result<CallResponse, Status>> {
    Box::pin(stream::unfold(Some(call), |call| async move {
        let mut call = call?;
        let item = call.next().await;
        let uuid = call.uuid().to_owned();
        match respond(uuid, item)? {
            Ok(response) => Some((Ok(response), Some(call))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

fn respond(
    uuid: String,
    item: Result<Option<AnswererItem>, QueueError>,
) -> Option<Result<CallResponse, Status>> {
    let stage = match item {
        Ok(Some(AnswererItem::Answer(sdp))) => Stage::Init(CallResponseInitStage { sdp }),
        Ok(Some(AnswererItem::Candidate(candidate))) => {
            Stage::Update(CallResponseUpdateStage { candidate: Some(candidate) })
        }
        Ok(Some(AnswererItem::Done) | None) => return None,
        Ok(Some(AnswererItem::Error(status))) => return Some(Err(from_answerer(status))),
        Err(error) => return Some(Err(error.into())),
    };
    Some(Ok(CallResponse { uuid, stage: Some(stage) }))
}

fn from_answerer(mut status: google_rpc::Status) -> Status {
    // An error with the code OK would end the stream as if all were well.
    let code = match Code::from_i32(status.code) {
        Code::Ok => Code::Unknown,
        code => code,
    };
    status.code = code as i32;
    status.message = format!("error from answerer: {}", status.message);
    if status.details.is_empty() {
        return Status::new(code, status.message);
    }
    let details = status.encode_to_vec();
    Status::with_details(code, status.message, details.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_code_ok_is_still_an_error() {
        let status = from_answerer(google_rpc::Status { code: 0, message: "odd".into(), details: vec![] });
        assert_eq!((status.code(), status.message()), (Code::Unknown, "error from answerer: odd"));
        assert!(status.details().is_empty());
    }
}
