//! Secrets of the edge: given by the configuration, or made once and kept in `state_dir`.
//!
//! Invariant: a key file is readable by its owner alone, and is never replaced once it is there: tokens that were made
//! with it must stay good across restarts.

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::config::IssuerKey;

/// Bytes of randomness in a made secret.
const RANDOM: usize = 32;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("the key file {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the key file {0} can be read by others; run `chmod 600 {0}`, or remove it to have a new one made"
    )]
    Open(PathBuf),
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// An issuer's secret.
///
/// # Errors
/// Its file cannot be made or read.
pub fn secret(key: &IssuerKey) -> Result<SecretString, KeyFileError> {
    match key {
        IssuerKey::Secret(secret) => Ok(secret.clone()),
        IssuerKey::Generated(path) => read(path).unwrap_or_else(|| make(path)),
    }
}

/// What the file holds; `None` if there is none.
fn read(path: &Path) -> Option<Result<SecretString, KeyFileError>> {
    let failed = |source| KeyFileError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(failed(error))),
    };
    let mut text = String::new();
    let read = file.metadata().and_then(|meta| {
        file.read_to_string(&mut text)?;
        Ok(meta.permissions().mode() & 0o077 != 0)
    });
    Some(match read {
        Ok(true) => Err(KeyFileError::Open(path.to_owned())),
        Ok(false) => Ok(text.trim().to_owned().into()),
        Err(error) => Err(failed(error)),
    })
}

fn make(path: &Path) -> Result<SecretString, KeyFileError> {
    let failed = |source| KeyFileError::File {
        path: path.to_owned(),
        source,
    };
    let mut random = [0_u8; RANDOM];
    getrandom::fill(&mut random).map_err(KeyFileError::Random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = match file {
        Ok(file) => file,
        // Another process was faster: its secret is the one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return read(path).unwrap_or_else(|| Err(failed(error)));
        }
        Err(error) => return Err(failed(error)),
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_made_secret_is_kept_private_and_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/jwt.key");
        let key = IssuerKey::Generated(path.clone());
        let first = secret(&key).unwrap();
        assert_eq!(first.expose_secret().len(), 64);
        assert_eq!(secret(&key).unwrap().expose_secret(), first.expose_secret());
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(secret(&key), Err(KeyFileError::Open(_))));
    }
}
