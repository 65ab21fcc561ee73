//! The ledger's own signature over a hold.
//!
//! Every HELD answer carries it and the terminal journals it. If this ledger is later restored from a backup
//! that is older than the hold, the terminal's capture brings the signature back, and cash that has left
//! is posted although the books do not know why. So the key has to survive whatever the books survive:
//! `ledger.key` belongs into every backup of the data directory. The signature is deterministic, since it is
//! part of an answer whose bytes never change.

use std::path::Path;

use atm_ledger_core::{Authorization, Transfer};
use atm_rpc::process::{SecretFile, SecretFileError};
use atm_types::{AccountId, IdSource, TerminalId, TransactionId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The name of the key in the data directory.
pub const KEY_FILE: &str = "ledger.key";

/// The first byte of every authorization, and the first byte that is signed.
const VERSION: u8 = 1;
/// Version, debit, credit, amount, currency; id and terminal stand in the request already.
const HOLD_BYTES: usize = 1 + 16 + 16 + 8 + 3;
const MAC_BYTES: usize = 32;
/// The length of an authorization in bytes.
pub const AUTHORIZATION_BYTES: usize = HOLD_BYTES + MAC_BYTES;

/// Why the ledger's key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be made or read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file does not hold a key.
    #[error("{} does not hold 64 hexadecimal digits", .0.display())]
    NotAKey(std::path::PathBuf),
    /// There are books, but the key that their authorizations were signed with is gone.
    #[error("{} is missing although there are books: put it back from the backup", .0.display())]
    Missing(std::path::PathBuf),
}

/// Signs holds, and recognises what it signed.
#[derive(Clone)]
pub struct Authorizer {
    /// The state after the key, so that each signature starts from a copy.
    keyed: Hmac<Sha256>,
}

impl Authorizer {
    /// Loads the key from the data directory. If there is none it is made, but only for new books: another
    /// key would change the bytes of answers that were given before, and deny cash that has left.
    ///
    /// # Errors
    /// [`KeyError`] when the key cannot be used.
    pub fn open(data: &Path, books_are_new: bool, ids: &dyn IdSource) -> Result<Self, KeyError> {
        let path = data.join(KEY_FILE);
        let file = if books_are_new {
            SecretFile::create_or_load(&path, ids)?
        } else {
            match SecretFile::load(&path) {
                Err(SecretFileError::Missing { path }) => return Err(KeyError::Missing(path)),
                other => other?,
            }
        };
        let key = file.key().ok_or(KeyError::NotAKey(path))?;
        Ok(Self::new(&key))
    }

    /// Signs with this key.
    pub fn new(key: &[u8; 32]) -> Self {
        // A key shorter than a block is filled up with zeros (RFC 2104 §2).
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        Self { keyed: Hmac::new(&block.into()) }
    }

    /// The authorization of a hold: what was held, and the signature over it, its id and its terminal.
    pub fn sign(
        &self,
        id: TransactionId,
        terminal: TerminalId,
        transfer: &Transfer,
    ) -> [u8; AUTHORIZATION_BYTES] {
        let hold = encode(transfer);
        let mut bytes = [0; AUTHORIZATION_BYTES];
        bytes[..HOLD_BYTES].copy_from_slice(&hold);
        bytes[HOLD_BYTES..].copy_from_slice(&self.mac(id, terminal, &hold).finalize().into_bytes());
        bytes
    }

    /// Reads an authorization back, if this ledger signed it for this id and this terminal.
    pub fn verify(&self, id: TransactionId, terminal: TerminalId, bytes: &[u8]) -> Option<Authorization> {
        let bytes: &[u8; AUTHORIZATION_BYTES] = bytes.try_into().ok()?;
        let (hold, mac) = bytes.split_at(HOLD_BYTES);
        self.mac(id, terminal, hold).verify_slice(mac).ok()?;
        Some(Authorization { transfer: decode(hold)? })
    }

    /// Sixteen bytes by which the ledger recognises other things that it handed out, in a domain of their own.
    pub(crate) fn tag(&self, domain: &[u8], content: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.keyed.clone();
        mac.update(domain);
        content.iter().for_each(|part| mac.update(part));
        let mut tag = [0; 16];
        tag.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        tag
    }

