//! What is wrong with a configuration, as a person or a program reads it.
//!
//! All findings of one run are shown, in the order of the file, each with its line and a caret. Nothing secret is
//! ever shown: the places of secret values are blanked in the source lines too, a wrong secret included.

use std::fmt::{self, Write};
use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::tree::Span;

/// Findings shown of one file; a file with more than that is no configuration.
const MAX_FINDINGS: usize = 100;

/// Characters of a source line that are shown, around the caret.
const MAX_WIDTH: usize = 120;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The edge does not start.
    Error,
    /// The edge starts, and the operator should know.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake, or one thing an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// `None` for what is not in the file: the environment, a missing file.
    pub(super) at: Option<Span>,
    pub(super) message: String,
    /// What to do, when that can be said: `did you mean ...?`.
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn error(at: Option<Span>, mistake: &dyn fmt::Display) -> Self {
        Self {
            severity: Severity::Error,
            at,
            message: mistake.to_string(),
            hint: None,
        }
    }

    pub(super) fn warning(at: Option<Span>, notice: &dyn fmt::Display) -> Self {
        Self {
            severity: Severity::Warning,
            at,
            message: notice.to_string(),
            hint: None,
        }
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// The findings of one run over one configuration. Its `Display` is the text for people.
#[derive(Debug, Clone)]
pub struct Report {
    /// Name of the file as the operator gave it; empty without a file.
    file: String,
    lines: Vec<String>,
    findings: Vec<Finding>,
}

impl Report {
    /// `blank` are the places whose text must not be shown.
    pub(super) fn new(file: String, source: &str, mut findings: Vec<Finding>, blank: &[Blank]) -> Self {
        findings.sort_by_key(|f| (f.at.is_some(), f.at, f.severity));
        let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
        for place in blank {
            place.apply(&mut lines);
        }
        Self {
            file,
            lines,
            findings,
        }
    }

    /// True when nothing keeps the edge from starting.
    pub fn is_ok(&self) -> bool {
        self.count(Severity::Error) == 0
    }

    /// How many findings of this severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }

    /// The warnings, one line each: `edge.yaml:3:5: the text`.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.findings.iter().filter(|f| f.severity == Severity::Warning);
        warnings
            .map(|f| format!("{}{}", self.place(f), headline(f)))
            .collect()
    }

    /// The findings for programs: an object with `file`, `ok`, `errors`, `warnings` and `findings`, each of which has
    /// `severity`, `line`, `column`, `message` and `hint` (null where there is none).
    pub fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|f| {
            json!({
                "severity": f.severity.as_str(),
                "line": f.at.map(|at| at.line),
                "column": f.at.map(|at| at.column),
                "message": f.message,
                "hint": f.hint,
            })
        });
        json!({
            "file": (!self.file.is_empty()).then_some(&self.file),
            "ok": self.is_ok(),
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "findings": findings.collect::<Vec<_>>(),
        })
    }

    fn place(&self, finding: &Finding) -> String {
        match (finding.at, self.file.as_str()) {
            (_, "") => String::new(),
            (None, file) => format!("{file}: "),
            (Some(at), file) => format!("{file}:{}:{}: ", at.line, at.column),
        }
    }

    fn snippet(&self, at: Span, hint: Option<&str>, out: &mut dyn Write) -> fmt::Result {
        let index = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(line) = self.lines.get(index) else {
            return Ok(());
        };
        let column = usize::try_from(at.column).unwrap_or(usize::MAX).saturating_sub(1);
        // A long line is shown from a little before the caret on.
        let skip = if line.chars().count() > MAX_WIDTH {
            column.saturating_sub(MAX_WIDTH / 3)
        } else {
            0
        };
        let shown: String = line.chars().skip(skip).take(MAX_WIDTH).collect();
        // A tab takes its own width in both lines.
        let before = shown.chars().take(column.saturating_sub(skip));
        let pad: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let rest = shown.chars().count().saturating_sub(pad.chars().count());
        let carets = usize::try_from(at.len).unwrap_or(1).clamp(1, rest.max(1));
        let number = at.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(out, "  {number} | {shown}")?;
        write!(out, "  {gutter} | {pad}{}", "^".repeat(carets))?;
        if let Some(hint) = hint {
            write!(out, " {hint}")?;
        }
        writeln!(out)
    }
}

