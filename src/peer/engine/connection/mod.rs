//! ICE, DTLS and SCTP as one object without I/O.
