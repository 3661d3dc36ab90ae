//! The signaling server of farlink: where callers and robots meet.
//!
//! [`SignalingServer`] binds a port and serves; the program `farlink-signaling` is it with a command line.
//! The parts are farlink's own, because a robot's listener carries signaling too: the [`CallQueue`] that
//! holds the calls, and the [`SignalingService`] over it, which goes behind any tonic server.
//!
//! ```no_run
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let server = farlink_signaling::SignalingServer::builder().bind("127.0.0.1:0").await?;
//! println!("{}", server.local_addr());
//! server.serve(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

mod server;

pub use farlink::peer::{IceServer, IceServerError};
pub use farlink::server::listener::{ConnectionInfo, ServeError, TlsIdentity, TlsIdentityError};
pub use farlink::signaling::queue::{CallQueue, MemoryQueue, QueueError, QueueLimits};
pub use farlink::signaling::service::{Access, Authorize, SignalingService};

pub use crate::server::{SignalingServer, SignalingServerBuilder};
