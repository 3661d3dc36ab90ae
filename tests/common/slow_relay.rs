//! A link that is slow one way, for transports that need a socket.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

use super::loopback;

/// A relay that passes so many bytes a second to the robot, and back what comes.
pub async fn slow_relay(to: SocketAddr, bytes_per_second: u32) -> SocketAddr {
    let listen = TcpSocket::new_v4().unwrap();
    // What lies in the relay's own buffers is part of the link: little, as on a modem that is well kept.
    listen.set_recv_buffer_size(16 * 1024).unwrap();
    listen.bind(loopback()).unwrap();
    let listener: TcpListener = listen.listen(8).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            let robot = TcpStream::connect(to).await.unwrap();
            let (mut from_caller, mut to_caller) = caller.into_split();
            let (mut from_robot, mut to_robot) = robot.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_robot, &mut to_caller).await });
            tokio::spawn(async move {
                let mut bytes = [0; 1500];
                let mut free = Instant::now();
                while let Ok(count @ 1..) = from_caller.read(&mut bytes).await {
                    let time = Duration::from_secs(1) * count as u32 / bytes_per_second;
                    free = free.max(Instant::now()) + time;
                    sleep_until(free).await;
                    if to_robot.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}
