//! The same promises over each WebRTC stack that uses a network.

/// Each promise, an `async fn(Arc<dyn Stack>)`, once for the engine and once for the `webrtc` crate.
macro_rules! on_each_stack {
    ($($promise:ident)+) => {
        mod engine {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let stack = farlink::peer::engine::Engine::new().resolve_mdns(false);
                super::$promise(std::sync::Arc::new(stack)).await;
            })+
        }

        mod webrtc_rs {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let stack = farlink::peer::webrtc_rs::WebRtcRs::new().resolve_mdns(false);
                super::$promise(std::sync::Arc::new(stack)).await;
            })+
        }
    };
}
