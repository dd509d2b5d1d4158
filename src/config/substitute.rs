//! `${VAR}`, `${VAR:-default}` and `${file:/path}` in values.
//!
//! Substitution runs after parsing, on scalars alone: whatever a variable or file holds (quotes, colons, line
//! breaks), it becomes part of one text and never of the document's structure. Keys are left alone.

use std::path::Path;

use super::report::Finding;
use super::tree::{Class, Kind, Node};

/// Largest file that `${file:...}` reads: room for any secret or certificate.
const MAX_FILE: u64 = 64 * 1024;

/// How to ask for the value of an environment variable.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whose rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Ours: `$$` is `$`, and `${file:/path}` is the content of a file.
    Edge,
    /// Claude Code's: `${VAR}` and `${VAR:-default}` only; anything else stays as it is.
    ClaudeCode,
}

/// Why a text could not be substituted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubstituteError {
    #[error("the environment variable `{0}` is not set; set it, or write `${{{0}:-default}}`")]
    NotSet(String),
    #[error("`${{` without a closing `}}`; write `$$` for a `$`")]
    NotClosed,
    #[error("`{0}` is no name of an environment variable; write `$$` for a `$`")]
    BadName(String),
    #[error("cannot read the file `{path}`: {why}")]
    File { path: String, why: String },
}

/// Substitutes every scalar of a tree; one finding for each that could not be.
pub(super) fn substitute(
    node: &mut Node,
    dialect: Dialect,
    variables: Variables<'_>,
    findings: &mut Vec<Finding>,
) {
    match &mut node.kind {
        Kind::Scalar(scalar) if scalar.class == Class::Text && scalar.text.contains('$') => {
            match expand(&scalar.text, dialect, variables) {
                Ok(text) if text != scalar.text => {
                    scalar.text = text;
                    scalar.class = Class::Substituted;
                }
                Ok(_) => {}
                Err(error) => {
                    findings.push(Finding::error(Some(node.span), &error));
                    scalar.class = Class::Broken;
                }
            }
        }
        Kind::Scalar(_) => {}
        Kind::Seq(items) => {
            items
                .iter_mut()
                .for_each(|item| substitute(item, dialect, variables, findings));
        }
        Kind::Map(entries) => {
            entries
                .iter_mut()
                .for_each(|e| substitute(&mut e.value, dialect, variables, findings));
        }
    }
}

fn expand(text: &str, dialect: Dialect, variables: Variables<'_>) -> Result<String, SubstituteError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(tail) = after.strip_prefix('$').filter(|_| dialect == Dialect::Edge) {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            match (tail.split_once('}'), dialect) {
                (Some((inner, tail)), _) => {
                    out.push_str(&lookup(inner, dialect, variables)?);
                    rest = tail;
                }
                (None, Dialect::Edge) => return Err(SubstituteError::NotClosed),
                (None, Dialect::ClaudeCode) => out.push('$'),
            }
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn lookup(inner: &str, dialect: Dialect, variables: Variables<'_>) -> Result<String, SubstituteError> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        return match (inner.strip_prefix("file:"), dialect) {
            (_, Dialect::ClaudeCode) => Ok(format!("${{{inner}}}")),
            (Some(path), Dialect::Edge) => read(path),
            (None, Dialect::Edge) => Err(SubstituteError::BadName(name.to_owned())),
        };
    }
    match (variables(name), default) {
        // As in a shell, `:-` also stands in for a variable that is set to nothing.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(SubstituteError::NotSet(name.to_owned())),
    }
}

fn is_name(text: &str) -> bool {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn read(path: &str) -> Result<String, SubstituteError> {
    let failed = |why: &dyn std::fmt::Display| SubstituteError::File {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let text = super::files::read_text(Path::new(path), MAX_FILE).map_err(|error| failed(&error))?;
    // Secret files mostly end in one line break that is no part of the secret.
    let text = text
        .strip_suffix('\n')
        .map(|t| t.strip_suffix('\r').unwrap_or(t))
        .unwrap_or(&text);
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "USER" => Some("ann".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("a: [b, \"c\"]\n- d".to_owned()),
            _ => None,
        }
    }

    fn edge(text: &str) -> Result<String, SubstituteError> {
        expand(text, Dialect::Edge, &variables)
    }

    #[test]
    fn variables_defaults_and_escapes() {
        let cases = [
            ("${USER}", "ann"),
            ("x-${USER}-${USER}", "x-ann-ann"),
            ("${NONE:-fallback}", "fallback"),
            ("${EMPTY:-fallback}", "fallback"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${USER}", "${USER}"),
            ("pa$word costs 5$", "pa$word costs 5$"),
            ("$$$$", "$$"),
        ];
        for (text, expected) in cases {
            assert_eq!(edge(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_to_do() {
        assert_eq!(edge("${NONE}"), Err(SubstituteError::NotSet("NONE".to_owned())));
        assert!(
            edge("${NONE}")
                .unwrap_err()
                .to_string()
                .contains("`${NONE:-default}`")
        );
        assert_eq!(edge("a ${USER"), Err(SubstituteError::NotClosed));
        for bad in ["${}", "${A B}", "${1X}", "${env:USER}"] {
            assert!(matches!(edge(bad), Err(SubstituteError::BadName(_))), "{bad}");
        }
    }

    #[test]
    fn a_file_stands_in_for_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        assert_eq!(
            edge(&format!("${{file:{}}}", path.display())).as_deref(),
            Ok("s3cret")
        );
        assert!(matches!(
            edge("${file:/no/such/file}"),
            Err(SubstituteError::File { .. })
        ));
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        let error = edge(&format!("${{file:{}}}", path.display())).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    #[test]
    fn claude_code_knows_variables_only() {
        let claude = |text: &str| expand(text, Dialect::ClaudeCode, &variables);
        assert_eq!(claude("${USER} $${USER}").as_deref(), Ok("ann $ann"));
        assert_eq!(
            claude("${file:/etc/passwd} ${open").as_deref(),
            Ok("${file:/etc/passwd} ${open")
        );
        assert_eq!(claude("${NONE}"), Err(SubstituteError::NotSet("NONE".to_owned())));
    }

    #[test]
    fn a_value_stays_one_text() {
        let mut root = Node::parse("a: ${TRICK}\nk${USER}: [1, \"${TRICK}\"]\n").unwrap();
        let mut findings = Vec::new();
        substitute(&mut root, Dialect::Edge, &variables, &mut findings);
        assert!(findings.is_empty());
        let Kind::Scalar(scalar) = &root.get("a").unwrap().value.kind else {
            panic!("one scalar")
        };
        assert_eq!(
            (scalar.text.as_str(), scalar.class),
            ("a: [b, \"c\"]\n- d", Class::Substituted)
        );
        assert!(root.get("k${USER}").is_some(), "keys are left alone");
    }
}
