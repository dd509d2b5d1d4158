//! Which variables of the edge's own environment a sidecar, and with it the MCP server, inherits.
//!
//! The edge's environment holds secrets (signing keys, database URLs) under names that nobody can list in full.
//! Invariant: only what is on this list passes; what a server needs besides is written into its `env`.

use std::ffi::OsString;

/// Inherited under exactly this name.
const NAMES: &[&str] = &[
    // Who and where.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TERM",
    "TMPDIR",
    "TZ",
    "COLORTERM",
    "NO_COLOR",
    // Tools that start servers and find their packages.
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PNPM_HOME",
    "BUN_INSTALL",
    "DENO_DIR",
    "VOLTA_HOME",
    "NVM_DIR",
    "GOPATH",
    "GOROOT",
    "GOCACHE",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "JAVA_HOME",
    "DOTNET_ROOT",
    "LD_LIBRARY_PATH",
    "PLAYWRIGHT_BROWSERS_PATH",
    // Containers and displays that a server may talk to.
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
    // Certificates.
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    // What the sidecar logs.
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// Inherited if the name begins so.
const PREFIXES: &[&str] = &[
    "LC_",
    "XDG_",
    "NODE_",
    "NPM_",
    "npm_config_",
    "PYTHON",
    "PIP_",
    "UV_",
    "SSL_CERT_",
];

/// Inherited if the name ends so.
const SUFFIXES: &[&str] = &["_PROXY", "_proxy"];

fn passes(name: &str) -> bool {
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// The part of the edge's environment that a sidecar inherits.
pub(super) fn inherited() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(passes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_need_passes() {
        for name in [
            "PATH",
            "HOME",
            "LC_ALL",
            "XDG_RUNTIME_DIR",
            "NODE_PATH",
            "NPM_CONFIG_CACHE",
            "npm_config_registry",
            "PYTHONPATH",
            "VIRTUAL_ENV",
            "UV_CACHE_DIR",
            "SSL_CERT_FILE",
            "HTTPS_PROXY",
            "no_proxy",
            "DOCKER_HOST",
        ] {
            assert!(passes(name), "{name}");
        }
    }

    #[test]
    fn secrets_and_the_unknown_do_not() {
        for name in [
            "MCP_JWT_SECRET",
            "MCP_ENCRYPTION_KEY",
            "DATABASE_URL",
            "REDIS_URL",
            "ADMIN_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "PATHS",
            "path",
            "",
        ] {
            assert!(!passes(name), "{name}");
        }
    }
}
