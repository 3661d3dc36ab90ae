//! The words of sessions: keys, paths and texts that both ends match to the byte.
//!
//! Floor 0. What they mean is told in `sessions`, on floor 4; the floors between know them because a
//! heartbeat is urgent and a session's id belongs to one connection.

/// The request metadata that names the caller's session. Same literal in every SDK (rdk `session/context.go`).
pub const SESSION_METADATA_KEY: &str = "viam-sid";

/// The response headers that name the resources a call moves, one value each, `namespace:type:subtype/name`.
pub const MONITORED_RESOURCE_KEY: &str = "viam-smrn";

/// The trailer with which a farlink robot says which session an expiry is about. Robots of other people send
/// none.
pub const EXPIRED_SESSION_KEY: &str = "viam-sid-expired";

/// The message of the INVALID_ARGUMENT that says a session is gone. Exactly this text, no details.
pub const SESSION_EXPIRED: &str = "SESSION_EXPIRED";

/// Starts a session, or goes on with one.
pub const START_SESSION: &str = "/viam.robot.v1.RobotService/StartSession";

/// The sign of life.
pub const SEND_SESSION_HEARTBEAT: &str = "/viam.robot.v1.RobotService/SendSessionHeartbeat";

/// The methods that never carry a session's id, whatever the policy: the SDKs' deny list, nine paths.
pub const EXEMPT_METADATA_METHODS: [&str; 9] = [
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/proto.rpc.webrtc.v1.SignalingService/Call",
    "/proto.rpc.webrtc.v1.SignalingService/CallUpdate",
    "/proto.rpc.webrtc.v1.SignalingService/OptionalWebRTCConfig",
    "/proto.rpc.v1.AuthService/Authenticate",
    "/viam.robot.v1.RobotService/ResourceNames",
    "/viam.robot.v1.RobotService/ResourceRPCSubtypes",
    START_SESSION,
    SEND_SESSION_HEARTBEAT,
];
