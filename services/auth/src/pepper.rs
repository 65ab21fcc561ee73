//! The pepper: thirty-two secret bytes outside the database, without which the database can neither be
//! searched for card numbers nor tried for PINs.
//!
//! Every use has a key of its own (HKDF-SHA-256, RFC 5869), so that what one gives away helps with no other.

use std::path::{Path, PathBuf};

use atm_rpc::process::{SecretFile, SecretFileError};
use atm_types::{AttemptId, IdSource};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::domain::{AtmId, CardId, CardNumber, NumberKey, Pin, Tag};
use crate::storage::{Meta, StorageError, Store};

/// Why the service does not start with this pepper. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// It is gone, and with it the way to verify any PIN.
    #[error(
        "the pepper file {} is missing although cards exist: put it back from where it is kept; without it no PIN can be verified",
        .path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is another one than the cards were issued with.
    #[error(
        "the pepper in {} is not the one that this database was made with: put the right one back; with this one every PIN would be wrong",
        .path.display()
    )]
    Wrong {
        /// Where it is.
        path: PathBuf,
    },
    /// It is not 64 hexadecimal digits.
    #[error("the pepper file {} does not hold 64 hexadecimal digits", .path.display())]
    Malformed {
        /// Where it is.
        path: PathBuf,
    },
    /// It cannot be read, or others can read it.
    #[error("the pepper file cannot be used")]
    File(#[source] SecretFileError),
    /// The database did not say whether it is the right one.
    #[error("the database cannot be read")]
    Storage(#[from] StorageError),
}

/// The pepper itself. It has no `Debug`.
pub struct Pepper {
    secret: Zeroizing<[u8; 32]>,
}

impl Pepper {
    /// Reads the pepper and makes sure that the database knows it. Where there are no cards yet, a missing one
    /// is made.
    ///
    /// # Errors
    /// [`PepperError`]: the service must not start.
    pub async fn open(path: &Path, store: &Store, ids: &dyn IdSource) -> Result<Self, PepperError> {
        let owned = || path.to_path_buf();
        let (canary, cards) =
            store.transaction(|rows| Ok((rows.meta(Meta::PepperCanary)?, rows.has_cards()?))).await?;
        let (file, made) = match SecretFile::load(path) {
            Ok(file) => (file, false),
            Err(SecretFileError::Missing { .. }) if cards => {
                return Err(PepperError::Missing { path: owned() });
            }
            Err(SecretFileError::Missing { .. }) => {
                (SecretFile::create_or_load(path, ids).map_err(PepperError::File)?, true)
            }
            Err(error) => return Err(PepperError::File(error)),
        };
        let secret = file.key().ok_or_else(|| PepperError::Malformed { path: owned() })?;
        let pepper = Self { secret };
        let expected = pepper.canary();
        match canary {
            Some(canary) if bool::from(canary.ct_eq(&expected)) => {}
            // A new pepper for a database without cards: what little the old one has left there is forgotten.
            Some(_) if made => pepper.adopt(store).await?,
            None if !cards => pepper.adopt(store).await?,
            Some(_) | None => return Err(PepperError::Wrong { path: owned() }),
        }
        Ok(pepper)
    }

    /// A pepper of these bytes, which no file and no database knows: for tests.
    #[cfg(test)]
    pub(crate) fn from_secret(secret: [u8; 32]) -> Self {
        Self { secret: Zeroizing::new(secret) }
    }

    /// A pepper that is in no file, for simulations. The database must not know another one.
    ///
    /// # Errors
    /// [`PepperError::Wrong`], [`PepperError::Storage`].
    pub async fn known(secret: [u8; 32], store: &Store) -> Result<Self, PepperError> {
        let pepper = Self { secret: Zeroizing::new(secret) };
        match store.transaction(|rows| rows.meta(Meta::PepperCanary)).await? {
            Some(canary) if bool::from(canary.ct_eq(&pepper.canary())) => {}
            Some(_) => return Err(PepperError::Wrong { path: PathBuf::new() }),
            None => pepper.adopt(store).await?,
        }
        Ok(pepper)
    }

    async fn adopt(&self, store: &Store) -> Result<(), StorageError> {
        let canary = self.canary();
        store
            .transaction(move |rows| {
                rows.forget_numbers()?;
                rows.put_meta(Meta::PepperCanary, &canary)
            })
            .await
    }

    /// What only this pepper makes of a fixed text.
    fn canary(&self) -> [u8; 32] {
        mac(&self.derive(b"atm-auth canary"), &[b"is this the right pepper?"])
    }

    /// The key of one use.
    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "32 bytes are far below the limit of 255 hashes")]
        Hkdf::<Sha256>::new(None, &*self.secret).expand(purpose, &mut *key).expect("the length is allowed");
        key
    }

    /// The secret that goes into argon2.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The keys that the service works with.
    pub fn keys(&self) -> Keys {
        Keys { numbers: self.derive(b"atm-auth card numbers"), attempts: self.derive(b"atm-auth attempts") }
    }
}