    fn mac(&self, id: TransactionId, terminal: TerminalId, hold: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(b"atm.ledger.v1 hold authorization\0");
        mac.update(id.as_bytes());
        mac.update(terminal.as_bytes());
        mac.update(hold);
        mac
    }
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Authorizer(…)")
    }
}

/// Every field has a fixed place and length, so that two holds never have the same bytes.
fn encode(transfer: &Transfer) -> [u8; HOLD_BYTES] {
    let mut bytes = [0; HOLD_BYTES];
    bytes[0] = VERSION;
    bytes[1..17].copy_from_slice(transfer.debit.as_bytes());
    bytes[17..33].copy_from_slice(transfer.credit.as_bytes());
    bytes[33..41].copy_from_slice(&transfer.amount.to_be_bytes());
    // A currency's code is three letters by its type.
    for (byte, letter) in bytes[41..].iter_mut().zip(transfer.currency.code().bytes()) {
        *byte = letter;
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Transfer> {
    let (version, rest) = bytes.split_first()?;
    let (debit, rest) = rest.split_first_chunk()?;
    let (credit, rest) = rest.split_first_chunk()?;
    let (amount, currency) = rest.split_first_chunk()?;
    if *version != VERSION {
        return None;
    }
    Some(Transfer {
        debit: AccountId::from_bytes(*debit),
        credit: AccountId::from_bytes(*credit),
        amount: i64::from_be_bytes(*amount),
        currency: std::str::from_utf8(currency).ok()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use atm_types::{Currency, SeededIds};
    use proptest::prelude::*;

    use super::*;

    const ID: TransactionId = TransactionId::from_bytes([7; 16]);
    const TERMINAL: TerminalId = TerminalId::from_bytes([9; 32]);

    fn transfer() -> Transfer {
        Transfer {
            debit: AccountId::from_bytes([1; 16]),
            credit: AccountId::from_bytes([2; 16]),
            amount: 100_000,
            currency: Currency::BDT,
        }
    }

    #[test]
    fn what_was_signed_is_read_back_and_signed_alike_every_time() {
        let (one, same) = (Authorizer::new(&[5; 32]), Authorizer::new(&[5; 32]));
        let signed = one.sign(ID, TERMINAL, &transfer());
        assert_eq!(signed, same.sign(ID, TERMINAL, &transfer()));
        assert_eq!(same.verify(ID, TERMINAL, &signed), Some(Authorization { transfer: transfer() }));
    }

    #[test]
    fn no_bit_can_be_changed_and_nobody_elses_signature_counts() {
        let authorizer = Authorizer::new(&[5; 32]);
        let signed = authorizer.sign(ID, TERMINAL, &transfer());
        for bit in 0..signed.len() * 8 {
            let mut forged = signed;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(authorizer.verify(ID, TERMINAL, &forged), None, "bit {bit}");
        }
        let other_id = TransactionId::from_bytes([8; 16]);
        assert_eq!(authorizer.verify(other_id, TERMINAL, &signed), None);
        assert_eq!(authorizer.verify(ID, TerminalId::SERVICE, &signed), None);
        assert_eq!(Authorizer::new(&[6; 32]).verify(ID, TERMINAL, &signed), None);
    }

    proptest! {
        #[test]
        fn reading_a_strangers_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Authorizer::new(&[5; 32]).verify(ID, TERMINAL, &bytes), None);
        }

        #[test]
        fn every_transfer_survives_its_encoding(debit: [u8; 16], credit: [u8; 16], amount: i64) {
            let transfer = Transfer {
                debit: AccountId::from_bytes(debit),
                credit: AccountId::from_bytes(credit),
                amount,
                currency: "KWD".parse().unwrap(),
            };
            prop_assert_eq!(decode(&encode(&transfer)), Some(transfer));
        }
    }

    #[test]
    fn the_key_is_made_once_for_new_books_only_and_nobody_else_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let open = |new| Authorizer::open(directory.path(), new, &SeededIds::new(1));
        assert!(matches!(open(false), Err(KeyError::Missing(_))));
        let made = open(true).unwrap().sign(ID, TERMINAL, &transfer());
        let mode = std::fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(open(false).unwrap().sign(ID, TERMINAL, &transfer()), made);
        assert_eq!(format!("{:?}", open(true).unwrap()), "Authorizer(…)");
        std::fs::write(directory.path().join(KEY_FILE), "not a key").unwrap();
        assert!(matches!(open(false), Err(KeyError::NotAKey(_))));
    }
}
