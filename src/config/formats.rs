//! Scalars that are more than a text: one type per format, each with one parser.
//!
//! The JSON Schema names the format of a key, the walk over the document checks the text by that name, and the spec's
//! field has the parsed type: all three use the same `FromStr`, so they cannot disagree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::names::{ClientKey, ServiceName, TierName};
use super::route::PathPattern;
use super::snapshot::HostPort;
use super::units::{self, DurationError, SizeError};

/// A type that is written as one scalar.
pub(super) trait Format: FromStr<Err: Display> + Display {
    /// The `format` of the JSON Schema.
    const NAME: &'static str;
    /// JSON types that are accepted.
    const TYPES: &'static [&'static str] = &["string"];
    /// For editors; the parser decides.
    const PATTERN: Option<&'static str> = None;

    /// How it is written back.
    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// A field of a spec that holds a [`Format`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: Format> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<T: Format> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_value().serialize(serializer)
    }
}

/// A mapping whose keys the operator chooses.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent, bound(deserialize = "K: Format + Ord, V: Deserialize<'de>"))]
#[serde(bound(serialize = "K: Format, V: Serialize"))]
pub(super) struct Table<K, V>(pub(super) BTreeMap<Text<K>, V>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Format, V: JsonSchema> JsonSchema for Table<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Table_of_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": Text::<K>::json_schema(generator),
            "additionalProperties": generator.subschema_for::<V>(),
        })
    }
}

impl<T: Format> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({ "format": T::NAME });
        let types: Value = match T::TYPES {
            [one] => Value::from(*one),
            many => Value::from(many.to_vec()),
        };
        schema.insert("type".to_owned(), types);
        if let Some(pattern) = T::PATTERN {
            schema.insert("pattern".to_owned(), pattern.into());
        }
        schema
    }
}

macro_rules! formats {
    ($($format:ty),* $(,)?) => {
        /// Checks a text by the name of its format; `None` for a name that is none of ours.
        pub(super) fn check(name: &str, text: &str) -> Option<Result<(), String>> {
            $(if name == <$format as Format>::NAME {
                return Some(text.parse::<$format>().map(drop).map_err(|error| error.to_string()));
            })*
            None
        }
    };
}

formats![
    Period,
    Timeout,
    Idle,
    Bytes,
    Limit,
    Secret,
    Line,
    Address,
    ServiceName,
    TierName,
    ClientKey,
    PathPattern,
    HostPort,
    Host,
    Origin,
    UrlPath,
    HeaderName,
    HeaderValue,
    EnvName,
];

/// A format that is one field around one parser and one printer.
macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident($inner:ty), $error:ty, $parse:expr, $print:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) struct $name(pub(super) $inner);

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let parse: fn(&str) -> Result<$inner, $error> = $parse;
                parse(text).map(Self)
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let print: fn(&$inner) -> String = $print;
                f.write_str(&print(&self.0))
            }
        }
    };
}

scalar! {
    /// A duration, which may be zero.
    Period(Duration), DurationError, units::parse_duration, |d| units::print_duration(*d)
}

scalar! {
    /// A duration that is not zero.
    Timeout(Duration), DurationError,
    |text| match units::parse_duration(text)? {
        Duration::ZERO => Err(DurationError::Zero),
        duration => Ok(duration),
    },
    |d| units::print_duration(*d)
}

scalar! {
    /// How long something may lie unused; `never` is `None`.
    Idle(Option<Duration>), DurationError,
    |text| if text == "never" { Ok(None) } else { text.parse::<Timeout>().map(|t| Some(t.0)) },
    |d| d.map_or_else(|| "never".to_owned(), units::print_duration)
}

scalar! {
    /// An amount of memory in bytes, not zero.
    Bytes(u64), SizeError, units::parse_size, |b| units::print_size(*b)
}

