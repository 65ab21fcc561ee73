//! Where a PIN comes from: a prompt without echo, a file, or `ATM_PIN`; a new one from `ATM_NEW_PIN`. Never the command
//! line, which everybody on the machine can read, and never anywhere else: it is wiped when it is dropped and has no
//! `Debug`.

use std::io::IsTerminal;
use std::path::Path;

use zeroize::Zeroizing;

use crate::exit::Failure;

/// The environment variable that may hold a PIN.
const VARIABLE: &str = "ATM_PIN";
/// The one that may hold the PIN to be set.
const NEW_VARIABLE: &str = "ATM_NEW_PIN";
/// Far more than any PIN, and little enough to be read at once.
const LONGEST_FILE: usize = 256;

/// Four to twelve digits.
pub(crate) struct Pin(Zeroizing<String>);

impl Pin {
    /// Checks the shape, so that no server needs to see what cannot be a PIN.
    pub(crate) fn new(text: Zeroizing<String>) -> Result<Self, Failure> {
        if is_pin(&text) { Ok(Self(text)) } else { Err(Failure::invalid("a PIN has 4 to 12 digits")) }
    }

    pub(crate) fn digits(&self) -> &str {
        &self.0
    }

    /// From the file if one is given, else from `ATM_PIN`, else from a prompt on the terminal.
    pub(crate) fn obtain(file: Option<&Path>, prompt: &str) -> Result<Self, Failure> {
        Self::new(match given(file, VARIABLE)? {
            Some(text) => text,
            None => ask(inquire::Password::new(prompt).without_confirmation(), "--pin-file", VARIABLE)?,
        })
    }

    /// The PIN to be set, in the same way; on a terminal it is typed twice.
    pub(crate) fn obtain_new(file: Option<&Path>) -> Result<Self, Failure> {
        Self::new(match given(file, NEW_VARIABLE)? {
            Some(text) => text,
            None => {
                let prompt = inquire::Password::new("New PIN:")
                    .with_custom_confirmation_message("New PIN again:")
                    .with_custom_confirmation_error_message("These are two PINs.");
                ask(prompt, "--new-pin-file", NEW_VARIABLE)?
            }
        })
    }
}

/// What stands in the file, or else in the environment.
fn given(file: Option<&Path>, variable: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    match (file, std::env::var(variable)) {
        (Some(path), _) => read(path).map(Some),
        (None, Ok(value)) if !value.is_empty() => Ok(Some(Zeroizing::new(value))),
        (None, Err(std::env::VarError::NotUnicode(_))) => {
            Err(Failure::invalid(format!("{variable} holds no PIN: a PIN has 4 to 12 digits")))
        }
        (None, Ok(_) | Err(std::env::VarError::NotPresent)) => Ok(None),
    }
}

/// Whether a text is four to twelve ASCII digits.
pub(crate) fn is_pin(text: &str) -> bool {
    (4..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    use std::io::Read;
    let unreadable = |error: std::io::Error| {
        Failure::invalid(format!("the PIN file {} cannot be read: {}", path.display(), error.kind()))
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Its whole size at once, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_FILE));
    file.take(LONGEST_FILE as u64).read_to_string(&mut text).map_err(unreadable)?;
    Ok(Zeroizing::new(text.trim_ascii().to_owned()))
}

fn ask(prompt: inquire::Password<'_>, flag: &str, variable: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::invalid(format!(
            "no PIN: give {flag} FILE or set {variable} where there is no terminal to ask on",
        )));
    }
    prompt
        .with_display_mode(inquire::PasswordDisplayMode::Hidden)
        .prompt()
        .map(Zeroizing::new)
        .map_err(|_| Failure::invalid("no PIN was entered; nothing was sent"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn only_4_to_12_ascii_digits_are_a_pin() {
        for text in ["1234", "123456789012"] {
            assert!(is_pin(text), "{text}");
        }
        for text in ["", "123", "1234567890123", "12a4", "१२३४", "12 34", "-1234"] {
            assert!(!is_pin(text), "{text}");
        }
    }

    #[test]
    fn a_pin_file_may_end_in_a_line_break_and_says_what_is_wrong_without_saying_what_it_holds() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pin");
        std::fs::write(&path, "1234\r\n").unwrap();
        assert_eq!(Pin::obtain(Some(&path), "PIN").map(|pin| pin.digits().to_owned()).unwrap(), "1234");
        std::fs::write(&path, "98765canary").unwrap();
        let failure = Pin::obtain(Some(&path), "PIN").err().unwrap();
        assert_eq!(failure.exit, Exit::WrongUse);
        assert!(!failure.message.contains("98765"), "{}", failure.message);
        let missing = Pin::obtain(Some(&home.path().join("none")), "PIN").err().unwrap();
        assert!(missing.message.contains("none"), "{}", missing.message);
    }
}
