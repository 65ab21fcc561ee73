//! Who this machine is: thirty-two random bytes, made once and kept beside the journal.
//!
//! The bank knows a terminal by the SHA-256 of its key, and lets only the terminal that began a withdrawal
//! capture or cancel it. So a machine whose key is lost must not quietly become another one.

use std::path::{Path, PathBuf};

use atm_rpc::process::{SecretFile, SecretFileError};
use atm_types::{IdSource, TerminalId};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::journal;

/// Why the machine does not know who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    /// The key cannot be read or made.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file holds something else.
    #[error("{} is not a terminal key: it must hold 64 hexadecimal digits", .0.display())]
    NotAKey(PathBuf),
    /// There is a journal, but the key that belongs to it is gone.
    #[error("{} is missing, but there is a journal that belongs to it; put the key back", .0.display())]
    Lost(PathBuf),
}

/// The machine's identity.
pub(crate) struct Terminal {
    key: Zeroizing<[u8; 32]>,
    id: TerminalId,
}

impl Terminal {
    /// Reads the key in the state directory, or makes one when there is neither key nor journal.
    pub(crate) fn load(directory: &Path, ids: &dyn IdSource) -> Result<Self, TerminalError> {
        let path = directory.join("terminal.key");
        let file = match SecretFile::load(&path) {
            // Looked up once more: another process may have made both since.
            Err(SecretFileError::Missing { .. }) if journal::exists_in(directory) => {
                match SecretFile::load(&path) {
                    Err(SecretFileError::Missing { .. }) => return Err(TerminalError::Lost(path)),
                    other => other?,
                }
            }
            Err(SecretFileError::Missing { .. }) => SecretFile::create_or_load(&path, ids)?,
            other => other?,
        };
        let key = file.key().ok_or(TerminalError::NotAKey(path))?;
        Ok(Self::of_key(key))
    }

    /// The machine with this key.
    pub(crate) fn of_key(key: Zeroizing<[u8; 32]>) -> Self {
        let id = TerminalId::from_bytes(Sha256::digest(*key).into());
        Self { key, id }
    }

    /// The secret itself.
    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// What the bank knows it by.
    pub(crate) fn id(&self) -> TerminalId {
        self.id
    }

    /// The name of a machine that was given none: two state directories never share it.
    pub(crate) fn default_atm_id(&self) -> String {
        let mut id = self.id.to_string();
        id.truncate(8);
        format!("atm-{id}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atm_types::{SeededIds, SystemClock};

    use super::*;
    use crate::journal::Journal;

    #[test]
    fn a_machine_keeps_its_identity_and_two_machines_never_share_a_name() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Terminal::load(one.path(), &SeededIds::new(1)).unwrap();
        let again = Terminal::load(one.path(), &SeededIds::new(2)).unwrap();
        let other = Terminal::load(two.path(), &SeededIds::new(3)).unwrap();
        assert_eq!((first.id(), first.key()), (again.id(), again.key()));
        assert_ne!(first.default_atm_id(), other.default_atm_id());
        assert!(first.default_atm_id().starts_with("atm-") && first.default_atm_id().len() == 12);
    }

    #[test]
    fn a_machine_that_lost_its_key_does_not_become_another_one() {
        let home = tempfile::tempdir().unwrap();
        let terminal = Terminal::load(home.path(), &SeededIds::new(1)).unwrap();
        drop(Journal::open(home.path(), terminal.id(), Arc::new(SystemClock)).unwrap());
        std::fs::remove_file(home.path().join("terminal.key")).unwrap();
        let error = Terminal::load(home.path(), &SeededIds::new(2)).err().unwrap();
        assert!(matches!(error, TerminalError::Lost(_)), "{error}");
        assert!(!home.path().join("terminal.key").exists());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("terminal.key");
        std::fs::write(&path, "not a key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Terminal::load(home.path(), &SeededIds::new(1)), Err(TerminalError::NotAKey(_))));
    }
}
