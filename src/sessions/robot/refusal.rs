//! What callers are told whose session is no good: the exact statuses.
//!
//! Floor 4, pure. An id that the caller had and that has expired is [`SESSION_EXPIRED`] to the byte, since every
//! client waits for that text. Everything else has another text, which says what to do. Another's id and one that
//! never was have the same text, so that nobody finds out which ids there are.

use http::HeaderMap;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use uuid::Uuid;

use super::book::{NotStarted, Refused};
use crate::wire::session::{EXPIRED_SESSION_KEY, SESSION_EXPIRED, SESSION_METADATA_KEY};

/// The longest spelling of an id: hyphens and all.
const MAX_ID: usize = 36;

/// What a peer may compress with.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// An id as its caller spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sid {
    pub(super) id: Uuid,
    /// 36 characters at most, hexadecimal digits and hyphens.
    spelled: String,
}

impl Sid {
    /// Reads an id. `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let id = (text.len() <= MAX_ID).then(|| Uuid::try_parse(text).ok())??;
        Some(Self { id, spelled: text.to_owned() })
    }

    /// The id in a call's headers, if there is one.
    pub(super) fn of_call(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let mut values = headers.get_all(SESSION_METADATA_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let more = values.count();
        if more > 0 {
            let text = format!("{SESSION_METADATA_KEY} has {} values: expected one session's id", more + 1);
            return Err(Status::invalid_argument(text));
        }
        let sid = value.to_str().ok().and_then(Self::parse);
        sid.map(Some).ok_or_else(|| malformed(SESSION_METADATA_KEY))
    }

    /// The refusal of this id.
    pub(super) fn refused(&self, why: Refused) -> Status {
        match why {
            Refused::Expired => self.expired(),
            Refused::Unknown => self.about(
                "you have no session of this id here: call StartSession, with `resume` if it was yours on an \
                 earlier connection",
            ),
        }
    }

    /// The session has expired.
    pub(super) fn expired(&self) -> Status {
        self.about(SESSION_EXPIRED)
    }

    /// The session has expired while a call ran under it. Not INVALID_ARGUMENT: for that text callers make a call
    /// once more, and this one has moved something.
    pub(super) fn cut(&self) -> Status {
        let text = "the session has expired while the call ran: the call was cut and what it moved is stopped; do not \
                    simply make it again";
        self.with_id(Status::aborted(text))
    }

    /// Why a session was not started in which this one should go on.
    fn foreign(&self) -> Status {
        self.about(
            "you cannot resume this session: it is another identity's, or came over another kind of transport; \
             leave `resume` empty for one of your own",
        )
    }

    fn about(&self, text: &str) -> Status {
        self.with_id(Status::new(Code::InvalidArgument, text))
    }

    fn with_id(&self, mut status: Status) -> Status {
        if let Ok(id) = self.spelled.parse() {
            status.metadata_mut().insert(EXPIRED_SESSION_KEY, id);
        }
        status
    }
}

/// What should be an id is none. It is not repeated: it may be long.
pub(super) fn malformed(what: &str) -> Status {
    Status::invalid_argument(format!(
        "{what} is not a session's id: expected a UUID, as StartSession returned it"
    ))
}

/// No session was started.
pub(super) fn not_started(why: NotStarted, resume: Option<&Sid>) -> Status {
    match (why, resume) {
        (NotStarted::Foreign, Some(sid)) => sid.foreign(),
        (NotStarted::Full, _) => Status::resource_exhausted(
            "the robot has as many sessions as it takes: try again when one has expired",
        ),
        (NotStarted::FullForOwner | NotStarted::Foreign, _) => Status::resource_exhausted(
            "you have as many sessions as one caller may: use one of them, or wait until one has expired",
        ),
    }
}

/// What the call moves cannot be read. Tells, as gRPC would have it, which compression is understood: none.
pub(super) fn compressed() -> Status {
    let mut status = Status::unimplemented(
        "this call is under a session, and what it moves cannot be read in a compressed message: send its first \
         message uncompressed",
    );
    status.metadata_mut().insert(ACCEPT_ENCODING, MetadataValue::from_static("identity"));
    status
}

/// Nothing moves any more.
pub(super) fn shutting_down() -> Status {
    Status::unavailable("the robot is shutting down")
}

/// The book is full of resources.
pub(super) fn too_many_resources() -> Status {
    Status::resource_exhausted("sessions hold as many resources as the robot remembers: try again later")
}
