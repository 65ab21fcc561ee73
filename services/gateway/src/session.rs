//! Session tokens: PASETO v4.public, verified here without a call, on our clock.
//!
//! The library's own claim validation reads the system clock, so only its byte interface is used: it checks
//! the signature, and this module reads the claims. Footer and implicit assertion are empty.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atm_types::{AccountId, AttemptId, TerminalId, Timestamp};
use pasetors::Public;
use pasetors::keys::AsymmetricPublicKey;
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::terminal::AtmId;

/// No session lives longer than this; a token that claims more is refused. Revocations need not be kept for
/// longer.
pub const LONGEST_SESSION: Duration = Duration::from_secs(60 * 60);

/// A token that is longer than this is none of ours.
const LONGEST_TOKEN: usize = 2_048;

/// So many verified tokens are remembered, some 4 MiB; then all are forgotten and verified anew.
const REMEMBERED: usize = 16_384;

/// What a good session token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The session's own id.
    pub session_id: Uuid,
    /// Stands for the card.
    pub card_id: Uuid,
    /// The account behind the card.
    pub account_id: AccountId,
    /// The machine that the session works at.
    pub atm_id: AtmId,
    /// The terminal that the session works at.
    pub terminal_id: TerminalId,
    /// When it was opened.
    pub issue_time: Timestamp,
    /// When it ends by itself.
    pub expire_time: Timestamp,
}

/// Why a token is no session. Callers are never told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not a v4.public token, or signed by nobody we know.
    NotSigned,
    /// Signed, but it does not say what a session must say.
    NotASession,
    /// Its time is over.
    Expired,
}

/// The claims, as auth writes them.
#[derive(Deserialize)]
struct Claims<'a> {
    sid: &'a str,
    cid: &'a str,
    aid: &'a str,
    atm: &'a str,
    tid: &'a str,
    iat: i64,
    exp: i64,
}

/// The public keys of auth, replaced whenever the gateway connects to it, and the tokens that they verified.
///
/// Verifying an Ed25519 signature costs more than all the rest of a call, so a token is verified once; its
/// time is looked at on every call.
#[derive(Debug, Default)]
pub struct SessionKeys {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<[AsymmetricPublicKey<V4>]>,
    /// By the SHA-256 of the token, so that no token lies about in memory.
    verified: HashMap<[u8; 32], Session>,
}

impl SessionKeys {
    /// Takes these keys of 32 bytes in place of the known ones; what is no key is left out. Says how many
    /// there are.
    pub fn replace<B: AsRef<[u8]>>(&self, public_keys: &[B]) -> usize {
        let keys: Arc<[_]> =
            public_keys.iter().filter_map(|key| AsymmetricPublicKey::from(key.as_ref()).ok()).collect();
        let count = keys.len();
        *self.lock() = State { keys, verified: HashMap::new() };
        count
    }

    /// Reads a token that one of the keys signed and whose time is not over.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Session, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::NotSigned);
        }
        let fingerprint = Sha256::digest(token).into();
        let (keys, known) = {
            let state = self.lock();
            (Arc::clone(&state.keys), state.verified.get(&fingerprint).cloned())
        };
        let session = match known {
            Some(session) => session,
            None => {
                let session = check(token, &keys)?;
                self.remember(&keys, fingerprint, &session);
                session
            }
        };
        if now >= session.expire_time {
            return Err(TokenError::Expired);
        }
        Ok(session)
    }

    /// Remembers a token that was verified, unless the keys were replaced meanwhile.
    fn remember(&self, keys: &Arc<[AsymmetricPublicKey<V4>]>, fingerprint: [u8; 32], session: &Session) {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.keys, keys) {
            return;
        }
        if state.verified.len() >= REMEMBERED {
            state.verified.clear();
        }
        state.verified.insert(fingerprint, session.clone());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(token: &str, keys: &[AsymmetricPublicKey<V4>]) -> Result<Session, TokenError> {
    let untrusted = UntrustedToken::<Public, V4>::try_from(token).map_err(|_| TokenError::NotSigned)?;
    // The library takes "the footer must be empty" for "there must be one": so look first, then pass none.
    if !untrusted.untrusted_footer().is_empty() {
        return Err(TokenError::NotSigned);
    }
    let trusted = keys
        .iter()
        .find_map(|key| PublicToken::verify(key, &untrusted, None, None).ok())
        .ok_or(TokenError::NotSigned)?;
    read(trusted.payload()).ok_or(TokenError::NotASession)
}

fn read(payload: &str) -> Option<Session> {
    let claims: Claims<'_> = serde_json::from_str(payload).ok()?;
    // One spelling of each id, by the rule that all ids of the bank share.
    let uuid = |text: &str| text.parse::<AttemptId>().ok().map(|id| id.as_uuid());
    let session = Session {
        session_id: uuid(claims.sid)?,
        card_id: uuid(claims.cid)?,
        account_id: claims.aid.parse().ok()?,
        atm_id: claims.atm.parse().ok()?,
        terminal_id: claims.tid.parse().ok()?,
        issue_time: Timestamp::from_nanos(claims.iat),
        expire_time: Timestamp::from_nanos(claims.exp),
    };
    let lifetime = session.expire_time.saturating_since(session.issue_time);
    let plausible = !lifetime.is_zero() && lifetime <= LONGEST_SESSION;
    (plausible && session.terminal_id != TerminalId::SERVICE).then_some(session)
}

#[cfg(test)]
mod tests {
    use pasetors::keys::AsymmetricSecretKey;
    use proptest::prelude::*;