/// Keys derived from the pepper. They have no `Debug`.
pub struct Keys {
    numbers: Zeroizing<[u8; 32]>,
    attempts: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// What stands for a card number in storage.
    pub fn number_key(&self, number: &CardNumber) -> NumberKey {
        NumberKey::from_bytes(mac(&self.numbers, &[b"number", number.digits()]))
    }

    /// What stands for a card id that no card has, so that it is counted like a number that no card has.
    pub fn unknown_id_key(&self, id: CardId) -> NumberKey {
        NumberKey::from_bytes(mac(&self.numbers, &[b"id", id.as_bytes()]))
    }

    /// The tag of an attempt to log in.
    pub fn log_in_tag(&self, key: &NumberKey, atm_id: &AtmId, attempt_id: AttemptId, pin: &Pin) -> Tag {
        let (key, atm_id, attempt_id) = (key.as_bytes(), atm_id.as_str().as_bytes(), attempt_id.as_bytes());
        Tag::from_bytes(mac(&self.attempts, &[b"log in", key, atm_id, attempt_id, pin.digits()]))
    }

    /// The tag of an attempt to change the PIN.
    pub fn change_tag(
        &self,
        key: &NumberKey,
        atm_id: &AtmId,
        attempt_id: AttemptId,
        (old, new): (&Pin, &Pin),
    ) -> Tag {
        let (key, atm_id, attempt_id) = (key.as_bytes(), atm_id.as_str().as_bytes(), attempt_id.as_bytes());
        let fields = [b"change", key.as_slice(), atm_id, attempt_id, old.digits(), new.digits()];
        Tag::from_bytes(mac(&self.attempts, &fields))
    }
}

