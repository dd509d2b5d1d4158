//! `mcp-edge token mint` and `mcp-edge token inspect`.
//!
//! Both use the issuers of the configuration in force, so that a token that is made here opens the door there, and a
//! refusal explained here is the one that the edge would give.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use mcp_edge_filters::WallClock;
use mcp_edge_filters::jwt::keys::{KeyError, SigningKey};
use mcp_edge_filters::jwt::verify::{IssuerError, Verifier};
use mcp_edge_filters::token::{self, MintError, MintSpec};

use crate::config::{self, Config, Issuer};
use crate::keys::{self, KeyFileError};
use crate::proxy::{StateError, issuers};

/// Tokens of the edge's own issuer.
#[derive(Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a client's token
    #[command(
        after_help = "Examples:\n  mcp-edge token mint --client codex\n  mcp-edge token mint -c edge.yaml --client ci --tier pro --ttl 8h"
    )]
    Mint(MintArgs),
    /// Say what the edge would do with a token, and why; reads it from standard input if it is not given
    #[command(
        after_help = "Examples:\n  mcp-edge token inspect \"$TOKEN\"\n  pbpaste | mcp-edge token inspect -c edge.yaml"
    )]
    Inspect(InspectArgs),
}

#[derive(Args)]
struct MintArgs {
    /// The client's id
    #[arg(long)]
    client: String,
    /// Claim this tier; the issuer must be allowed to name it
    #[arg(long)]
    tier: Option<String>,
    /// Grant a scope; may be repeated
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// How long it is good, at most 24h
    #[arg(long, default_value = "24h", value_parser = config::parse_duration)]
    ttl: Duration,
    /// Make it for this issuer of auth.jwt instead of the first one
    #[arg(long)]
    issuer: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Args)]
struct InspectArgs {
    token: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Args)]
struct SourceArgs {
    /// The configuration file; without it, what `mcp-edge` alone would serve
    #[arg(short, long, env = "MCP_EDGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("{0}")]
    Config(Box<config::Report>),
    #[error("the configuration has no issuer under auth.jwt")]
    NoIssuer,
    #[error("the configuration has no issuer `{0}` under auth.jwt")]
    UnknownIssuer(String),
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error("standard input: {0}")]
    Input(#[from] io::Error),
}

/// Does what the arguments say.
#[must_use]
pub fn run(args: TokenArgs) -> ExitCode {
    let done = match args.command {
        TokenCommand::Mint(args) => mint(&args).map(|token| {
            println!("{token}");
            ExitCode::SUCCESS
        }),
        TokenCommand::Inspect(args) => inspect(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("mcp-edge token: {error}");
        ExitCode::from(2)
    })
}

fn load(source: &SourceArgs) -> Result<Config, TokenError> {
    config::load(&super::input(source.config.clone())).map_err(TokenError::Config)
}

fn mint(args: &MintArgs) -> Result<String, TokenError> {
    let config = load(&args.source)?;
    let wanted = |issuer: &&Issuer| args.issuer.as_ref().is_none_or(|name| *name == issuer.issuer);
    let issuer = config
        .auth
        .issuers
        .iter()
        .find(wanted)
        .ok_or_else(|| match &args.issuer {
            Some(name) => TokenError::UnknownIssuer(name.clone()),
            None => TokenError::NoIssuer,
        })?;
    let spec = MintSpec {
        issuer: issuer.issuer.clone(),
        audience: issuer.audience.clone(),
        client_id: args.client.clone(),
        tier: args.tier.clone(),
        scopes: args.scopes.clone(),
        session_id: None,
        lifetime: args.ttl,
    };
    let key = SigningKey::secret(None, &keys::secret(&issuer.key)?)?;
    Ok(token::mint(&spec, &key, WallClock::system().unix_secs())?)
}

fn inspect(args: &InspectArgs) -> Result<ExitCode, TokenError> {
    let config = load(&args.source)?;
    let text = match &args.token {
        Some(token) => token.clone(),
        None => {
            let mut text = String::new();
            io::stdin().take(64 * 1024).read_to_string(&mut text)?;
            text
        }
    };
    let verifier = Verifier::new(issuers(&config)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let found = runtime.block_on(token::inspect(&text, &verifier, WallClock::system().unix_secs()));
    for (name, part) in [("header", &found.header), ("claims", &found.claims)] {
        if let Some(part) = part {
            println!("{name}: {part:#}");
        }
    }
    Ok(match found.result {
        Ok(verified) => {
            println!("accepted: client {}/{}", verified.issuer, verified.id);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("refused: {error}");
            ExitCode::FAILURE
        }
    })
}