scalar! {
    /// A number a minute; -1, no limit, is `None`.
    Limit(Option<u32>), &'static str,
    |text| match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(n) if n >= 1 => u32::try_from(n).map(Some).map_err(|_| "at most 4294967295"),
        _ => Err("expected a whole number of at least 1, or -1 for no limit"),
    },
    |n| n.map_or_else(|| "-1".to_owned(), |n| n.to_string())
}

scalar! {
    /// A text that is not empty and has no line break or NUL.
    Line(String), &'static str,
    |text| match text {
        "" => Err("cannot be empty"),
        _ if text.contains(['\n', '\r', '\0']) => Err("is one line, without NUL"),
        _ => Ok(text.to_owned()),
    },
    String::clone
}

scalar! {
    /// Where to listen.
    Address(SocketAddr), &'static str,
    |text| {
        let wrong = "expected an IP address and a port, such as `127.0.0.1:8080` or `0.0.0.0:443`";
        text.parse().map_err(|_| wrong)
    },
    SocketAddr::to_string
}

scalar! {
    /// A host name or an IP address, without a port, in lower case.
    Host(String), &'static str,
    |text| {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if inner.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(format!("[{}]", inner.to_ascii_lowercase()));
        }
        if text.is_empty() || text.len() > 253 || !text.bytes().all(name) {
            return Err("expected a host name or an IP address, without scheme, port or path");
        }
        Ok(text.to_ascii_lowercase())
    },
    String::clone
}

scalar! {
    /// `scheme://host[:port]` in lower case (RFC 6454 section 6.2).
    Origin(String), &'static str,
    |text| {
        let wrong = "expected an origin such as `https://app.example.com`: http or https, no path";
        let text = text.strip_suffix('/').unwrap_or(text);
        let uri: http::Uri = text.parse().map_err(|_| wrong)?;
        let plain = matches!(uri.scheme_str(), Some("http" | "https")) && matches!(uri.path(), "" | "/");
        let host = uri.host().is_some_and(|h| !h.is_empty());
        let user = uri.authority().is_some_and(|a| a.as_str().contains('@'));
        if !plain || !host || user || uri.query().is_some() {
            return Err(wrong);
        }
        Ok(text.to_ascii_lowercase())
    },
    String::clone
}

scalar! {
    /// The path of a URL.
    UrlPath(String), &'static str,
    |text| {
        let wrong = "expected a path that starts with `/`, such as `/health`";
        let parsed: http::uri::PathAndQuery = text.parse().map_err(|_| wrong)?;
        if text.starts_with('/') && parsed.as_str() == text { Ok(text.to_owned()) } else { Err(wrong) }
    },
    String::clone
}

scalar! {
    /// The name of a header, in lower case.
    HeaderName(String), &'static str,
    |text| match text.parse::<http::HeaderName>() {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err("a header name has only letters, digits and `-`"),
    },
    String::clone
}

scalar! {
    /// The value of a header: visible ASCII.
    HeaderValue(String), &'static str,
    |text| match http::HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => Ok(text.to_owned()),
        _ => Err("a header value has only visible ASCII characters"),
    },
    String::clone
}

scalar! {
    /// The name of an environment variable.
    EnvName(String), &'static str,
    |text| if text.is_empty() || text.contains(['=', '\0']) {
        Err("the name of an environment variable is not empty and has no `=`")
    } else {
        Ok(text.to_owned())
    },
    String::clone
}

/// A text that no log, error or printed configuration ever shows.
#[derive(Debug, Clone)]
pub(super) struct Secret(pub(super) SecretString);

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(SecretString::from(text)))
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Secret {
    pub(super) fn len(&self) -> usize {
        self.0.expose_secret().len()
    }
}

