//! `text`: small and capital letters, primes and palindromes, by the bank's text utility.

use std::io::Write;

use atm_rpc::retry::RetryError;
use clap::{Args, Subcommand};
use serde::Serialize;
use tonic::Code;

use super::Context;
use crate::client::{Case, TextClient, read_failure};
use crate::exit::{Exit, Failure};
use crate::text_pieces::{LONGEST_PIECE, Pieces};

const CASE_EXAMPLES: &str = "\
Examples:
  atm-cli text lower HELLOW THERE
  atm-cli text upper < poem.txt
  tail -f notes | atm-cli text lower

Several words are one text; put -- before one that begins with a dash. Without TEXT, standard input is converted \
line by line; lines may be of any length. A line longer than 16 KiB goes out in pieces that are cut at white \
space, which changes nothing; only a single word longer than that is cut inside, away from any Greek sigma, \
whose small form depends on its neighbours.";

const NUMBER_EXAMPLES: &str = "\
Examples:
  atm-cli text prime 13             prints Prime
  atm-cli text prime -- -7          prints NonPrime
  atm-cli text palindrome 12321     prints Palindrome

Integers of any sign, up to 4,096 bits: all of 1,233 digits, and those of 1,234 digits that are below 2^4096.";

/// No integer of more digits has at most 4,096 bits.
const MOST_DIGITS: usize = 1_234;

const EXAMPLES: &str = "\
Examples:
  atm-cli text lower HELLOW THERE
  atm-cli text upper < poem.txt
  atm-cli text prime 13
  atm-cli text palindrome 12321";

/// Change the case of text, classify integers.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TextArgs {
    #[command(subcommand)]
    command: TextCommand,
}

#[derive(Debug, Subcommand)]
enum TextCommand {
    /// Make all letters small.
    #[command(after_help = CASE_EXAMPLES)]
    Lower(CaseArgs),
    /// Make all letters capital.
    #[command(after_help = CASE_EXAMPLES)]
    Upper(CaseArgs),
    /// Print Prime or NonPrime.
    #[command(after_help = NUMBER_EXAMPLES)]
    Prime(NumberArgs),
    /// Print Palindrome or NonPalindrome.
    #[command(after_help = NUMBER_EXAMPLES)]
    Palindrome(NumberArgs),
}

#[derive(Debug, Args)]
struct CaseArgs {
    /// The text; standard input when there is none.
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
}

#[derive(Debug, Args)]
struct NumberArgs {
    /// A decimal integer.
    #[arg(value_name = "N", allow_negative_numbers = true)]
    number: String,
}

#[derive(Serialize)]
struct TextKeys {
    text: String,
}

#[derive(Serialize)]
struct NumberKeys<'a> {
    number: &'a str,
    result: &'static str,
}

pub(crate) async fn run(context: &Context, args: TextArgs) -> Result<Exit, Failure> {
    let client = TextClient::new(context.way(), context.global.deadline)?;
    match args.command {
        TextCommand::Lower(args) => convert(context, &client, Case::Lower, args.text).await,
        TextCommand::Upper(args) => convert(context, &client, Case::Upper, args.text).await,
        TextCommand::Prime(args) => {
            let number = integer(&args.number)?;
            let prime = client.is_prime(number.to_owned()).await.map_err(|error| number_failure(&error))?;
            Ok(classified(context, number, if prime { "Prime" } else { "NonPrime" }))
        }
        TextCommand::Palindrome(args) => {
            let number = integer(&args.number)?;
            let palindrome =
                client.is_palindrome(number.to_owned()).await.map_err(|error| number_failure(&error))?;
            Ok(classified(context, number, if palindrome { "Palindrome" } else { "NonPalindrome" }))
        }
    }
}

fn classified(context: &Context, number: &str, result: &'static str) -> Exit {
    context.screen.object(&NumberKeys { number, result });
    context.screen.result(result);
    Exit::Done
}

/// What is no integer, or far too large a one, needs no server to say so; it might not even fit into a call.
fn integer(text: &str) -> Result<&str, Failure> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("needs a decimal integer such as 13 or -7"));
    }
    let significant = digits.trim_start_matches('0').len();
    if significant > MOST_DIGITS {
        let what = format!("must have at most 4096 bits, and has {significant} digits: 1234 are the most");
        return Err(invalid(&what));
    }
    Ok(text)
}

fn invalid(what: &str) -> Failure {
    Failure::invalid(format!("invalid input: {what}"))
}

fn number_failure(error: &RetryError) -> Failure {
    match error.status.code() {
        Code::InvalidArgument | Code::OutOfRange => invalid(error.status.message()),
        _ => read_failure(error),
    }
}

async fn convert(
    context: &Context,
    client: &TextClient,
    case: Case,
    words: Vec<String>,
) -> Result<Exit, Failure> {
    // In JSON mode there is one object for all of the input, so it is gathered; people get each line at once.
    let mut gathered = String::new();
    let mut give = |converted: &str| -> Result<bool, Failure> {
        if context.screen.is_json() {
            gathered.push_str(converted);
            return Ok(true);
        }
        let mut output = std::io::stdout().lock();
        match output.write_all(converted.as_bytes()).and_then(|()| output.flush()) {
            Ok(()) => Ok(true),
            // Whoever was reading has had enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::unavailable(format!("the output cannot be written: {error}"))),
        }
    };
    if words.is_empty() {
        let mut pieces = Pieces::new(std::io::stdin().lock());
        while let Some(piece) =
            pieces.next_piece().map_err(|error| Failure::invalid(format!("invalid input: {error}")))?
        {
            if !give(&convert_piece(client, case, piece).await?)? {
                break;
            }
        }
    } else {
        let text = words.join(" ");
        let mut pieces = Pieces::new(std::io::BufReader::with_capacity(LONGEST_PIECE, text.as_bytes()));
        while let Some(piece) =
            pieces.next_piece().map_err(|error| Failure::invalid(format!("invalid input: {error}")))?
        {
            if !give(&convert_piece(client, case, piece).await?)? {
                break;
            }
        }
        if !context.screen.is_json() {
            give("\n")?;
        }
    }
    context.screen.object(&TextKeys { text: gathered });
    Ok(Exit::Done)
}

async fn convert_piece(client: &TextClient, case: Case, piece: String) -> Result<String, Failure> {
    client.convert(case, piece).await.map_err(|error| read_failure(&error))
}
