//! The stages that both ways share: reach a server over HTTP/2, and say who is calling.

use super::attempt::{Attempt, Share};
use super::error::Cause;
use super::plan::{Downgrade, Identity, Server};
use super::report::Stage;
use crate::auth::Authorized;
use crate::transport::direct::{ConnectError, DirectTransport, Resolved, Security};

/// A server that was reached.
pub(super) struct Reached {
    pub(super) transport: Authorized<DirectTransport>,
    /// Whether it is on this machine.
    pub(super) is_local: bool,
}

/// Resolves, connects and authenticates.
pub(super) async fn reach(
    attempt: &mut Attempt,
    stage: Stage,
    share: Share,
    server: &Server,
    identity: Option<&Identity>,
) -> Result<Reached, Cause> {
    let target = attempt.stage(Stage::Resolve, share, server.endpoint.clone().resolve()).await?;
    let is_local = target.is_local();
    let first = attempt.stage(stage, share, DirectTransport::connect(&target, &server.security)).await;
    let transport = match first {
        Err(Cause::Connect(ConnectError::NotTls { .. })) if server.downgrade != Downgrade::Never => {
            downgrade(attempt, stage, share, server, &target).await?
        }
        first => first?,
    };
    let Some(Identity { credentials, entity }) = identity else {
        return Ok(Reached { transport: Authorized::anonymous(transport), is_local });
    };
    let token = Authorized::authenticate(transport, credentials.clone(), entity.clone());
    let transport = attempt.stage(Stage::Authenticate, share, token).await?;
    Ok(Reached { transport, is_local })
}

/// The server answered the TLS hello with something that is not TLS.
async fn downgrade(
    attempt: &mut Attempt,
    stage: Stage,
    share: Share,
    server: &Server,
    target: &Resolved,
) -> Result<DirectTransport, Cause> {
    if server.downgrade == Downgrade::NotWithCredentials {
        return Err(Cause::InsecureCredentials);
    }
    tracing::info!(server = %server.endpoint, "the server does not speak TLS, going on in plaintext as allowed");
    attempt.downgrade();
    attempt.stage(stage, share, DirectTransport::connect(target, &Security::Plaintext)).await
}
