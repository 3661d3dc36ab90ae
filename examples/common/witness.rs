//! Kills the caller that drives a motor, and sees what becomes of the motor.

use std::error::Error;
use std::time::Duration;

use farlink::Channel;
use farlink::proto::motor::{IsMovingRequest, motor_service_client::MotorServiceClient};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// How often the witness looks.
const LOOK: Duration = Duration::from_millis(5);
/// Longer than any robot's window.
const PATIENCE: Duration = Duration::from_secs(70);

/// Runs `caller` until it has driven the motor for some time, kills it (SIGKILL: no last word), and prints when
/// the motor stands. The channel is the witness' own: it moves nothing, so it has no session, and it keeps
/// none alive.
pub(crate) async fn see_it_die(
    mut caller: Command,
    channel: Channel,
    motor: &str,
    seconds: Duration,
) -> Result<(), Box<dyn Error>> {
    let transport = channel.transport();
    let mut client = MotorServiceClient::new(channel);
    let mut is_moving = async || -> Result<bool, Box<dyn Error>> {
        let answer = client.is_moving(IsMovingRequest { name: motor.to_owned() }).await;
        Ok(answer.map_err(super::describe)?.into_inner().is_moving)
    };
    if is_moving().await? {
        return Err(format!("somebody else drives {motor}").into());
    }
    let mut caller = caller.kill_on_drop(true).spawn()?;
    while !is_moving().await? {
        if let Some(status) = caller.try_wait()? {
            return Err(format!("the caller did not drive {motor}: {status}").into());
        }
        sleep(LOOK).await;
    }
    sleep(seconds).await;
    caller.kill().await?;
    let killed = Instant::now();
    while is_moving().await? {
        if killed.elapsed() > PATIENCE {
            return Err(format!("{motor} goes on without its caller: the robot has no sessions").into());
        }
        sleep(LOOK).await;
    }
    let delay = killed.elapsed().as_millis();
    super::say!(
        "STOPPED {motor} over {transport}: driven for {seconds:?}, caller killed, stands {delay} ms later"
    );
    Ok(())
}
