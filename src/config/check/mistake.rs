//! The mistakes of meaning that an operator can make, and the notices that stop nothing.

use std::net::SocketAddr;

/// The shortest secret: as long as the output of HS256 (RFC 7518 section 3.2).
pub(super) const MIN_SECRET: usize = 32;

/// Well-formed, but the edge cannot start with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mistake<'a> {
    #[error("`{first}` and `{second}` both listen on port {port}; give them different ports")]
    ListenersClash {
        first: &'a str,
        second: &'a str,
        port: u16,
    },
    #[error(
        "the admin listener {0} is not a loopback address; add `edge.admin_auth` with a token, or use 127.0.0.1"
    )]
    AdminUnprotected(SocketAddr),
    #[error("`{what}` has {len} bytes; it needs at least {MIN_SECRET} (`openssl rand -hex 32` makes one)")]
    ShortSecret { what: &'a str, len: usize },
    #[error("cannot read `{path}`: {why}")]
    UnreadableFile { path: &'a str, why: String },
    #[error("`{path}` holds no PEM block of a {what}")]
    NotPem { path: &'a str, what: &'a str },
    #[error("`state_dir` {0} is a file; it must be a folder, or a path where one can be made")]
    StateDirIsFile(&'a str),
    #[error("`mcp.runtime: docker` comes with a later version; use `process` or `fixed`")]
    DockerRuntime,
    #[error("two services are named `{0}`; the first is on line {1}")]
    RepeatedService(&'a str, u32),
    #[error("services `{first}` and `{second}` both use port {port}; give one of them another")]
    RepeatedPort {
        first: &'a str,
        second: &'a str,
        port: u16,
    },
    #[error(
        "service `{service}` uses port {port}, which is the edge's own (`edge.{listener}`); give it another"
    )]
    OwnPort {
        service: &'a str,
        port: u16,
        listener: &'a str,
    },
    #[error("service `{0}` has nothing to start: give it a `command`, a `wrapper` or `upstreams`")]
    NothingToStart(&'a str),
    #[error("service `{0}` lacks `upstreams`, and `mcp.runtime: fixed` starts nothing")]
    NoUpstreams(&'a str),
    #[error("service `{service}` has `{first}` and `{second}`; keep one of them")]
    Exclusive {
        service: &'a str,
        first: &'a str,
        second: &'a str,
    },
    #[error("the first entry of `command` is the program; it cannot be empty")]
    EmptyProgram,
    #[error("an argument of `command` has a NUL character")]
    NulInCommand,
    #[error("`token` is for `upstreams`; a sidecar that the edge starts gets its own")]
    TokenWithoutUpstreams,
    #[error("the upstream `{0}` is the edge itself (`edge.listen`)")]
    UpstreamIsEdge(String),
    #[error("`{what}.min` ({min}) is larger than `{what}.max` ({max})")]
    MinOverMax { what: &'a str, min: u32, max: u32 },
    #[error("`processes.warm` ({warm}) is larger than `processes.max` ({max})")]
    WarmOverMax { warm: u32, max: u32 },
    #[error("service `{0}` is its own `backup`; name another one")]
    OwnBackup(&'a str),
    #[error("there is no {what} `{name}`")]
    Dangling { what: &'a str, name: &'a str },
    #[error("two entries of `auth.jwt` have the issuer `{0}`")]
    RepeatedIssuer(&'a str),
    #[error("`{0}` comes with a later version; this one verifies HS256")]
    LaterAlgorithm(String),
    #[error(
        "`auth.anonymous` lets everyone in, so `edge.listen` must be a loopback address, not {0}; remove one of them"
    )]
    AnonymousInPublic(SocketAddr),
    #[error("the environment variable MCP_JWT_SECRET has {0} bytes; it needs at least {MIN_SECRET}")]
    ShortEnvironmentSecret(usize),
    #[error("the route names no service: put `{{service}}` into its path, or give it a `service:`")]
    RouteWithoutService,
    #[error(
        "the route names its service twice, by `{{service}}` in the path and by `service:`; keep one of them"
    )]
    RouteWithTwoServices,
    #[error("`routes` is empty, so no request would be served; remove the key to get the default route")]
    NoRoutes,
}

/// Something an operator should know that stops nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Notice<'a> {
    #[error("no service is configured, so every request is answered 404; list one under `mcp.services`")]
    NoServices,
    #[error(
        "the program `{program}` is not found on PATH; service `{service}` will be unhealthy until it is there"
    )]
    ProgramNotFound { service: &'a str, program: &'a str },
    #[error("`{path}` is not there or not executable; service `{service}` will be unhealthy until it is")]
    NotExecutable { service: &'a str, path: &'a str },
    #[error("the folder `{path}` is not there; service `{service}` will be unhealthy until it is")]
    NoWorkingDirectory { service: &'a str, path: &'a str },
    #[error(
        "`edge.listen` can be reached from other machines, but `allowed_hosts` names only this one: their requests are \
         refused; add the names clients use, or set `public_url`"
    )]
    NoPublicHost,
    #[error("this route is never reached: `routes[{0}]` takes the same requests before it")]
    Unreachable(usize),
    #[error("no service carries the tag `{0}`, so this route matches nothing")]
    UnusedTag(&'a str),
}
