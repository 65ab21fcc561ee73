//! Bearer tokens between services and for operators: read from a secret file, compared in constant time,
//! never printed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use zeroize::Zeroizing;

use crate::process::{SecretFile, SecretFileError};

const AUTHORIZATION: &str = "authorization";
const SCHEME: &[u8] = b"Bearer ";

/// A shared secret that is sent as `authorization: Bearer <token>`. Clones share it.
#[derive(Clone)]
pub struct BearerToken {
    token: Arc<Zeroizing<String>>,
    /// The whole header value, made once.
    header: MetadataValue<Ascii>,
}

impl BearerToken {
    /// Reads the token from a file that only its owner can read.
    ///
    /// # Errors
    /// [`SecretFileError`] when the file cannot be read, is open to others, or holds no token.
    pub fn load(path: &Path) -> Result<Self, SecretFileError> {
        Self::from_secret(&SecretFile::load(path)?)
    }

    /// Takes the text of a secret file for a token.
    ///
    /// # Errors
    /// [`SecretFileError::NotASecret`] for anything but visible ASCII, which a header could not carry.
    pub fn from_secret(secret: &SecretFile) -> Result<Self, SecretFileError> {
        Self::new(secret.text())
            .ok_or_else(|| SecretFileError::NotASecret { path: secret.path().to_path_buf() })
    }

    /// A token from its text: visible ASCII without spaces, at least one character.
    pub fn new(token: &str) -> Option<Self> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut header = MetadataValue::try_from(Zeroizing::new(format!("Bearer {token}")).as_str()).ok()?;
        header.set_sensitive(true);
        Some(Self { token: Arc::new(Zeroizing::new(token.to_owned())), header })
    }

    /// Whether a call carries this token, and no second one. The time it takes tells nothing about the token
    /// but its length.
    pub fn matches(&self, metadata: &MetadataMap) -> bool {
        let mut values = metadata.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        match value.as_bytes().split_at_checked(SCHEME.len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => {
                token.ct_eq(self.token.as_bytes()).into()
            }
            Some(_) | None => false,
        }
    }

    /// Adds the token to a call.
    pub fn attach<T>(&self, request: &mut Request<T>) {
        request.metadata_mut().insert(AUTHORIZATION, self.header.clone());
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken(…)")
    }
}

/// Server interceptor: answers UNAUTHENTICATED to whoever does not carry the token.
/// Use it with `XServer::with_interceptor`.
#[derive(Clone, Debug)]
pub struct RequireToken(BearerToken);

impl RequireToken {
    /// Requires `token`.
    pub fn new(token: BearerToken) -> Self {
        Self(token)
    }
}

impl Interceptor for RequireToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.0.matches(request.metadata()) {
            Ok(request)
        } else {
            Err(Status::unauthenticated("a valid bearer token is required"))
        }
    }
}

/// Client interceptor: adds the token to every call. Use it with `XClient::with_interceptor`.
#[derive(Clone, Debug)]
pub struct AttachToken(BearerToken);

impl AttachToken {
    /// Attaches `token`.
    pub fn new(token: BearerToken) -> Self {
        Self(token)
    }
}

impl Interceptor for AttachToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.0.attach(&mut request);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn token() -> BearerToken {
        BearerToken::new("canary-0123456789").unwrap()
    }

    fn call_with(values: &[&'static str]) -> Result<(), Code> {
        let mut request = Request::new(());
        for value in values {
            request.metadata_mut().append(AUTHORIZATION, MetadataValue::from_static(value));
        }
        RequireToken::new(token()).call(request).map(drop).map_err(|status| status.code())
    }

    #[test]
    fn what_the_client_attaches_the_server_accepts() {
        let request = AttachToken::new(token()).call(Request::new(())).unwrap();
        assert!(RequireToken::new(token()).call(request).is_ok());
        assert_eq!(call_with(&["bearer canary-0123456789"]), Ok(()), "schemes have no case (RFC 9110 §11.1)");
    }

    #[test]
    fn anything_else_is_unauthenticated() {
        for values in [
            &[][..],
            &[""],
            &["Bearer "],
            &["Bearer"],
            &["canary-0123456789"],
            &["Basic canary-0123456789"],
            &["Bearer canary-012345678"],
            &["Bearer canary-0123456789 "],
            &["Bearer CANARY-0123456789"],
            &["Bearer canary-0123456789", "Bearer other"],
        ] {
            assert_eq!(call_with(values), Err(Code::Unauthenticated), "{values:?}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let mut request = Request::new(());
        token().attach(&mut request);
        let text = format!("{:?} {:?} {:?}", token(), RequireToken::new(token()), request.metadata());
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        for text in ["", "with space", "new\nline", "পাসওয়ার্ড"] {
            assert!(BearerToken::new(text).is_none(), "{text:?}");
        }
    }
}
