//! Questions about files that a configuration names.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// What the system says; a file that is too large, or no UTF-8, is `InvalidData`.
pub(super) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file of the exact size from a larger one.
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let why = format!("it is larger than {}", super::units::print_size(limit));
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

/// True for a file that somebody may execute.
pub(super) fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Where a program is found as `execvp` would: a name with a `/` is a path, from the server's working directory on;
/// any other name is searched for in `search`, the value of `PATH`.
pub(super) fn find_program(program: &str, cwd: Option<&Path>, search: &str) -> Option<PathBuf> {
    let from_cwd = |path: &Path| cwd.map_or_else(|| path.to_owned(), |cwd| cwd.join(path));
    if program.contains('/') {
        return Some(from_cwd(Path::new(program))).filter(|path| is_executable(path));
    }
    std::env::split_paths(search)
        .map(|dir| from_cwd(&dir).join(program))
        .find(|path| is_executable(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_the_system_would() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        std::fs::write(&tool, "#!/bin/sh\n").unwrap();
        let search = format!("/nowhere:{}", dir.path().display());
        assert_eq!(find_program("tool", None, &search), None, "not executable yet");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_program("tool", None, &search), Some(tool.clone()));
        assert_eq!(find_program("tool", None, "/nowhere"), None);
        assert_eq!(find_program(tool.to_str().unwrap(), None, ""), Some(tool));
        assert!(find_program("./tool", Some(dir.path()), "").is_some());
        assert_eq!(find_program(".", None, ""), None);
    }
}
