//! Which revision a request's `MCP-Protocol-Version` header names.
//!
//! Revisions are dates. An unknown one before 2026-07-28 is served as the newest legacy one, because older clients
//! name drafts; what is no date, or lies beyond what is spoken here, is refused with what is supported.

use http::HeaderMap;
use serde_json::json;

use super::mirror;
use crate::processes::start::MODERN_VERSION;
use crate::reply::{Fault, Reason};

/// What `initialize` can settle on, newest first.
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// No header: legacy, unless the body says otherwise.
    Absent,
    Legacy,
    Modern,
    /// Nothing that is spoken here; a POST's body decides which error that is.
    Unsupported,
}

impl Version {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let Some(value) = mirror::only(headers, mirror::VERSION)? else {
            return Ok(Self::Absent);
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text == MODERN_VERSION {
            return Ok(Self::Modern);
        }
        if is_date(text) && text < MODERN_VERSION {
            return Ok(Self::Legacy);
        }
        Ok(Self::Unsupported)
    }
}

/// The refusal of a header that names nothing spoken here.
pub(super) fn of_header(headers: &HeaderMap) -> Fault {
    let text = headers
        .get(mirror::VERSION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    unsupported(text, is_date(text) && text > MODERN_VERSION)
}

/// 400 with -32022 (2026-07-28, versioning, "Protocol Version Negotiation").
///
/// To a client without a handshake only revisions without one are of use, to the others only those with one.
pub(super) fn unsupported(requested: &str, modern: bool) -> Fault {
    let text = format!("Unsupported protocol version: {requested:?}");
    let supported = if modern {
        json!([MODERN_VERSION])
    } else {
        json!(LEGACY)
    };
    Fault::new(Reason::UnsupportedVersion, text)
        .with("supported", supported)
        .with("requested", json!(requested.chars().take(64).collect::<String>()))
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn versions_are_dates_that_are_spoken_here() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(mirror::VERSION, HeaderValue::from_static(text));
            Version::of(&headers).unwrap()
        };
        assert_eq!(Version::of(&HeaderMap::new()).unwrap(), Version::Absent);
        for legacy in ["2025-11-25", "2024-11-05", "2024-10-07", "2025-12-31"] {
            assert_eq!(of(legacy), Version::Legacy, "{legacy}");
        }
        assert_eq!(of("2026-07-28"), Version::Modern);
        for bad in ["2027-01-01", "invalid-version", "1", ""] {
            assert_eq!(of(bad), Version::Unsupported, "{bad}");
        }
    }
}
