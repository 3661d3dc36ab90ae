//! The generated words of the wire: messages, and tonic's clients and servers.
//!
//! Floor 0. Made from the `.proto` files under `proto/` and committed;
//! `tests/generated_code_is_current.rs` fails when they differ. By hand there is only the tree of
//! modules, which must follow the packages, and the short names that everybody uses.

/// `google.rpc`: the status that travels inside trailers and signaling errors.
pub use packages::google::rpc as google_rpc;
/// `proto.rpc.examples.echo.v1`: the service that implementations are tested with.
pub use packages::proto::rpc::examples::echo::v1 as echo;
/// `proto.rpc.v1`: authentication.
pub use packages::proto::rpc::v1 as auth;
/// `proto.rpc.webrtc.v1`: gRPC over a data channel, and signaling.
pub use packages::proto::rpc::webrtc::v1 as webrtc;
/// `viam.common.v1`: names of resources.
pub use packages::viam::common::v1 as common;
/// `viam.component.motor.v1`: the plainest resource that a session must stop.
pub use packages::viam::component::motor::v1 as motor;
/// `viam.component.testecho.v1`: the resource with a monitored stream, for tests.
pub use packages::viam::component::testecho::v1 as testecho;
/// `viam.robot.v1`: the part of a robot's own service that farlink speaks.
pub use packages::viam::robot::v1 as robot;

/// Every method of these services, and whether its request is exactly one message.
pub(crate) use packages::METHODS;
/// Every method that is marked `safety_heartbeat_monitored`.
pub(crate) use packages::MONITORED;

#[allow(missing_docs, missing_debug_implementations, unreachable_pub, unnameable_types)]
#[allow(clippy::all, clippy::exhaustive_enums, clippy::use_self)]
mod packages {
    include!("generated/methods.rs");
    include!("generated/monitored.rs");
    pub mod google {
        pub mod rpc {
            include!("generated/google.rpc.rs");
        }
    }
    pub mod proto {
        pub mod rpc {
            pub mod v1 {
                include!("generated/proto.rpc.v1.rs");
            }
            pub mod webrtc {
                pub mod v1 {
                    include!("generated/proto.rpc.webrtc.v1.rs");
                }
            }
            pub mod examples {
                pub mod echo {
                    pub mod v1 {
                        include!("generated/proto.rpc.examples.echo.v1.rs");
                    }
                }
            }
        }
    }
    pub mod viam {
        pub mod common {
            pub mod v1 {
                include!("generated/viam.common.v1.rs");
            }
        }
        pub mod component {
            pub mod motor {
                pub mod v1 {
                    include!("generated/viam.component.motor.v1.rs");
                }
            }
            pub mod testecho {
                pub mod v1 {
                    include!("generated/viam.component.testecho.v1.rs");
                }
            }
        }
        pub mod robot {
            pub mod v1 {
                include!("generated/viam.robot.v1.rs");
            }
        }
    }
}
