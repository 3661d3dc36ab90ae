//! A TCP socket as both ends of a direct connection want it: small messages leave at once, and little lies
//! unsent below HTTP/2, where nothing can overtake it any more.

use tokio::net::TcpStream;

/// How much may lie in the system's buffer that has not been sent yet: at 1 Mbit/s an eighth of a second. What
/// is under way is not counted, so a long path is filled all the same.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 16 * 1024;

/// Sets it so, as far as the system can.
pub(crate) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}
