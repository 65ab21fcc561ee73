//! Cuts a stream of text into pieces that fit into one call, without changing what the whole becomes.
//!
//! A piece ends at a line break where there is one, so whole lines go out as soon as they are there. A line that
//! is longer than a piece is cut behind white space. That changes nothing: the casing of a letter depends on its
//! neighbours only within a word (in Unicode's default rules there is one such case, the Greek final sigma). A
//! single word longer than a piece is cut between two characters, away from any sigma as far as possible.

use std::io::{self, BufRead};

/// The most bytes in a piece. Casing can triple the length of a text, and the answer has to fit into 64 KiB.
pub(crate) const LONGEST_PIECE: usize = 16 * 1024;

/// Why the stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PieceError {
    #[error("the input cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("line {line} of the input is not UTF-8 text")]
    NotUtf8 { line: u64 },
}

/// Reads pieces from a stream, in bounded memory.
pub(crate) struct Pieces<R> {
    input: R,
    /// The most bytes in a piece.
    longest: usize,
    waiting: Vec<u8>,
    line: u64,
    ended: bool,
}

impl<R: BufRead> Pieces<R> {
    pub(crate) fn new(input: R) -> Self {
        Self::with_longest(input, LONGEST_PIECE)
    }

    fn with_longest(input: R, longest: usize) -> Self {
        Self { input, longest, waiting: Vec::new(), line: 1, ended: false }
    }

    /// The next piece, line breaks included; nothing at the end. It never waits for more input while it holds
    /// a whole line.
    pub(crate) fn next_piece(&mut self) -> Result<Option<String>, PieceError> {
        loop {
            if let Some(length) = self.ready() {
                return self.take(length).map(Some);
            }
            if self.ended {
                let length = self.waiting.len();
                return if length == 0 { Ok(None) } else { self.take(length).map(Some) };
            }
            let room = self.longest.saturating_sub(self.waiting.len());
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let length = available.len().min(room);
            self.waiting.extend_from_slice(&available[..length]);
            self.input.consume(length);
            self.ended = length == 0;
        }
    }

    /// How much of what is waiting may go out now.
    fn ready(&self) -> Option<usize> {
        if let Some(newline) = self.waiting.iter().rposition(|&byte| byte == b'\n') {
            return Some(newline + 1);
        }
        (self.waiting.len() >= self.longest).then(|| cut(&self.waiting))
    }

    fn take(&mut self, length: usize) -> Result<String, PieceError> {
        let text = match std::str::from_utf8(&self.waiting[..length]) {
            Ok(text) => text.to_owned(),
            // Whole lines before what is no text are as good as any.
            Err(error) => match self.waiting[..error.valid_up_to()].iter().rposition(|&byte| byte == b'\n') {
                Some(newline) => return self.take(newline + 1),
                None => return Err(PieceError::NotUtf8 { line: self.line }),
            },
        };
        self.waiting.drain(..length);
        self.line += text.bytes().filter(|&byte| byte == b'\n').count() as u64;
        Ok(text)
    }
}

