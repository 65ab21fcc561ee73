//! The auth service: cards, PINs, lockout and sessions.
