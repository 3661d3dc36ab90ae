//! How long a call may take: the `grpc-timeout` header, and the `timeout` field of the request headers.
//!
//! Floor 0. Both are relative; who receives one anchors it on its own clock.
//!
//! Contract: the gRPC HTTP/2 specification, and goutils `rpc/wrtc_client_channel.go`: absent and zero mean
//! none, so what is left of a deadline is never sent as zero.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// The header that tonic puts a deadline into.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The shortest time that is sent: zero would mean "no deadline".
const SHORTEST: Duration = Duration::from_micros(1);

/// The longest time that is sent or believed, one year. Longer ones overflow other people's clocks.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time that these headers allow, if they say one that can be read.
pub fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    let time = match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    };
    Some(time.min(LONGEST))
}

/// What the header of a call says that has this much time left: in the finest unit whose eight digits are
/// enough.
pub fn to_header(left: Duration) -> HeaderValue {
    let left = left.clamp(SHORTEST, LONGEST);
    let units = [(left.as_nanos(), 'n'), (left.as_micros(), 'u'), (left.as_millis(), 'm')];
    let fits = units.into_iter().find(|(amount, _)| *amount < 100_000_000);
    let (amount, unit) = fits.unwrap_or_else(|| (left.as_secs().into(), 'S'));
    // Digits and a letter.
    HeaderValue::try_from(format!("{amount}{unit}")).unwrap_or(HeaderValue::from_static("1n"))
}

/// What travels for a call that has this much time left.
pub fn encode(left: Duration) -> prost_types::Duration {
    let left = left.clamp(SHORTEST, LONGEST);
    prost_types::Duration {
        seconds: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(left.subsec_nanos()).unwrap_or(0),
    }
}

/// What a peer's `timeout` field says. Zero means none; a negative one has passed already.
pub fn decode(timeout: Option<&prost_types::Duration>) -> Option<Duration> {
    let timeout = timeout?;
    let nanos = i128::from(timeout.seconds) * 1_000_000_000 + i128::from(timeout.nanos);
    if nanos == 0 {
        return None;
    }
    let nanos = u128::try_from(nanos).unwrap_or(0).min(LONGEST.as_nanos());
    Some(Duration::new(
        u64::try_from(nanos / 1_000_000_000).unwrap_or(0),
        u32::try_from(nanos % 1_000_000_000).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, text.parse().unwrap());
        from_headers(&headers)
    }

    #[test]
    fn every_unit_of_grpc_timeout_is_read() {
        assert_eq!(header("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(header("2M"), Some(Duration::from_secs(120)));
        assert_eq!(header("2S"), Some(Duration::from_secs(2)));
        assert_eq!(header("2m"), Some(Duration::from_millis(2)));
        assert_eq!(header("2u"), Some(Duration::from_micros(2)));
        assert_eq!(header("2n"), Some(Duration::from_nanos(2)));
        assert_eq!(header("99999999H"), Some(LONGEST));
    }

    #[test]
    fn what_is_not_a_timeout_is_none() {
        for text in ["", "S", "123456789S", "-1S", "1X", "1.5S", "1"] {
            assert_eq!(header(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_left_is_never_sent_as_no_deadline() {
        assert_eq!(encode(Duration::ZERO).nanos, 1000);
        assert_eq!(decode(Some(&encode(Duration::ZERO))), Some(SHORTEST));
        assert_eq!(decode(Some(&encode(Duration::MAX))), Some(LONGEST));
    }

    #[test]
    fn a_header_says_what_is_left_as_exactly_as_eight_digits_can() {
        let day = Duration::from_secs(86_400);
        for (left, text, read) in [
            (Duration::ZERO, "1000n", SHORTEST),
            (Duration::from_nanos(99_999_999), "99999999n", Duration::from_nanos(99_999_999)),
            (Duration::from_nanos(100_000_999), "100000u", Duration::from_micros(100_000)),
            (Duration::from_secs(100), "100000m", Duration::from_secs(100)),
            (2 * day, "172800S", 2 * day),
            (Duration::MAX, "31536000S", LONGEST),
        ] {
            assert_eq!(to_header(left), text);
            assert_eq!(header(text), Some(read));
        }
    }

    #[test]
    fn zero_and_absent_mean_none_and_negative_has_passed() {
        let wire = |seconds, nanos| prost_types::Duration { seconds, nanos };
        assert_eq!(decode(None), None);
        assert_eq!(decode(Some(&wire(0, 0))), None);
        assert_eq!(decode(Some(&wire(-1, 0))), Some(Duration::ZERO));
        assert_eq!(decode(Some(&wire(0, -1))), Some(Duration::ZERO));
        assert_eq!(decode(Some(&wire(1, -500_000_000))), Some(Duration::from_millis(500)));
        assert_eq!(decode(Some(&wire(i64::MAX, i32::MAX))), Some(LONGEST));
        assert_eq!(decode(Some(&wire(i64::MIN, i32::MIN))), Some(Duration::ZERO));
    }
}