/// Where to cut a text without line breaks that fills a whole piece: behind its last white space, else away from
/// sigmas, else anywhere between two characters. A character cut off at the end stays for the next piece.
fn cut(bytes: &[u8]) -> usize {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // Cut in the middle of a character, or no text at all; then the whole is refused.
        Err(error) => match std::str::from_utf8(&bytes[..error.valid_up_to()]) {
            Ok(text) if error.error_len().is_none() && !text.is_empty() => text,
            Ok(_) | Err(_) => return bytes.len(),
        },
    };
    let behind_space = valid.char_indices().rev().find(|(_, letter)| letter.is_whitespace());
    if let Some((index, space)) = behind_space {
        return index + space.len_utf8();
    }
    let sigma = |letter: Option<char>| matches!(letter, Some('Σ' | 'σ' | 'ς'));
    let away = valid.char_indices().rev().map(|(index, _)| index).find(|&index| {
        index > 0 && !sigma(valid[index..].chars().next()) && !sigma(valid[..index].chars().next_back())
    });
    away.unwrap_or(valid.len())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    /// Gives out its bytes in small portions, as a pipe does.
    struct Trickle<'a> {
        bytes: &'a [u8],
        portion: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.portion.min(self.bytes.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.bytes[..length]);
            self.bytes = &self.bytes[length..];
            Ok(length)
        }
    }

    fn pieces(bytes: &[u8], portion: usize) -> Result<Vec<String>, PieceError> {
        pieces_of(LONGEST_PIECE, bytes, portion)
    }

    fn pieces_of(longest: usize, bytes: &[u8], portion: usize) -> Result<Vec<String>, PieceError> {
        let mut pieces = Pieces::with_longest(io::BufReader::new(Trickle { bytes, portion }), longest);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next_piece()? {
            all.push(piece);
        }
        Ok(all)
    }

    #[test]
    fn a_whole_line_goes_out_before_more_input_is_waited_for() {
        struct Blocks(bool);
        impl Read for Blocks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                assert!(!std::mem::replace(&mut self.0, true), "must not ask again");
                buffer[..6].copy_from_slice(b"one\ntw");
                Ok(6)
            }
        }
        let mut pieces = Pieces::new(io::BufReader::new(Blocks(false)));
        assert_eq!(pieces.next_piece().unwrap().as_deref(), Some("one\n"));
    }

    #[test]
    fn a_line_longer_than_a_piece_is_cut_behind_white_space_and_nothing_is_lost() {
        let line = "ΟΔΥΣΣΕΥΣ ".repeat(10_000);
        let all = pieces(line.as_bytes(), 1 << 20).unwrap();
        assert!(all.len() > 5);
        assert!(all.iter().all(|piece| piece.len() <= LONGEST_PIECE && piece.ends_with(' ')));
        let lowered: String = all.iter().map(|piece| piece.to_lowercase()).collect();
        assert_eq!(lowered, line.to_lowercase(), "final sigmas included");
    }

    #[test]
    fn a_word_longer_than_a_piece_is_cut_away_from_sigmas() {
        let word = "ΑΣ".repeat(9000);
        let all = pieces(format!("{word}Α").as_bytes(), 1 << 20).unwrap();
        assert!(all.len() > 1 && all.iter().all(|piece| piece.len() <= LONGEST_PIECE));
        assert_eq!(all.concat(), format!("{word}Α"));
        let plain = "Ä".repeat(20_000);
        let lowered: String =
            pieces(plain.as_bytes(), 999).unwrap().iter().map(|p| p.to_lowercase()).collect();
        assert_eq!(lowered, plain.to_lowercase());
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_line() {
        let error = pieces(b"good\ngood\nb\xffd\n", 1000).unwrap_err();
        assert!(matches!(error, PieceError::NotUtf8 { line: 3 }), "{error}");
        let endless = vec![0xff; 100_000];
        assert!(matches!(pieces(&endless, 1000), Err(PieceError::NotUtf8 { line: 1 })));
        assert!(matches!(
            pieces("half a character: \u{e9}".as_bytes().split_last().unwrap().1, 7),
            Err(PieceError::NotUtf8 { line: 1 })
        ));
    }

    proptest! {
        /// Goal: cutting never changes the result, whatever the text and however it trickles in.
        #[test]
        fn the_pieces_together_are_the_text_and_convert_as_it_does(
            words in prop::collection::vec("[ΣΑA-Zß\\u{130}é.'0-9]{1,12}", 0..100),
            separators in prop::collection::vec(prop::sample::select(vec![" ", "\t", "\n", "\r\n", "\u{2003}"]), 1..7),
            longest in 64_usize..200,
            portion in 1_usize..50,
        ) {
            let mut text = String::new();
            for (index, word) in words.iter().enumerate() {
                text.push_str(word);
                text.push_str(separators[index % separators.len()]);
            }
            let all = pieces_of(longest, text.as_bytes(), portion).unwrap();
            prop_assert!(all.iter().all(|piece| piece.len() <= longest));
            prop_assert_eq!(all.iter().map(|piece| piece.to_lowercase()).collect::<String>(), text.to_lowercase());
            prop_assert_eq!(all.iter().map(|piece| piece.to_uppercase()).collect::<String>(), text.to_uppercase());
        }
    }
}
