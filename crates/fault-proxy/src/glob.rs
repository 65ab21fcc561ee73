//! Patterns for the paths of methods.

use serde::Deserialize;

/// A pattern in which `*` stands for any letters, none included; `/atm.ledger.v1.LedgerService/*`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// The pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the whole path fits.
    pub fn matches(&self, path: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = path.strip_prefix(first) else { return false };
        let mut pieces: Vec<&str> = pieces.collect();
        let Some(last) = pieces.pop() else { return rest.is_empty() };
        // The earliest place for each piece leaves the most room for those after it.
        for piece in pieces {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }
}

impl Default for Glob {
    fn default() -> Self {
        Self::new("*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_everything_else_for_itself() {
        for (pattern, path, fits) in [
            ("*", "/a.B/C", true),
            ("/a.B/C", "/a.B/C", true),
            ("/a.B/C", "/a.B/CC", false),
            ("/a.B/C", "/a.B/", false),
            ("/a.B/*", "/a.B/C", true),
            ("/a.B/*", "/a.Bb/C", false),
            ("*/C", "/a.B/C", true),
            ("*/C", "/a.B/CD", false),
            ("/a.*/C*", "/a.B/Cancel", true),
            ("/a.*/C*e", "/a.B/Cancel", false),
            ("/*a*a", "/a", false),
            ("/*a*a", "/aa", true),
            ("", "", true),
            ("", "/", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(path), fits, "{pattern} on {path}");
        }
    }
}
