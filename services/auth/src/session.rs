//! Session tokens: signed here, verified by gateways with the public key alone.
//!
//! A token is a PASETO of version 4, purpose public (Ed25519), with an empty footer and an empty implicit
//! assertion. Its payload is this JSON object, with exactly these keys in this order:
//!
//! ```json
//! {"sid":"…","cid":"…","aid":"…","atm":"…","tid":"…","iat":0,"exp":0}
//! ```
//!
//! - `sid` session id, `cid` card id, `aid` ledger account id: lowercase hyphenated UUIDs
//! - `atm` the machine's name: 1 to 32 characters of `A-Z a-z 0-9 . _ -`
//! - `tid` the terminal's id: 64 lowercase hexadecimal digits
//! - `iat` when it was issued, `exp` when it ends: integer nanoseconds since the Unix epoch
//!
//! Ed25519 is deterministic, so the same session always gives the same token, byte for byte: that is how a
//! repeated log-in gets the answer of the first. The library's own claim validation reads the system clock and
//! is not used; whoever verifies compares `exp` with a clock of its own.

use ed25519_compact::{KeyPair, Seed};
use pasetors::keys::AsymmetricSecretKey;
use pasetors::version4::{PublicToken, V4};
use zeroize::Zeroizing;

use crate::domain::Session;

/// A token could not be signed; the library says no more.
#[derive(Debug, thiserror::Error)]
#[error("a session token could not be signed")]
pub struct SignError;

/// The key pair that signs sessions. It has no `Debug`.
pub struct SessionKey {
    secret: AsymmetricSecretKey<V4>,
    public: [u8; 32],
}

impl SessionKey {
    /// The key pair that belongs to these thirty-two secret bytes.
    ///
    /// # Errors
    /// [`SignError`] for the all-zero seed, which is nobody's key.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SignError> {
        let pair = KeyPair::try_from_seed(Seed::new(*seed)).map_err(|_| SignError)?;
        let bytes = Zeroizing::new(*pair.sk);
        let secret = AsymmetricSecretKey::from(&*bytes).map_err(|_| SignError)?;
        Ok(Self { secret, public: *pair.pk })
    }

    /// The public key, for those who verify.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The token of a session.
    ///
    /// # Errors
    /// [`SignError`], which would be a fault of the program.
    pub fn sign(&self, session: &Session) -> Result<String, SignError> {
        // Nothing here needs escaping: all of it is UUIDs, digits and the plain characters of an `AtmId`.
        let payload = format!(
            r#"{{"sid":"{}","cid":"{}","aid":"{}","atm":"{}","tid":"{}","iat":{},"exp":{}}}"#,
            session.session_id,
            session.card_id,
            session.account_id,
            session.atm_id,
            session.terminal_id,
            session.issue_time.as_nanos(),
            session.expire_time.as_nanos(),
        );
        PublicToken::sign(&self.secret, payload.as_bytes(), None, None).map_err(|_| SignError)
    }
}

#[cfg(test)]
mod tests {
    use atm_types::{AccountId, TerminalId, Timestamp};
    use pasetors::Public;
    use pasetors::keys::AsymmetricPublicKey;
    use pasetors::token::UntrustedToken;

    use super::*;
    use crate::domain::{CardId, SessionId};

    fn session() -> Session {
        Session {
            session_id: SessionId::from_bytes([1; 16]),
            card_id: CardId::from_bytes([2; 16]),
            account_id: AccountId::from_bytes([3; 16]),
            atm_id: "ATM-1".parse().unwrap(),
            terminal_id: TerminalId::from_bytes([4; 32]),
            issue_time: Timestamp::from_nanos(5),
            expire_time: Timestamp::from_nanos(i64::MAX),
        }
    }

    fn payload(key: &SessionKey, token: &str) -> Option<String> {
        let public = AsymmetricPublicKey::<V4>::from(key.public()).unwrap();
        let untrusted = UntrustedToken::<Public, V4>::try_from(token).ok()?;
        let trusted = PublicToken::verify(&public, &untrusted, None, None).ok()?;
        Some(trusted.payload().to_owned())
    }

    #[test]
    fn a_token_says_what_the_session_says_to_whoever_has_the_public_key() {
        let key = SessionKey::from_seed(&[9; 32]).unwrap();
        let token = key.sign(&session()).unwrap();
        assert!(token.starts_with("v4.public."));
        let expected = format!(
            "{{\"sid\":\"01010101-0101-0101-0101-010101010101\",\"cid\":\"02020202-0202-0202-0202-020202020202\",\
             \"aid\":\"03030303-0303-0303-0303-030303030303\",\"atm\":\"ATM-1\",\"tid\":\"{}\",\"iat\":5,\
             \"exp\":9223372036854775807}}",
            "04".repeat(32)
        );
        assert_eq!(payload(&key, &token), Some(expected));
    }

    #[test]
    fn the_same_session_has_the_same_token_and_another_key_does_not_verify_it() {
        let key = SessionKey::from_seed(&[9; 32]).unwrap();
        let token = key.sign(&session()).unwrap();
        assert_eq!(token, SessionKey::from_seed(&[9; 32]).unwrap().sign(&session()).unwrap());
        assert_eq!(payload(&SessionKey::from_seed(&[8; 32]).unwrap(), &token), None);
        assert!(SessionKey::from_seed(&[0; 32]).is_err());
    }

    #[test]
    fn the_key_is_that_of_rfc_8032_test_1() {
        let mut seed = [0; 32];
        hex::decode_to_slice("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", &mut seed)
            .unwrap();
        let key = SessionKey::from_seed(&seed).unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(key.public()), public);
    }
}