/// HMAC-SHA-256 over the fields, each behind its length, so that no two lists of fields look the same.
fn mac(key: &[u8; 32], fields: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    for field in fields {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use atm_types::{SeededIds, SystemIds};
    use tempfile::tempdir;

    use super::*;
    use crate::domain::{CardToIssue, Issued, LastFour, issue};
    use crate::storage::MemoryStore;

    fn pepper(byte: u8) -> Pepper {
        Pepper::from_secret([byte; 32])
    }

    fn pin(text: &str) -> Pin {
        Pin::parse(text.to_owned()).unwrap()
    }

    async fn issue_a_card(store: &Store) {
        let card = CardToIssue {
            number_key: NumberKey::from_bytes([1; 32]),
            card_id: CardId::from_bytes([1; 16]),
            account_id: atm_types::AccountId::from_bytes([1; 16]),
            last_four: LastFour::from_digits(*b"1111"),
            pin: None,
        };
        let Issued::New(card) = issue(None, card) else { panic!("not new") };
        store.transaction(move |rows| rows.put_card(&card)).await.unwrap();
    }

    #[test]
    fn each_use_and_each_pepper_has_keys_of_its_own() {
        let keys = pepper(1).keys();
        assert_ne!(*keys.numbers, *keys.attempts);
        assert_ne!(*keys.numbers, *pepper(2).keys().numbers);
        assert_ne!(*keys.numbers, *pepper(1).secret());
    }

    #[test]
    fn a_tag_covers_card_machine_attempt_and_pin_and_says_what_was_asked() {
        let keys = pepper(1).keys();
        let (card, atm, id) =
            (NumberKey::from_bytes([1; 32]), "ATM-1".parse().unwrap(), AttemptId::from_bytes([1; 16]));
        let tag = keys.log_in_tag(&card, &atm, id, &pin("1234"));
        assert!(tag == keys.log_in_tag(&card, &atm, id, &pin("1234")));
        assert!(tag != keys.log_in_tag(&card, &atm, id, &pin("1235")));
        assert!(tag != keys.log_in_tag(&card, &atm, AttemptId::from_bytes([2; 16]), &pin("1234")));
        assert!(tag != keys.log_in_tag(&card, &"ATM-2".parse().unwrap(), id, &pin("1234")));
        assert!(tag != keys.log_in_tag(&NumberKey::from_bytes([2; 32]), &atm, id, &pin("1234")));
        assert!(tag != pepper(2).keys().log_in_tag(&card, &atm, id, &pin("1234")));
        let change = |old, new| keys.change_tag(&card, &atm, id, (&pin(old), &pin(new)));
        assert!(change("1234", "56789") != change("12345", "6789"));
        assert!(change("1234", "5678") != tag);
    }

    #[tokio::test]
    async fn row_13_a_pepper_is_made_only_where_there_are_no_cards_and_then_must_stay() {
        let home = tempdir().unwrap();
        let path = home.path().join("secrets/pepper");
        let store = Store::inline(MemoryStore::new());
        let first = *Pepper::open(&path, &store, &SystemIds).await.unwrap_or_else(|e| panic!("{e}")).secret;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = *Pepper::open(&path, &store, &SystemIds).await.unwrap_or_else(|e| panic!("{e}")).secret;
        assert_eq!(first, again);

        // Lost before the first card: nothing is lost.
        std::fs::remove_file(&path).unwrap();
        assert!(Pepper::open(&path, &store, &SystemIds).await.is_ok());
        issue_a_card(&store).await;
        assert!(Pepper::open(&path, &store, &SystemIds).await.is_ok());

        std::fs::rename(&path, home.path().join("elsewhere")).unwrap();
        let missing = Pepper::open(&path, &store, &SystemIds).await.err().unwrap();
        assert!(matches!(missing, PepperError::Missing { .. }), "{missing}");
        assert!(!path.exists(), "none was made in its place");
    }

    #[tokio::test]
    async fn row_13_a_wrong_malformed_or_readable_pepper_is_refused() {
        let home = tempdir().unwrap();
        let path = home.path().join("pepper");
        let store = Store::inline(MemoryStore::new());
        Pepper::open(&path, &store, &SeededIds::new(1)).await.map(drop).unwrap();
        issue_a_card(&store).await;

        let other = home.path().join("other");
        SecretFile::create_or_load(&other, &SeededIds::new(2)).unwrap();
        let wrong = Pepper::open(&other, &store, &SystemIds).await.err().unwrap();
        assert!(matches!(wrong, PepperError::Wrong { .. }), "{wrong}");

        std::fs::write(&other, "not hexadecimal").unwrap();
        let malformed = Pepper::open(&other, &store, &SystemIds).await.err().unwrap();
        assert!(matches!(malformed, PepperError::Malformed { .. }), "{malformed}");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = Pepper::open(&path, &store, &SystemIds).await.err().unwrap();
        assert!(matches!(open, PepperError::File(SecretFileError::OpenToOthers { .. })), "{open}");
    }

    #[tokio::test]
    async fn a_pepper_made_by_somebody_else_before_the_first_start_is_taken() {
        let home = tempdir().unwrap();
        let path = home.path().join("pepper");
        let made = SecretFile::create_or_load(&path, &SystemIds).unwrap();
        let store = Store::inline(MemoryStore::new());
        let pepper = Pepper::open(&path, &store, &SystemIds).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(made.key().as_deref(), Some(pepper.secret()));
    }
}