macro_rules! format_names {
    ($($format:ty: $name:literal $(, pattern $pattern:literal)?;)*) => {
        $(impl Format for $format {
            const NAME: &'static str = $name;
            $(const PATTERN: Option<&'static str> = Some($pattern);)?
        })*
    };
}

format_names! {
    Period: "duration", pattern "^[0-9]+ *(ms|s|m|h|d)$";
    Timeout: "duration-not-zero", pattern "^[0-9]+ *(ms|s|m|h|d)$";
    Idle: "duration-or-never", pattern "^([0-9]+ *(ms|s|m|h|d)|never)$";
    Secret: "secret";
    Line: "line";
    Address: "socket-address";
    ServiceName: "service-name", pattern "^[a-z0-9][a-z0-9-]{0,62}$";
    TierName: "tier-name", pattern "^[a-z0-9][a-z0-9-]{0,62}$";
    ClientKey: "client-key", pattern "^[!-~]{1,256}$";
    PathPattern: "path-pattern", pattern "^/";
    HostPort: "host-port", pattern ":[0-9]+$";
    Host: "host";
    Origin: "origin", pattern "^https?://";
    UrlPath: "url-path", pattern "^/";
    HeaderName: "header-name";
    HeaderValue: "header-value";
    EnvName: "environment-name";
}

impl Format for Bytes {
    const NAME: &'static str = "size";
    const TYPES: &'static [&'static str] = &["string", "integer"];
}

impl Format for Limit {
    const NAME: &'static str = "limit";
    const TYPES: &'static [&'static str] = &["integer"];

    fn to_value(&self) -> Value {
        self.0.map_or_else(|| Value::from(-1), Value::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(format: &str, texts: &[&str]) {
        for text in texts {
            assert!(
                matches!(check(format, text), Some(Err(_))),
                "{format}: {text:?} was accepted"
            );
        }
    }

    fn accepted(format: &str, texts: &[&str]) {
        for text in texts {
            assert_eq!(check(format, text), Some(Ok(())), "{format}: {text:?}");
        }
    }

    #[test]
    fn every_format_takes_the_right_and_refuses_the_wrong() {
        accepted("duration", &["0s", "5m"]);
        refused("duration-not-zero", &["0s", "5"]);
        accepted("duration-or-never", &["never", "10m"]);
        refused("duration-or-never", &["0s", "always"]);
        accepted("limit", &["-1", "1", "600"]);
        refused("limit", &["0", "-2", "many", "99999999999"]);
        accepted(
            "host",
            &["localhost", "127.0.0.1", "[::1]", "::1", "MCP.example.com"],
        );
        refused("host", &["", "http://x", "x:80", "a/b", "*"]);
        accepted("origin", &["https://app.example.com", "http://localhost:3000/"]);
        refused(
            "origin",
            &[
                "app.example.com",
                "https://a/b",
                "ftp://a",
                "https://u@a",
                "null",
                "https://a?b",
            ],
        );
        accepted("url-path", &["/health", "/health?deep=true"]);
        refused("url-path", &["health", "", "/a b", "http://x/"]);
        accepted("header-name", &["X-Team"]);
        refused("header-name", &["", "x y", "x:"]);
        refused("header-value", &["a\nb", "ä"]);
        refused("environment-name", &["", "A=B"]);
        refused("line", &["", "a\nb"]);
        accepted("socket-address", &["127.0.0.1:0", "[::]:8080"]);
        refused("socket-address", &["8080", "localhost:8080", "127.0.0.1"]);
        assert_eq!(check("no-such-format", "x"), None);
    }

    #[test]
    fn a_secret_shows_nothing() {
        let secret: Secret = "hunter2-hunter2".parse().unwrap();
        assert!(!format!("{secret} {secret:?} {}", secret.to_value()).contains("hunter2"));
        assert_eq!(secret.len(), 15);
    }

    #[test]
    fn hosts_and_origins_are_lower_case() {
        assert_eq!("::1".parse::<Host>().unwrap().0, "[::1]");
        assert_eq!("MCP.Example.com".parse::<Host>().unwrap().0, "mcp.example.com");
        assert_eq!(
            "HTTPS://App.Example.com/".parse::<Origin>().unwrap().0,
            "https://app.example.com"
        );
    }
}
