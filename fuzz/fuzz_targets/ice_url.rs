//! URLs of ICE servers, which signaling hands out.
#![no_main]

use farlink::peer::IceUrl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(url) = text.parse::<IceUrl>() {
        assert_eq!(url.to_string().parse::<IceUrl>().as_ref(), Ok(&url), "{url} from {text}");
    }
});
