//! A transport that says who is calling.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

use super::{Credentials, Kind};
use crate::proto::auth::auth_service_client::AuthServiceClient;
use crate::proto::auth::{AuthenticateRequest, Credentials as WireCredentials};
use crate::transport::deadline;
use crate::transport::{LinkWatch, Stats, Transport, TransportError, TransportKind};
use crate::wire::status;
use crate::wire::timeout::from_headers as time_left;

/// Calls to these services carry no token: they are how one gets it.
const AUTH_SERVICE: &str = "/proto.rpc.v1.AuthService/";

/// How long a call waits for a new token, whatever its own deadline.
const FETCH: Duration = Duration::from_secs(10);

/// The credentials did not buy a token.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The server looked at the credentials and refused them.
    #[error("the credentials were refused: check the key and its id")]
    Refused(#[source] Status),
    /// The server knows no authentication.
    #[error("the server does not authenticate anybody: drop the credentials")]
    NotOffered(#[source] Status),
    /// The server could not be asked.
    #[error("could not authenticate")]
    Failed(#[source] Status),
    /// The server's token is not one that a header can carry.
    #[error("the server sent a token that cannot be used")]
    BadToken,
}

/// A transport whose calls carry a token. Clones share it.
///
/// When a call is refused as UNAUTHENTICATED, the token is forgotten and the next call gets a new one (a
/// robot that restarts forgets the tokens that it gave out). The refused call itself is not repeated.
///
/// A call that needs a new token waits for it within its own deadline, and for 10 s at most: then it fails
/// with UNAVAILABLE.
#[derive(Debug, Clone)]
pub struct Authorized<T> {
    inner: T,
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    credentials: Credentials,
    entity: String,
    token: Mutex<Option<HeaderValue>>,
    /// Held while a token is fetched, so that many calls fetch one.
    fetching: AsyncMutex<()>,
}

impl<T: Transport> Authorized<T> {
    /// A transport whose calls carry nothing.
    pub fn anonymous(inner: T) -> Self {
        Self { inner, shared: None }
    }

    /// A transport whose calls carry a token, which is fetched now. Cancel safe; has no deadline of its
    /// own.
    ///
    /// # Errors
    /// [`AuthError`] says whether the credentials were refused or the server could not be asked.
    pub async fn authenticate(inner: T, credentials: Credentials, entity: String) -> Result<Self, AuthError> {
        let shared = Shared { credentials, entity, token: Mutex::new(None), fetching: AsyncMutex::new(()) };
        shared.token(&inner).await?;
        Ok(Self { inner, shared: Some(Arc::new(shared)) })
    }
}

impl Shared {
    async fn token<T: Transport>(&self, transport: &T) -> Result<HeaderValue, AuthError> {
        if let Some(token) = self.known() {
            return Ok(token);
        }
        let _fetching = self.fetching.lock().await;
        if let Some(token) = self.known() {
            return Ok(token);
        }
        let token = match &self.credentials.0 {
            Kind::Token(token) => token.clone(),
            Kind::Payload { kind, payload } => {
                let credentials = WireCredentials { r#type: kind.clone(), payload: payload.clone() };
                let request =
                    AuthenticateRequest { entity: self.entity.clone(), credentials: Some(credentials) };
                let answer = AuthServiceClient::new(transport.clone()).authenticate(request).await;
                answer.map_err(classify)?.into_inner().access_token
            }
        };
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| AuthError::BadToken)?;
        header.set_sensitive(true);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(header.clone());
        Ok(header)
    }

    /// The token, or the status of the call that has to go without. The wait for who fetches it already is
    /// part of the 10 s: calls in a row behind a server that does not answer all end together.
    async fn token_for_call<T: Transport>(&self, transport: &T) -> Result<HeaderValue, Status> {
        let Ok(token) = timeout(FETCH, self.token(transport)).await else {
            let text = "the token was refused, and the server did not give a new one within 10 s";
            return Err(Status::unavailable(text));
        };
        token.map_err(|error| match &error {
            // Not the credentials' fault: it may work later.
            AuthError::Failed(status) => Status::unavailable(format!("{error}: {}", status.message())),
            AuthError::Refused(status) | AuthError::NotOffered(status) => {
                Status::unauthenticated(format!("{error}: {}", status.message()))
            }
            AuthError::BadToken => Status::unauthenticated(error.to_string()),
        })
    }

    fn known(&self) -> Option<HeaderValue> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self, refused: &HeaderValue) {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if token.as_ref() == Some(refused) {
            *token = None;
        }
    }
}

fn classify(status: Status) -> AuthError {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => AuthError::Refused(status),
        Code::Unimplemented => AuthError::NotOffered(status),
        _ => AuthError::Failed(status),
    }
}

impl<T: Transport> Service<Request<Body>> for Authorized<T> {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // What the user says about itself wins; the service that gives out tokens gets none.
        let plain =
            request.headers().contains_key(AUTHORIZATION) || request.uri().path().starts_with(AUTH_SERVICE);
        let shared = self.shared.clone().filter(|_| !plain);
        let Some(shared) = shared else { return Box::pin(self.inner.call(request)) };
        // The clone that is ready makes the call.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let left = time_left(request.headers());
        Box::pin(deadline::enforce(left, async move {
            let token = shared.token_for_call(&inner).await?;
            request.headers_mut().insert(AUTHORIZATION, token.clone());
            let response = inner.call(request).await?;
            let refused = status::from_headers(response.headers());
            if refused.is_some_and(|status| status.code() == Code::Unauthenticated) {
                shared.forget(&token);
            }
            Ok(response)
        }))
    }
}

impl<T: Transport> Transport for Authorized<T> {
    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }

    fn stats(&self) -> impl Future<Output = Stats> + Send {
        self.inner.stats()
    }

    fn watch(&self) -> LinkWatch {
        self.inner.watch()
    }

    fn close(&self) {
        self.inner.close();
    }
}

#[cfg(test)]
mod tests;
