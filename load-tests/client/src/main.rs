//! A load client for MCP: N legacy sessions that call `echo` one call after the other, over HTTP or directly on
//! stdio, and what the target's processes cost meanwhile.
//!
//! One thread, so that on a small machine most of the CPU is left to the target. Every answer must carry the text of
//! its own call: a translator that mixes up two clients fails the run instead of looking fast. Bounded in time and
//! only ever aimed at loopback.

mod http;
mod procfs;
mod stdio;
mod tally;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use tally::Tally;

/// No run takes longer, whatever the target does.
const LONGEST: Duration = Duration::from_secs(120);

/// One answer; a target that is slower has failed.
const ANSWER: Duration = Duration::from_secs(30);

/// Text that fills the call's argument up to a usual size.
const PADDING: &str = "the quick brown fox jumps over the lazy dog and comes back for more of the same";

#[derive(Parser)]
#[command(
    about = "Calls the tool `echo` of an MCP server as fast as N sessions can; prints one line of JSON"
)]
struct Args {
    /// Sessions at the same time, each with one call in flight
    #[arg(long, default_value_t = 1)]
    sessions: usize,
    /// How long to measure, in seconds; a fifth of it more is spent warming up
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Where the target listens (loopback only) and the path of its MCP endpoint
    #[arg(long, requires = "path")]
    http: Option<SocketAddr>,
    #[arg(long)]
    path: Option<String>,
    /// Sent as `Authorization: Bearer`
    #[arg(long)]
    token: Option<String>,
    /// The target's process: its CPU time and memory are measured, with all its descendants
    #[arg(long)]
    tree: Option<u32>,
    /// Without --http: the server to start, once per session
    #[arg(last = true)]
    command: Vec<String>,
}

/// One session's way to its server.
enum Link {
    Http(http::Link),
    Stdio(stdio::Link),
}

impl Link {
    async fn open(args: &Args) -> io::Result<Self> {
        match (args.http, &args.path) {
            (Some(address), Some(path)) => http::Link::open(address, path, args.token.as_deref())
                .await
                .map(Self::Http),
            _ => stdio::Link::open(&args.command).map(Self::Stdio),
        }
    }

    /// Sends a message; true if its answer contains `expect`. A notification has no answer.
    async fn send(&mut self, message: &str, expect: Option<&str>) -> io::Result<bool> {
        let exchange = async {
            match self {
                Self::Http(link) => link.send(message, expect).await,
                Self::Stdio(link) => link.send(message, expect).await,
            }
        };
        tokio::time::timeout(ANSWER, exchange)
            .await
            .map_err(|_| io::Error::other("no answer in time"))?
    }

    async fn initialize(&mut self) -> io::Result<()> {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "mcp-load", "version": "1"}}});
        if !self.send(&hello.to_string(), Some("protocolVersion")).await? {
            return Err(io::Error::other("initialize was refused"));
        }
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, None)
            .await?;
        Ok(())
    }
}

/// Calls until `until`, and notes those that began at or after `from`.
async fn visit(mut link: Link, session: usize, from: Instant, until: Instant) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for id in 1_u64.. {
        let began = Instant::now();
        if began >= until {
            break;
        }
        let text = format!("session {session} call {id}: {PADDING}");
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
        );
        let answered = link.send(&call, Some(&text)).await?;
        if began >= from {
            tally.note(began.elapsed(), answered);
        }
    }
    Ok(tally)
}

async fn run(args: &Args) -> Result<serde_json::Value, io::Error> {
    if args.http.is_some_and(|address| !address.ip().is_loopback()) {
        return Err(io::Error::other("only a loopback address may be a target"));
    }
    let measure = Duration::from_secs_f64(args.seconds).min(LONGEST);
    let mut handshakes = Tally::default();
    let mut links = Vec::with_capacity(args.sessions);
    for _ in 0..args.sessions {
        let began = Instant::now();
        let mut link = Link::open(args).await?;
        link.initialize().await?;
        handshakes.note(began.elapsed(), true);
        links.push(link);
    }
    let roots: Vec<u32> = match args.tree {
        Some(pid) => vec![pid],
        None => links
            .iter()
            .filter_map(|link| if let Link::Stdio(s) = link { s.pid() } else { None })
            .collect(),
    };
    let from = Instant::now() + measure / 5;
    let until = from + measure;
    let cpu_at_start = async {
        tokio::time::sleep_until(from.into()).await;
        procfs::cpu(&roots)
    };
    let visits = async {
        let tasks: Vec<_> = links
            .into_iter()
            .enumerate()
            .map(|(n, link)| tokio::spawn(visit(link, n, from, until)))
            .collect();
        let mut all = Tally::default();
        let mut usage = None;
        for task in tasks {
            all.add(task.await.map_err(io::Error::other)??);
            // The first to end: the others end within one call.
            usage.get_or_insert_with(|| (procfs::cpu(&roots), procfs::rss_kib(&roots)));
        }
        Ok::<_, io::Error>((all, usage.unwrap_or_default()))
    };
    let (before, visited) = tokio::join!(cpu_at_start, visits);
    let (mut tally, (after, rss_kib)) = visited?;
    let cpu = after.saturating_sub(before);
    Ok(json!({
        "sessions": args.sessions,
        "calls": tally.calls(),
        "wrong": tally.wrong(),
        "calls_per_second": tally.calls() as f64 / measure.as_secs_f64(),
        "p50_us": tally.quantile_us(0.50),
        "p99_us": tally.quantile_us(0.99),
        "initialize_p50_us": handshakes.quantile_us(0.50),
        "cpu_us_per_call": if tally.calls() > 0 { Some(cpu.as_micros() as f64 / tally.calls() as f64) } else { None },
        "rss_kib": rss_kib,
    }))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mcp-load: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&args)) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mcp-load: {error}");
            ExitCode::FAILURE
        }
    }
}
