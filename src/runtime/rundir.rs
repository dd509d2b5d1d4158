//! The directory of the sidecars' Unix sockets.
//!
//! Invariants: the directory is private to the edge's user; a path fits into `sockaddr_un`; no two incarnations share a
//! path, so a sidecar that is slow to leave cannot take the socket of its successor away.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use xxhash_rust::xxh3::xxh3_64;

use super::StartError;
use crate::config::ServiceName;
use crate::upstream::EndpointId;

/// Longest path of a Unix socket: `sun_path` has 108 bytes with its final NUL (unix(7)).
const MAX_PATH: usize = 107;

/// Length of the shortest name of a socket: `{endpoint}.sock`.
const SHORTEST_NAME: usize = EndpointId::LEN + ".sock".len();

/// A private directory, short enough for sockets in it.
#[derive(Debug, Clone)]
pub(super) struct RunDir(PathBuf);

impl RunDir {
    /// `{state_dir}/run`, or where that is too long for a socket's path, a directory named after it in
    /// `XDG_RUNTIME_DIR` or `/tmp`.
    pub(super) fn prepare(state_dir: &Path) -> Result<Self, StartError> {
        let wanted = std::path::absolute(state_dir.join("run")).map_err(|source| StartError::RunDir {
            path: state_dir.join("run"),
            source,
        })?;
        if fits(&wanted, SHORTEST_NAME) {
            return Self::make(wanted, false);
        }
        let name = format!(
            "mcp-edge-{}-{:016x}",
            rustix::process::geteuid().as_raw(),
            xxh3_64(wanted.as_os_str().as_bytes())
        );
        let bases = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .into_iter()
            .chain(["/tmp".into()]);
        let short = bases.map(|base| base.join(&name));
        match short
            .into_iter()
            .find(|path| path.parent().is_some_and(Path::is_dir) && fits(path, SHORTEST_NAME))
        {
            Some(path) => Self::make(path, true),
            None => Err(StartError::RunDirTooLong),
        }
    }

    fn make(path: PathBuf, beside_others: bool) -> Result<Self, StartError> {
        let wrong = |source| StartError::RunDir {
            path: path.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(wrong)?;
        let found = fs::symlink_metadata(&path).map_err(wrong)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(StartError::RunDirNotPrivate { path });
        }
        if found.permissions().mode() & 0o077 != 0 {
            // In /tmp an open directory may already hold what somebody else put there.
            if beside_others {
                return Err(StartError::RunDirNotPrivate { path });
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(wrong)?;
        }
        Ok(Self(path))
    }

    /// The path of one incarnation's socket, with the service's name in it if there is room. The file is removed when
    /// the guard is dropped.
    pub(super) fn socket(&self, service: &ServiceName, replica: u32, endpoint: &EndpointId) -> SocketFile {
        let telling = format!("{service}-{replica}-{endpoint}.sock");
        let name = if fits(&self.0, telling.len()) {
            telling
        } else {
            format!("{endpoint}.sock")
        };
        SocketFile(self.0.join(name))
    }

    /// Removes sockets that nobody listens on: what an edge that was killed has left.
    pub(super) async fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
            if is_socket && path.extension().is_some_and(|ext| ext == "sock") && is_dead(&path).await {
                match fs::remove_file(&path) {
                    Ok(()) => tracing::info!(path = %path.display(), "removed a stale socket"),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "cannot remove a stale socket")
                    }
                }
            }
        }
    }
}

fn fits(dir: &Path, name: usize) -> bool {
    dir.as_os_str().len() + 1 + name <= MAX_PATH
}

async fn is_dead(path: &Path) -> bool {
    // A full backlog makes a connect wait; then somebody listens.
    let connect = tokio::time::timeout(Duration::from_millis(200), UnixStream::connect(path));
    matches!(connect.await, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A socket's path. The file, if there is one, goes with it.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The sidecar removes it itself unless it was killed.
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "cannot remove a socket");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn the_directory_is_private_even_if_it_was_not() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let path = home.path().join("run");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let dir = RunDir::prepare(home.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let id = EndpointId::random();
        let socket = dir.socket(&name("files"), 2, &id);
        assert_eq!(socket.path(), path.join(format!("files-2-{id}.sock")));
        let long = "s".repeat(63);
        let longer_home = home.path().join("d".repeat(30));
        let dir = RunDir::prepare(&longer_home).unwrap();
        let socket = dir.socket(&name(&long), 0, &id);
        assert_eq!(socket.path(), longer_home.join("run").join(format!("{id}.sock")));
    }

    #[test]
    fn a_long_state_dir_falls_back_to_a_short_private_one() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let deep = home.path().join("d".repeat(120));
        let dir = RunDir::prepare(&deep).unwrap();
        let socket = dir.socket(&name(&"s".repeat(63)), 999, &EndpointId::random());
        assert!(
            socket.path().as_os_str().len() <= MAX_PATH,
            "{}",
            socket.path().display()
        );
        assert_eq!(fs::metadata(&dir.0).unwrap().permissions().mode() & 0o777, 0o700);
        let again = RunDir::prepare(&deep).unwrap();
        assert_eq!(again.0, dir.0);
        fs::remove_dir_all(&dir.0).unwrap();
    }

    #[test]
    fn a_fallback_that_is_open_to_others_is_refused() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let deep = home.path().join("d".repeat(120));
        let dir = RunDir::prepare(&deep).unwrap();
        fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            RunDir::prepare(&deep),
            Err(StartError::RunDirNotPrivate { .. })
        ));
        fs::remove_dir_all(&dir.0).unwrap();
    }

    #[tokio::test]
    async fn only_dead_sockets_are_swept() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let dir = RunDir::prepare(home.path()).unwrap();
        let (dead, live) = (dir.0.join("a-0-aaaaaaaa.sock"), dir.0.join("b-0-bbbbbbbb.sock"));
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let _listener = tokio::net::UnixListener::bind(&live).unwrap();
        let other = dir.0.join("notes.sock");
        fs::write(&other, "no socket").unwrap();
        dir.sweep().await;
        assert!(!dead.exists());
        assert!(live.exists());
        assert!(other.exists());
    }
}
