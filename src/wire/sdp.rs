//! Descriptions and candidates, as signaling and the `negotiation` channel carry them.
//!
//! A description travels as padded standard base64 of the JSON object `{"type": .., "sdp": ..}`; a
//! candidate as `ICECandidate`, whose optional fields keep their presence. The SDP itself is opaque here:
//! the stack below reads it.
//!
//! Contract: goutils `rpc/wrtc_signaling.go`, `rpc/wrtc_peer.go`.

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::{Deserialize, Serialize};

use crate::proto::webrtc::IceCandidate;

/// The longest encoded description that is decoded, in bytes. A data channel's needs about 2 kB; one with
/// a browser's full list of codecs and candidates stays under 100 kB.
pub const MAX_DESCRIPTION: usize = 1 << 20;

/// Which half of the exchange a description is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DescriptionKind {
    /// Made by the caller.
    Offer,
    /// Made by the answerer.
    Answer,
}

impl fmt::Display for DescriptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
        })
    }
}

/// A session description: an offer or an answer, with the candidates known when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Offer or answer.
    #[serde(rename = "type")]
    pub kind: DescriptionKind,
    /// The SDP text, lines ending in CR LF.
    pub sdp: String,
}

impl Description {
    /// An offer with this SDP.
    pub fn offer(sdp: impl Into<String>) -> Self {
        Self { kind: DescriptionKind::Offer, sdp: sdp.into() }
    }

    /// An answer with this SDP.
    pub fn answer(sdp: impl Into<String>) -> Self {
        Self { kind: DescriptionKind::Answer, sdp: sdp.into() }
    }

    /// The form that signaling and the `negotiation` channel carry.
    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        STANDARD.encode(json)
    }

    /// Reads what [`encode`](Self::encode) or another implementation wrote. Padding may be missing.
    ///
    /// # Errors
    /// [`DescriptionError`] says which layer was wrong: length, base64, JSON, or an empty SDP.
    pub fn decode(text: &str) -> Result<Self, DescriptionError> {
        if text.len() > MAX_DESCRIPTION {
            return Err(DescriptionError::TooLong(text.len()));
        }
        let json =
            LENIENT.decode(text.trim()).map_err(|cause| DescriptionError::Base64(cause.to_string()))?;
        let description: Self =
            serde_json::from_slice(&json).map_err(|cause| DescriptionError::Json(cause.to_string()))?;
        if description.sdp.is_empty() {
            return Err(DescriptionError::Empty);
        }
        Ok(description)
    }
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a description could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// Longer than [`MAX_DESCRIPTION`].
    #[error("description of {0} bytes is longer than {MAX_DESCRIPTION}")]
    TooLong(usize),
    /// Not base64. The text keeps goutils' word, which its tests look for.
    #[error("illegal base64 in description: {0}")]
    Base64(String),
    /// Not the JSON of a description. The text keeps goutils' word, which its tests look for.
    #[error("unexpected JSON in description: {0}")]
    Json(String),
    /// No SDP inside.
    #[error("unexpected empty SDP in description")]
    Empty,
}

/// One candidate, with the presence of its optional parts kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Candidate {
    /// The attribute value, `candidate:...`. The prefix may be missing in what peers send.
    pub candidate: String,
    /// The media section's id. Peers send absent, `""` or `"0"` for the one there is.
    pub sdp_mid: Option<String>,
    /// The media section's index.
    pub sdp_mline_index: Option<u32>,
    /// The ICE generation it belongs to. Empty means absent.
    pub username_fragment: Option<String>,
}

impl From<Candidate> for IceCandidate {
    fn from(from: Candidate) -> Self {
        Self {
            candidate: from.candidate,
            sdp_mid: from.sdp_mid,
            sdpm_line_index: from.sdp_mline_index,
            username_fragment: from.username_fragment,
        }
    }
}

impl From<IceCandidate> for Candidate {
    fn from(from: IceCandidate) -> Self {
        Self {
            candidate: from.candidate,
            sdp_mid: from.sdp_mid,
            sdp_mline_index: from.sdpm_line_index,
            username_fragment: from.username_fragment.filter(|fragment| !fragment.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_travels_as_base64_of_json() {
        let offer = Description::offer("v=0\r\n");
        assert_eq!(offer.encode(), STANDARD.encode(br#"{"type":"offer","sdp":"v=0\r\n"}"#));
        assert_eq!(Description::decode(&offer.encode()), Ok(offer));
    }

    #[test]
    fn field_order_unknown_fields_and_missing_padding_do_not_matter() {
        let text = STANDARD.encode(br#"{"sdp":"v=0","x":[1],"type":"answer"}"#);
        assert_eq!(Description::decode(text.trim_end_matches('=')), Ok(Description::answer("v=0")));
    }

    #[test]
    fn garbage_says_which_layer_was_wrong() {
        assert!(matches!(Description::decode("%%"), Err(DescriptionError::Base64(_))));
        assert!(matches!(Description::decode(""), Err(DescriptionError::Json(_))));
        assert!(matches!(Description::decode(&STANDARD.encode("{}")), Err(DescriptionError::Json(_))));
        let empty = STANDARD.encode(br#"{"type":"offer","sdp":""}"#);
        assert_eq!(Description::decode(&empty), Err(DescriptionError::Empty));
        let long = "A".repeat(MAX_DESCRIPTION + 1);
        assert_eq!(Description::decode(&long), Err(DescriptionError::TooLong(MAX_DESCRIPTION + 1)));
    }

    #[test]
    fn absent_stays_absent_and_empty_stays_empty_but_for_the_fragment() {
        let wire = IceCandidate {
            candidate: "candidate:1".into(),
            sdp_mid: Some(String::new()),
            sdpm_line_index: None,
            username_fragment: Some(String::new()),
        };
        let candidate = Candidate::from(wire);
        assert_eq!(candidate.sdp_mid.as_deref(), Some(""));
        assert_eq!(candidate.sdp_mline_index, None);
        assert_eq!(candidate.username_fragment, None);
        assert_eq!(IceCandidate::from(candidate).sdp_mid.as_deref(), Some(""));
    }
}
