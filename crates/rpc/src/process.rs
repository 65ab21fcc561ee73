//! What a process needs from its directory: to be the only one in it, and secrets that nobody else can read.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atm_types::IdSource;
use zeroize::Zeroizing;

/// Why a directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works in it.
    #[error("{} is in use by {}", .directory.display(), .pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it, if it wrote its id down in time.
        pid: Option<u32>,
    },
    /// The lock file cannot be made or written.
    #[error("cannot lock {}", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Holds a directory for this process until it is dropped or the process dies, however it dies.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory (mode 0700) if it is missing, and takes its lock without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that was faster.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { directory: directory.to_path_buf(), source };
        create_private_directory(directory).map_err(io)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                return Err(LockError::Held { directory: directory.to_path_buf(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        // Only to be read by people: the lock itself is the kernel's and goes with the process. So a disk that has no
        // room for it keeps nobody from starting.
        file.set_len(0).map_err(io)?;
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { _file: file })
    }
}

/// Makes a directory and its missing parents, readable by the owner only.
fn create_private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// There is no such file.
    #[error("{} does not exist", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner can read or write it.
    #[error("{} is open to others (mode {mode:o}); make it 0600", .path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is empty, longer than 4 KiB, or not text.
    #[error("{} holds no secret", .path.display())]
    NotASecret {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A short secret text from a file that only its owner can read. Wiped from memory on drop.
pub struct SecretFile {
    path: PathBuf,
    text: Zeroizing<String>,
}

/// Bytes of the longest secret.
const LONGEST: usize = 4096;

impl SecretFile {
    /// Reads the secret, or makes one first: thirty-two random bytes as 64 hexadecimal digits, mode 0600,
    /// on disk with its directory before this returns. If two processes make it at once, both get the same.
    ///
    /// # Errors
    /// [`SecretFileError`] when it cannot be made or read, or is open to others.
    pub fn create_or_load(path: &Path, ids: &dyn IdSource) -> Result<Self, SecretFileError> {
        match Self::load(path) {
            Err(SecretFileError::Missing { .. }) => {}
            other => return other,
        }
        create(path, ids).map_err(|source| SecretFileError::Io { path: path.to_path_buf(), source })?;
        Self::load(path)
    }

    /// Reads the secret; white space around it does not belong to it.
    ///
    /// # Errors
    /// [`SecretFileError`] when it cannot be read, is open to others, or holds no text.
    pub fn load(path: &Path) -> Result<Self, SecretFileError> {
        let owned = || path.to_path_buf();
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SecretFileError::Missing { path: owned() },
            _ => SecretFileError::Io { path: owned(), source },
        })?;
        let io = |source| SecretFileError::Io { path: owned(), source };
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretFileError::OpenToOthers { path: owned(), mode });
        }
        if !metadata.is_file() || metadata.len() > LONGEST as u64 {
            return Err(SecretFileError::NotASecret { path: owned() });
        }
        // As large as the file may be, so that no copy is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
        file.take(LONGEST as u64).read_to_end(&mut bytes).map_err(io)?;
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        if text.is_empty() {
            return Err(SecretFileError::NotASecret { path: owned() });
        }
        Ok(Self { path: owned(), text: Zeroizing::new(text.to_owned()) })
    }

    /// The secret itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The thirty-two bytes that the text spells in hexadecimal, if it is such a text.
    pub fn key(&self) -> Option<Zeroizing<[u8; 32]>> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(self.text.as_bytes(), &mut *key).ok()?;
        Some(key)
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Writes a new secret beside `path` and links it into place, which fails harmlessly if somebody was faster:
/// nobody ever sees half a secret, and nobody's secret is replaced.
fn create(path: &Path, ids: &dyn IdSource) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    create_private_directory(directory)?;
    let mut suffix = [0; 8];
    ids.fill(&mut suffix);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.new", std::process::id(), hex::encode(suffix)));
    let draft = directory.join(name);

    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let text = Zeroizing::new(hex::encode(*Zeroizing::new(ids.secret())) + "\n");
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&draft)?;
    linked?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use atm_types::{SeededIds, SystemIds};
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is_and_gets_in_when_that_one_is_gone() {
        let home = tempdir().unwrap();
        let directory = home.path().join("data/ledger");
        let first = DirectoryLock::acquire(&directory).unwrap();
        let error = DirectoryLock::acquire(&directory).unwrap_err();
        assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()));
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DirectoryLock::acquire(&directory).unwrap();
    }

    #[test]
    fn a_directory_made_for_a_process_is_its_own() {
        let home = tempdir().unwrap();
        let directory = home.path().join("data");
        let _lock = DirectoryLock::acquire(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_secret_is_made_once_and_read_ever_after() {
        let home = tempdir().unwrap();
        let path = home.path().join("keys/token");
        let made = SecretFile::create_or_load(&path, &SeededIds::new(1)).unwrap();
        let read = SecretFile::create_or_load(&path, &SeededIds::new(2)).unwrap();
        assert_eq!(made.text(), read.text());
        assert_eq!(made.text().len(), 64);
        assert_eq!(hex::encode(*made.key().unwrap()), made.text());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no draft is left behind");
    }

    #[test]
    fn processes_that_make_a_secret_at_once_agree_on_it() {
        let home = tempdir().unwrap();
        let path = home.path().join("token");
        let texts: Vec<String> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| SecretFile::create_or_load(&path, &SystemIds).unwrap().text().to_owned())
                })
                .collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|text| *text == texts[0]));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let home = tempdir().unwrap();
        let path = home.path().join("token");
        SecretFile::create_or_load(&path, &SystemIds).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = SecretFile::create_or_load(&path, &SystemIds).unwrap_err();
            assert!(matches!(error, SecretFileError::OpenToOthers { mode: found, .. } if found == mode));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        SecretFile::load(&path).unwrap();
    }

    #[test]
    fn an_empty_or_huge_or_binary_file_holds_no_secret_and_is_never_overwritten() {
        let home = tempdir().unwrap();
        let path = home.path().join("token");
        for contents in [&b""[..], b" \n", &[0xff, 0xfe], &[b'a'; 4097]] {
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = SecretFile::create_or_load(&path, &SystemIds).unwrap_err();
            assert!(matches!(error, SecretFileError::NotASecret { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), contents);
        }
    }

    #[test]
    fn a_missing_secret_is_missing_and_no_secret_is_printed() {
        let home = tempdir().unwrap();
        let path = home.path().join("token");
        assert!(matches!(SecretFile::load(&path), Err(SecretFileError::Missing { .. })));
        let secret = SecretFile::create_or_load(&path, &SystemIds).unwrap();
        assert!(!format!("{secret:?}").contains(secret.text()));
    }
}
