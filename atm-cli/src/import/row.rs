//! One line of the file: which column is which, and what may stand there.

use atm_proto::gateway::{ImportRow, NewAccount};
use atm_types::{Currency, Money};
use csv::StringRecord;

use super::Problem;
use crate::client::wire;
use crate::pin::is_pin;

/// The columns that the header may name, in any order.
const NAMES: [&str; 8] = [
    "account",
    "name",
    "card",
    "pin",
    "opening_balance",
    "currency",
    "overdraft_limit",
    "daily_withdrawal_limit",
];
const REQUIRED: [&str; 3] = ["account", "name", "opening_balance"];

/// Where each column stands.
pub(super) struct Columns {
    places: [Option<usize>; NAMES.len()],
    width: usize,
}

impl Columns {
    /// Finds the columns by their names in the header.
    pub(super) fn find(header: &StringRecord, line: u64) -> Result<Self, Vec<Problem>> {
        let mut places = [None; NAMES.len()];
        let mut problems = Vec::new();
        for (place, name) in header.iter().enumerate() {
            match NAMES.iter().position(|known| known.eq_ignore_ascii_case(name)) {
                Some(index) if places[index].is_none() => places[index] = Some(place),
                Some(index) => problems.push(Problem {
                    line,
                    column: NAMES[index],
                    what: "the header names it twice".to_owned(),
                }),
                None => problems.push(Problem {
                    line,
                    column: "",
                    what: format!(
                        "the header has an unknown column {name:?}; known are {}",
                        NAMES.join(", ")
                    ),
                }),
            }
        }
        for (index, name) in NAMES.iter().enumerate() {
            if places[index].is_none() && REQUIRED.contains(name) {
                problems.push(Problem { line, column: name, what: "the header lacks it".to_owned() });
            }
        }
        if problems.is_empty() { Ok(Self { places, width: header.len() }) } else { Err(problems) }
    }

    /// Reads one line, or says everything that is wrong with it.
    pub(super) fn row(
        &self,
        record: &StringRecord,
        line: u64,
        currency: Currency,
        pin_later: bool,
    ) -> Result<ImportRow, Vec<Problem>> {
        if record.len() != self.width {
            // Everything up to the next quote, or to the end of the file, is one field then.
            let open = record.iter().any(|field| field.contains('\n'));
            let hint = if open { "; a quote in it is not closed" } else { "" };
            let what = format!("it has {} fields, the header has {}{hint}", record.len(), self.width);
            return Err(vec![Problem { line, column: "", what }]);
        }
        let mut check = Check { columns: self, record, line, problems: Vec::new() };
        let account_number = check.account();
        let holder_name = check.name();
        let currency = check.currency(currency);
        let opening_balance = check.money("opening_balance", currency);
        let overdraft = check.money("overdraft_limit", currency);
        let daily_limit = check.money("daily_withdrawal_limit", currency);
        let card_number = check.card();
        let pin = check.pin(&card_number);
        if !check.problems.is_empty() {
            return Err(check.problems);
        }
        Ok(ImportRow {
            account: Some(NewAccount {
                account_number,
                holder_name,
                opening_balance: Some(wire(opening_balance)),
                overdraft_limit_minor_units: overdraft.minor_units(),
                daily_withdrawal_limit_minor_units: daily_limit.minor_units(),
            }),
            card_number,
            pin: if pin_later { String::new() } else { pin },
        })
    }
}

struct Check<'a> {
    columns: &'a Columns,
    record: &'a StringRecord,
    line: u64,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// The field's text; empty when the column is not there.
    fn text(&self, column: &str) -> &str {
        let index = NAMES.iter().position(|name| *name == column);
        index
            .and_then(|index| self.columns.places[index])
            .and_then(|place| self.record.get(place))
            .unwrap_or("")
    }

    fn wrong(&mut self, column: &'static str, what: impl Into<String>) {
        self.problems.push(Problem { line: self.line, column, what: what.into() });
    }

    fn account(&mut self) -> String {
        let text = self.text("account").to_owned();
        let alphabet = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !alphabet || !(1..=34).contains(&text.len()) {
            self.wrong("account", "it needs 1 to 34 characters of A-Z a-z 0-9 . _ -");
        }
        text
    }

    fn name(&mut self) -> String {
        let text = self.text("name").to_owned();
        if text.is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
            self.wrong("name", "it needs 1 to 100 characters and no control characters");
        }
        text
    }

    fn currency(&mut self, default: Currency) -> Currency {
        let text = self.text("currency").to_owned();
        if text.is_empty() {
            return default;
        }
        match text.parse() {
            Ok(currency) if currency == default => currency,
            Ok(currency) => {
                self.wrong(
                    "currency",
                    format!("this import is in {default}: give --currency {currency} if that is the bank's"),
                );
                default
            }
            Err(error) => {
                self.wrong("currency", error.to_string());
                default
            }
        }
    }

    fn money(&mut self, column: &'static str, currency: Currency) -> Money {
        let text = self.text(column);
        // Only the optional columns may be empty, or missing altogether.
        if text.is_empty() && !REQUIRED.contains(&column) {
            return Money::zero(currency);
        }
        match Money::parse(text, currency) {
            Ok(money) if money.minor_units() >= 0 => money,
            Ok(money) => {
                self.wrong(column, "it must not be negative");
                money
            }
            Err(error) => {
                self.wrong(column, format!("it {error}"));
                Money::zero(currency)
            }
        }
    }

    fn card(&mut self) -> String {
        let text = self.text("card").to_owned();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if !text.is_empty() && (!digits || !(8..=19).contains(&text.len())) {
            self.wrong("card", "it needs 8 to 19 digits");
        }
        text
    }

    fn pin(&mut self, card: &str) -> String {
        let text = self.text("pin").to_owned();
        if text.is_empty() {
            return text;
        }
        // What was typed is not repeated: it may be a real PIN with one digit too many.
        if !is_pin(&text) {
            self.wrong("pin", "it needs 4 to 12 digits");
        } else if card.is_empty() {
            self.wrong("pin", "there is a PIN but no card");
        }
        text
    }
}