    use super::*;

    // RFC 8032 §7.1, test 1: a secret key with its public key.
    const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const PAYLOAD: &str = concat!(
        r#"{"sid":"018f4e9a-5b2c-7def-8123-456789abcde0","cid":"018f4e9a-5b2c-4def-8123-456789abcde1","#,
        r#""aid":"018f4e9a-5b2c-7def-8123-456789abcde2","atm":"ATM-1","#,
        r#""tid":"66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925","#,
        r#""iat":1700000000000000000,"exp":1700000300000000000}"#
    );
    const DURING: Timestamp = Timestamp::from_seconds(1_700_000_299);

    fn sign(payload: &str, footer: &[u8], assertion: &[u8]) -> String {
        let secret = hex::decode(format!("{SECRET}{PUBLIC}")).unwrap();
        let secret = AsymmetricSecretKey::<V4>::from(&secret).unwrap();
        PublicToken::sign(&secret, payload.as_bytes(), Some(footer), Some(assertion)).unwrap()
    }

    fn keys() -> SessionKeys {
        let keys = SessionKeys::default();
        assert_eq!(keys.replace(&[vec![0; 5], hex::decode(PUBLIC).unwrap()]), 1);
        keys
    }

    #[test]
    fn a_signed_session_is_read_until_the_nanosecond_it_ends() {
        let token = sign(PAYLOAD, b"", b"");
        let session = keys().verify(&token, DURING).unwrap();
        assert_eq!(session.atm_id.as_str(), "ATM-1");
        assert_eq!(session.account_id.to_string(), "018f4e9a-5b2c-7def-8123-456789abcde2");
        let end = Timestamp::from_seconds(1_700_000_300);
        assert_eq!(keys().verify(&token, end), Err(TokenError::Expired));
        assert!(keys().verify(&token, Timestamp::from_nanos(end.as_nanos() - 1)).is_ok());
    }

    #[test]
    fn a_token_is_verified_once_and_forgotten_with_the_key_that_signed_it() {
        let (keys, token) = (keys(), sign(PAYLOAD, b"", b""));
        let first = keys.verify(&token, DURING).unwrap();
        assert_eq!(keys.lock().verified.len(), 1);
        assert_eq!(keys.verify(&token, DURING), Ok(first.clone()));
        let end = first.expire_time;
        assert_eq!(keys.verify(&token, end), Err(TokenError::Expired), "remembered or not");
        // The public key of RFC 8032 §7.1, test 2.
        let other = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(keys.replace(&[hex::decode(other).unwrap()]), 1);
        assert_eq!(keys.verify(&token, DURING), Err(TokenError::NotSigned));
        assert!(keys.verify("v4.public.AAAA", DURING).is_err());
        assert_eq!(keys.lock().verified.len(), 0, "only good tokens are remembered");
    }

    #[test]
    fn a_token_that_was_verified_while_the_keys_changed_is_not_remembered() {
        let keys = keys();
        let old = Arc::clone(&keys.lock().keys);
        let session = keys.verify(&sign(PAYLOAD, b"", b""), DURING).unwrap();
        keys.replace::<Vec<u8>>(&[]);
        keys.remember(&old, [7; 32], &session);
        assert_eq!(keys.lock().verified.len(), 0);
    }

    #[test]
    fn a_token_is_good_only_with_an_empty_footer_and_assertion_and_our_signature() {
        let good = sign(PAYLOAD, b"", b"");
        let mut tampered = good.clone().into_bytes();
        tampered[40] ^= 1;
        for token in [
            String::from_utf8(tampered).unwrap(),
            sign(PAYLOAD, b"footer", b""),
            sign(PAYLOAD, b"", b"assertion"),
            good.replace("v4.public", "v2.public"),
            good.replace("v4.public", "v4.local"),
            format!("{good}.Zm9v"),
            good[..good.len() - 2].to_owned(),
            String::new(),
            "v4.public.".to_owned(),
            "x".repeat(10_000),
        ] {
            assert_eq!(keys().verify(&token, DURING), Err(TokenError::NotSigned), "{token}");
        }
        assert_eq!(SessionKeys::default().verify(&good, DURING), Err(TokenError::NotSigned));
    }

    #[test]
    fn what_is_signed_but_not_a_session_is_refused() {
        for (from, to) in [
            ("\"sid\"", "\"xid\""),
            ("018f4e9a-5b2c-7def-8123-456789abcde2", "018F4E9A-5B2C-7DEF-8123-456789ABCDE2"),
            ("ATM-1", "ATM 1"),
            ("66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925", ""),
            ("1700000300000000000", "1700000300"),
            ("1700000300000000000", "\"2023-11-14T22:18:20Z\""),
            ("1700000000000000000", "1600000000000000000"),
            ("1700000000000000000", "1700000300000000000"),
        ] {
            let token = sign(&PAYLOAD.replace(from, to), b"", b"");
            assert_eq!(keys().verify(&token, DURING), Err(TokenError::NotASession), "{from} → {to}");
        }
        assert_eq!(keys().verify(&sign("[]", b"", b""), DURING), Err(TokenError::NotASession));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_verifier_panic_or_accept(text in "(v4\\.public\\.)?[A-Za-z0-9_.=-]{0,300}") {
            prop_assert!(keys().verify(&text, DURING).is_err());
        }

        #[test]
        fn no_signed_payload_makes_the_reader_panic(payload in "\\PC{1,200}") {
            prop_assert!(keys().verify(&sign(&payload, b"", b""), DURING).is_err());
        }
    }
}
