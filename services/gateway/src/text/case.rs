//! Changes the case of text by the Unicode rules (Unicode Standard §3.13, without tailoring to a language).

/// So many times its UTF-8 length a text may grow in capitals: the two bytes of U+0390 become six.
pub const MAX_GROWTH: usize = 3;

/// The text in small letters. A capital sigma at the end of a word becomes ς.
pub fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// The text in capital letters; one letter may become several, as ß becomes SS.
pub fn upper(text: &str) -> String {
    text.to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_every_script_change_case_and_nothing_else_does() {
        assert_eq!(lower("HELLOW"), "hellow");
        assert_eq!(upper("hellow"), "HELLOW");
        assert_eq!(lower("ΌΣΟΣ ÀÉ ДЖ"), "όσος àé дж");
        assert_eq!(upper("straße ŉ ﬃ"), "STRASSE ʼN FFI");
        assert_eq!(lower("İ"), "i\u{307}");
        assert_eq!(lower("বাংলা 42\0\t"), "বাংলা 42\0\t");
        assert_eq!(upper(""), "");
    }

    #[test]
    fn no_character_grows_beyond_the_stated_factor() {
        for character in char::MIN..=char::MAX {
            let text = character.to_string();
            assert!(upper(&text).len() <= MAX_GROWTH * text.len(), "{character:?}");
            assert!(lower(&text).len() <= MAX_GROWTH * text.len(), "{character:?}");
        }
    }
}
