//! Small files of the user's, read whole.

use super::network::Network;
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A whole file of at most `most` bytes, the limit called `limit`; `None` if there is none. One with secrets, which
/// `secret` says, is not for everybody.
///
/// # Errors
/// [`Kind::Usage`] if it cannot be read, or is larger.
pub(super) fn read(
    path: &Path,
    most: u64,
    limit: &'static str,
    secret: Option<&Network>,
) -> Result<Option<Vec<u8>>> {
    let failed = |error| Error::from_io(Kind::Usage, error).context(path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    if let Some(network) = secret {
        warn_if_readable(&file, path, network);
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 <= most {
        return Ok(Some(bytes));
    }
    Err(Error::new(
        Kind::Usage,
        format!("{} is larger than {} KiB (edgepull's limit {limit})", path.display(), most >> 10),
    ))
}

/// A file with a secret is not for everybody.
pub(super) fn warn_if_readable(file: &File, path: &Path, network: &Network) {
    if file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0)
    {
        let path = path.display();
        network.warn(format!("{path} holds secrets and can be read by everybody: chmod 600 {path}"));
    }
}
