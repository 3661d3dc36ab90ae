//! SCTP for data channels, RFC 9260.
