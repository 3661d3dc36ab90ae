//! Sessions as a tower layer.

use tower_layer::Layer;

use super::{SessionOptions, Sessions};
use crate::transport::Transport;

/// Puts [`Sessions`] around any [`Transport`].
#[derive(Debug, Clone, Default)]
pub struct SessionsLayer {
    options: SessionOptions,
}

impl SessionsLayer {
    /// Each transport that it is put around gets a session of its own, kept like this.
    pub fn new(options: SessionOptions) -> Self {
        Self { options }
    }
}

impl<T: Transport> Layer<T> for SessionsLayer {
    type Service = Sessions<T>;

    fn layer(&self, inner: T) -> Sessions<T> {
        Sessions::new(inner, self.options.clone())
    }
}
