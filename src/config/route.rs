//! Which request belongs to which service.
//!
//! A path pattern is matched by whole segments, never by bytes: `/mcp/git` matches `/mcp/git` and `/mcp/git/x`, not
//! `/mcp/github`. It has at most one `{service}` segment, which takes exactly one non-empty segment of the path.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::names::ServiceName;
use super::snapshot::Timeouts;

/// One entry of `routes:`; the first whose matcher fits a request decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What the request must look like.
    pub matcher: RouteMatch,
    /// Where it goes.
    pub target: RouteTarget,
    /// Limits of time that differ from the service's.
    pub timeouts: TimeoutOverrides,
    /// Largest request body in bytes, when it differs from `edge.max_body`.
    pub max_body: Option<u64>,
}

/// The conditions of a route. All of them must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// Host name in lower case, without a port; `None` matches any.
    pub host: Option<String>,
    /// The path, by prefix of whole segments.
    pub path: PathPattern,
    /// Headers that must be present with exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Tags that the service must carry, all of them.
    pub tags: BTreeSet<String>,
}

/// What names the service of a matched request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// The `{service}` segment of the path.
    FromPath,
    /// The route itself.
    Service(ServiceName),
}

/// A route's own time limits; `None` keeps the service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::first_byte`].
    pub first_byte: Option<Duration>,
    /// See [`Timeouts::idle`].
    pub idle: Option<Duration>,
    /// See [`Timeouts::total`].
    pub total: Option<Duration>,
}

impl TimeoutOverrides {
    /// The service's limits with the route's in their place.
    pub fn apply(&self, service: Timeouts) -> Timeouts {
        Timeouts {
            first_byte: self.first_byte.unwrap_or(service.first_byte),
            idle: self.idle.unwrap_or(service.idle),
            total: self.total.unwrap_or(service.total),
            start: service.start,
        }
    }
}

/// A path prefix of whole segments, with at most one `{service}` among them.
#[derive(Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Service,
}

/// A path that fits a [`PathPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMatch<'a> {
    /// The segment that stood in for `{service}`, as the client wrote it.
    pub service: Option<&'a str>,
    /// What follows the pattern: empty, or from a `/` on.
    pub rest: &'a str,
}

/// Why a text is no path pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// No leading `/`.
    #[error("a path starts with `/`")]
    Relative,
    /// `//` inside.
    #[error("a path has no empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..` as a segment, which clients resolve before they send.
    #[error("a path has no `.` or `..` segment")]
    DotSegment,
    /// `?`, `#`, a blank, or a character that must be percent-encoded.
    #[error("a path has only characters that need no percent-encoding, and no `?` or `#`")]
    BadCharacter,
    /// Braces around anything but `service`, or inside a segment.
    #[error("the only placeholder is `{{service}}`, and it is a whole segment")]
    UnknownPlaceholder,
    /// `{service}` twice.
    #[error("`{{service}}` appears once")]
    TwoPlaceholders,
}

impl PathPattern {
    /// `/mcp/{service}`, the path of the default route.
    pub fn by_service() -> Self {
        Self {
            segments: vec![Segment::Literal("mcp".to_owned()), Segment::Service],
        }
    }

    /// `/`, which every path fits.
    pub fn everything() -> Self {
        Self { segments: Vec::new() }
    }

    /// True when the path names the service.
    pub fn names_service(&self) -> bool {
        self.segments.contains(&Segment::Service)
    }

    /// Matches a request's path (no query). `None` when it does not fit.
    pub fn matches<'a>(&self, path: &'a str) -> Option<PathMatch<'a>> {
        let mut rest = path;
        let mut service = None;
        for segment in &self.segments {
            let tail = rest.strip_prefix('/')?;
            let (head, after) = match tail.find('/') {
                Some(at) => tail.split_at(at),
                None => (tail, ""),
            };
            match segment {
                Segment::Literal(text) if text == head => {}
                Segment::Service if !head.is_empty() => service = Some(head),
                _ => return None,
            }
            rest = after;
        }
        // The pattern `/` has no segment and leaves the whole path over, which starts with `/`.
        Some(PathMatch { service, rest })
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        let body = text.strip_prefix('/').ok_or(PathPatternError::Relative)?;
        let body = body.strip_suffix('/').unwrap_or(body);
        if body.is_empty() {
            return Ok(Self::everything());
        }
        let mut segments = Vec::new();
        for part in body.split('/') {
            segments.push(parse_segment(part)?);
        }
        if segments.iter().filter(|s| **s == Segment::Service).count() > 1 {
            return Err(PathPatternError::TwoPlaceholders);
        }
        Ok(Self { segments })
    }
}

fn parse_segment(part: &str) -> Result<Segment, PathPatternError> {
    if part == "{service}" {
        return Ok(Segment::Service);
    }
    if part.contains(['{', '}', '*']) {
        return Err(PathPatternError::UnknownPlaceholder);
    }
    if part.is_empty() {
        return Err(PathPatternError::EmptySegment);
    }
    if part == "." || part == ".." {
        return Err(PathPatternError::DotSegment);
    }
    // RFC 3986 section 3.3: pchar without percent-encoding.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&b);
    if !part.bytes().all(plain) {
        return Err(PathPatternError::BadCharacter);
    }
    Ok(Segment::Literal(part.to_owned()))
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Service => f.write_str("/{service}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    #[test]
    fn the_default_route_takes_the_service_from_the_path() {
        let p = pattern("/mcp/{service}");
        let hit = |path| {
            p.matches(path)
                .map(|m| (m.service.unwrap().to_owned(), m.rest.to_owned()))
        };
        assert_eq!(hit("/mcp/git"), Some(("git".into(), "".into())));
        assert_eq!(hit("/mcp/git/"), Some(("git".into(), "/".into())));
        assert_eq!(hit("/mcp/git/x/y"), Some(("git".into(), "/x/y".into())));
        assert_eq!(hit("/mcp/"), None);
        assert_eq!(hit("/mcp"), None);
        assert_eq!(hit("/mcpx/git"), None);
        assert_eq!(hit("mcp/git"), None);
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let p = pattern("/tools/git/");
        assert_eq!(p.matches("/tools/git").map(|m| m.rest), Some(""));
        assert_eq!(p.matches("/tools/git/").map(|m| m.rest), Some("/"));
        assert!(p.matches("/tools/github").is_none());
        assert!(!p.names_service());
        assert_eq!(
            pattern("/").matches("/any/thing").map(|m| m.rest),
            Some("/any/thing")
        );
    }

    #[test]
    fn bad_patterns_say_why() {
        use PathPatternError as E;
        let cases = [
            ("mcp", E::Relative),
            ("/a//b", E::EmptySegment),
            ("/a/../b", E::DotSegment),
            ("/a b", E::BadCharacter),
            ("/a?b", E::BadCharacter),
            ("/{name}", E::UnknownPlaceholder),
            ("/x{service}", E::UnknownPlaceholder),
            ("/{service}/{service}", E::TwoPlaceholders),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<PathPattern>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_pattern_prints_as_it_was_written() {
        for text in ["/", "/mcp/{service}", "/a/b"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }
}