fn headline(finding: &Finding) -> String {
    match &finding.hint {
        Some(hint) => format!("{}; {hint}", finding.message),
        None => finding.message.clone(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.findings.iter().take(MAX_FINDINGS) {
            let severity = finding.severity.as_str();
            match finding.at {
                Some(at) => {
                    writeln!(f, "{}{severity}: {}", self.place(finding), finding.message)?;
                    self.snippet(at, finding.hint.as_deref(), f)?;
                }
                None => writeln!(f, "{}{severity}: {}", self.place(finding), headline(finding))?,
            }
        }
        let more = self.findings.len().saturating_sub(MAX_FINDINGS);
        if more > 0 {
            writeln!(f, "and {more} more")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A stretch of the source that must not be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blank {
    /// One value; the rest of its first line when it goes on in further lines, and those lines.
    Value { at: Span, lines: u32 },
    /// The letters and digits of a whole line after its first `:`, for a file that could not be parsed: then nobody
    /// knows what is secret, and the punctuation is what one needs to see.
    Tail { lines: RangeInclusive<u32> },
}

impl Blank {
    fn apply(&self, lines: &mut [String]) {
        let numbered = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(1);
        match self {
            Self::Value { at, lines: count } => {
                let first = numbered(at.line);
                let column = numbered(at.column);
                let len = if *count > 1 {
                    usize::MAX
                } else {
                    usize::try_from(at.len).unwrap_or(usize::MAX)
                };
                if let Some(line) = lines.get_mut(first) {
                    *line = stars(line, column, len, |_| true);
                }
                let more = usize::try_from(count.saturating_sub(1)).unwrap_or(0);
                for line in lines.iter_mut().skip(first.saturating_add(1)).take(more) {
                    *line = stars(line, 0, usize::MAX, |c| !c.is_whitespace());
                }
            }
            Self::Tail { lines: range } => {
                let first = numbered(*range.start());
                let count = numbered(*range.end()).saturating_sub(first).saturating_add(1);
                for line in lines.iter_mut().skip(first).take(count) {
                    let start = line.chars().position(|c| c == ':').unwrap_or(0);
                    *line = stars(line, start, usize::MAX, char::is_alphanumeric);
                }
            }
        }
    }
}

fn stars(line: &str, from: usize, len: usize, hide: impl Fn(char) -> bool) -> String {
    let end = from.saturating_add(len);
    let hidden = |(at, c): (usize, char)| {
        if (from..end).contains(&at) && hide(c) {
            '*'
        } else {
            c
        }
    };
    line.chars().enumerate().map(hidden).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32, len: u32) -> Span {
        Span {
            line,
            column,
            len,
            lines: 1,
        }
    }

    #[test]
    fn a_finding_shows_its_line_and_a_caret() {
        let finding = Finding::error(Some(at(2, 3, 4)), &"unknown key `prot`")
            .with_hint(Some("did you mean `port`?".to_owned()));
        let report = Report::new("edge.yaml".to_owned(), "mcp:\n  prot: 1\n", vec![finding], &[]);
        let expected =
            "edge.yaml:2:3: error: unknown key `prot`\n  2 |   prot: 1\n    |   ^^^^ did you mean `port`?\n";
        assert_eq!(report.to_string(), expected);
        assert!(!report.is_ok());
    }

    #[test]
    fn findings_come_in_the_order_of_the_file() {
        let findings = vec![
            Finding::error(Some(at(9, 1, 1)), &"last"),
            Finding::warning(Some(at(3, 1, 1)), &"middle"),
            Finding::error(None, &"first"),
        ];
        let text = Report::new("f".to_owned(), "", findings, &[]).to_string();
        assert_eq!(
            text,
            "f: error: first\nf:3:1: warning: middle\nf:9:1: error: last\n"
        );
    }

    #[test]
    fn secrets_are_blanked_in_source_lines() {
        let source = "secret: hunter2, more\nkey: |\n  line-one\n  line-two\n";
        let blank = [
            Blank::Value {
                at: at(1, 9, 7),
                lines: 1,
            },
            Blank::Value {
                at: at(3, 3, 8),
                lines: 2,
            },
        ];
        let findings = (1..=4)
            .map(|line| Finding::error(Some(at(line, 1, 1)), &"x"))
            .collect();
        let text = Report::new("f".to_owned(), source, findings, &blank).to_string();
        assert!(text.contains("secret: *******, more"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("line-"), "{text}");
    }

    #[test]
    fn a_line_that_could_not_be_parsed_shows_only_its_punctuation() {
        let finding = Finding::error(Some(at(1, 13, 1)), &"x");
        let blank = [Blank::Tail { lines: 1..=1 }];
        let text = Report::new("f".to_owned(), "  secret: [abc, 12", vec![finding], &blank).to_string();
        assert!(text.contains("  secret: [***, **"), "{text}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let source = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let finding = Finding::error(Some(at(1, 5001, 1)), &"x");
        let text = Report::new("f".to_owned(), &source, vec![finding], &[]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1].find('X'), lines[2].find('^'));
        assert!(lines[1].len() < 150);
    }

    #[test]
    fn the_number_of_findings_is_bounded() {
        let findings = vec![Finding::error(None, &"x"); MAX_FINDINGS + 7];
        let text = Report::new("f".to_owned(), "", findings, &[]).to_string();
        assert!(text.ends_with("and 7 more\n"));
        assert_eq!(text.lines().count(), MAX_FINDINGS + 1);
    }
}
