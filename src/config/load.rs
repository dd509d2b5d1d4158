//! From a file to a configuration, and to everything that is wrong with it.
//!
//! The stages: parse (stops at the first syntax error; nothing can be said beyond one), substitute, walk the shape,
//! check the meaning. Each later stage gets what the one before could make sense of, so that one run reports the
//! mistakes of all of them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::check::{self, Names, Surroundings};
use super::files;
use super::later;
use super::mcp_json;
use super::report::{Blank, Finding, Report};
use super::schema;
use super::shape::Shape;
use super::snapshot::{Config, Source};
use super::spec::Spec;
use super::substitute::{Dialect, Variables, substitute};
use super::tree::{Node, Span, Step};

/// Largest configuration file: far above any that people write.
const MAX_FILE: u64 = 1 << 20;

/// Where to look for a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A YAML file that the operator named. That it is missing is an error: nothing stands in for it.
    File(PathBuf),
    /// No file was named: the `.mcp.json` of this folder if there is one, else the built-in demo server.
    Folder(PathBuf),
}

/// What one run over a configuration found.
#[derive(Debug)]
pub struct Examined {
    /// All mistakes and warnings.
    pub report: Report,
    /// The configuration, when there is no mistake.
    pub config: Option<Config>,
    effective: Option<Value>,
}

impl Examined {
    /// The configuration in force with every default written out, secrets as `[redacted]`; it can be read again.
    /// `None` when there is a mistake.
    pub fn effective(&self) -> Option<&Value> {
        self.effective.as_ref()
    }
}

/// Loads a configuration with the environment of this process.
///
/// # Errors
/// The report, when there is at least one mistake in it.
pub fn load(input: &Input) -> Result<Config, Box<Report>> {
    let examined = examine(input, &|name| std::env::var(name).ok());
    examined.config.ok_or_else(|| Box::new(examined.report))
}

/// Loads a configuration and keeps everything that was found. `variables` answers for the environment.
pub fn examine(input: &Input, variables: &dyn Fn(&str) -> Option<String>) -> Examined {
    match input {
        Input::File(path) => file(path, variables),
        Input::Folder(folder) => {
            let found = folder.join(mcp_json::FILE_NAME);
            if found.exists() {
                mcp_json::examine(&found, variables)
            } else {
                mcp_json::demo(variables)
            }
        }
    }
}

fn file(path: &Path, variables: Variables<'_>) -> Examined {
    let mut document = match Document::read(path) {
        Ok(document) => document,
        Err(failed) => return *failed,
    };
    let mut findings = Vec::new();
    findings.extend(later::warning(&document.root));
    substitute(&mut document.root, Dialect::Edge, variables, &mut findings);
    let names = Names::of_document(&document.root);
    let mut shape = Shape::default();
    let value = shape.walk(&mut document.root, schema::json_schema());
    findings.append(&mut shape.findings);
    document.blanks = shape.blanks;

    let root = &document.root;
    let locate = |path: &[Step<'_>]| root.locate(path);
    let surroundings = Surroundings {
        locate: &locate,
        variables,
        names,
        source: Source::File(path.to_owned()),
    };
    match value.map(serde_json::from_value::<Spec>) {
        Some(Ok(spec)) => finish(&document, spec, surroundings, findings),
        // The walk leaves nothing that the types refuse; if it ever does, that is a mistake of the file all the same.
        Some(Err(error)) => {
            findings.push(Finding::error(None, &error));
            document.fail(findings)
        }
        None => document.fail(findings),
    }
}

/// Checks the meaning and puts everything together.
pub(super) fn finish(
    document: &Document,
    mut spec: Spec,
    surroundings: Surroundings<'_>,
    mut findings: Vec<Finding>,
) -> Examined {
    spec.fill();
    let (config, more) = check::check(&spec, surroundings);
    findings.extend(more);
    let report = document.report(findings);
    let config = config.filter(|_| report.is_ok()).map(|mut config| {
        config.warnings = report.warnings();
        config
    });
    let effective = config.as_ref().and_then(|_| serde_json::to_value(&spec).ok());
    Examined {
        report,
        config,
        effective,
    }
}

/// One file that was read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    pub(super) blanks: Vec<Blank>,
    name: String,
    source: String,
}

impl Document {
    /// What stands for a file when there is none.
    pub(super) fn none() -> Self {
        Self {
            root: Node::empty(),
            blanks: Vec::new(),
            name: String::new(),
            source: String::new(),
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self, Box<Examined>> {
        let name = path.display().to_string();
        let source = files::read_text(path, MAX_FILE).map_err(|error| {
            let finding = Finding::error(None, &format!("cannot read the configuration: {error}"));
            Box::new(failed(Report::new(name.clone(), "", vec![finding], &[])))
        })?;
        match Node::parse(&source) {
            Ok(root) => Ok(Self {
                root,
                blanks: Vec::new(),
                name,
                source,
            }),
            Err(error) => {
                let finding = syntax(&error);
                let blanks: Vec<Blank> = finding
                    .at
                    .map(|at| Blank::Tail {
                        lines: at.line..=at.line,
                    })
                    .into_iter()
                    .collect();
                Err(Box::new(failed(Report::new(
                    name,
                    &source,
                    vec![finding],
                    &blanks,
                ))))
            }
        }
    }

    pub(super) fn fail(&self, findings: Vec<Finding>) -> Examined {
        failed(self.report(findings))
    }

    fn report(&self, findings: Vec<Finding>) -> Report {
        Report::new(self.name.clone(), &self.source, findings, &self.blanks)
    }
}

fn failed(report: Report) -> Examined {
    Examined {
        report,
        config: None,
        effective: None,
    }
}

fn syntax(error: &serde_saphyr::Error) -> Finding {
    let text = error.without_snippet().to_string();
    let at = error.location().map(|at| {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        Span {
            line: number(at.line()),
            column: number(at.column()),
            len: 1,
            lines: 1,
        }
    });
    // The parser says the place in words too.
    let place = at
        .map(|at| format!(" at line {}, column {}", at.line, at.column))
        .unwrap_or_default();
    let text = if place.is_empty() {
        text
    } else {
        text.replace(&place, "")
    };
    let text = if text.contains("multiple YAML documents") {
        "a second document begins here (`---`); the configuration is one document".to_owned()
    } else {
        format!("not valid YAML: {text}")
    };
    Finding::error(at, &text)
}
