//! What a card alone can answer.

use atm_types::AccountId;

use super::Recorded;
use crate::answer::Refused;
use crate::ask::{Ask, Terms, Transfer};
use crate::step::{Kind, State};

/// What a card says to a request.
pub(crate) enum Known {
    /// Answer again what stands there at this place.
    Again(usize),
    /// Nothing happens.
    Refused(Refused),
    /// It is new, and goes this way.
    New(Way),
}

/// How something new is to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As the first of its card, held against the account book.
    First,
    /// A fence in front of an id that never came.
    Tombstone,
    /// The end of a hold that stands.
    Ends(Transfer),
    /// The hold is gone and the money moves all the same.
    Late(Transfer),
    /// A hold that stands is frozen.
    Freeze(Transfer),
    /// A hold that is gone is set up again and frozen.
    FreezeAgain(Transfer),
    /// A frozen hold is decided.
    Decide(Transfer),
}

fn refused(reason: &str, field: &str) -> Known {
    Known::Refused(Refused::new(reason, field))
}

fn invalid(field: &str) -> Known {
    refused("INVALID_FIELD", field)
}

fn reused(field: &str) -> Known {
    refused("ID_REUSED", field)
}

const LIFETIME_NANOS: std::ops::RangeInclusive<i64> = 1_000_000_000..=30 * 24 * 60 * 60 * 1_000_000_000;

/// What this card says to this request. An ask that only reads is new to every card.
pub(crate) fn known(card: &[Recorded], ask: &Ask) -> Known {
    match ask {
        Ask::OpenAccount(terms) => opening(card, terms),
        Ask::Post { terminal, transfer, .. } => {
            malformed(transfer).unwrap_or_else(|| repeat(card, (Kind::Post, transfer, *terminal)))
        }
        Ask::Hold { terminal, transfer, lifetime_nanos, .. } => malformed(transfer)
            .or_else(|| (!LIFETIME_NANOS.contains(lifetime_nanos)).then(|| invalid("lifetime")))
            .unwrap_or_else(|| repeat(card, (Kind::Hold, transfer, *terminal))),
        Ask::Capture { minor_units, .. } if *minor_units < 0 => invalid("amount.minor_units"),
        Ask::Capture { terminal, minor_units, currency, signed, .. } => {
            if !card.is_empty() && card[0].terminal != *terminal {
                return not_found();
            }
            capture(card, (*minor_units, *currency), *signed)
        }
        Ask::Cancel { terminal, .. } => match card {
            [] => Known::New(Way::Tombstone),
            [first, ..] if first.terminal != *terminal || first.kind == Kind::OpenAccount => not_found(),
            _ => match stands(card) {
                Some(held) => Known::New(Way::Ends(held)),
                None => Known::Again(card.len() - 1),
            },
        },
        Ask::Suspend { terminal, suspense, signed, .. } => {
            if !card.is_empty() && card[0].terminal != *terminal {
                return not_found();
            }
            suspend(card, *suspense, *signed)
        }
        Ask::Resolve { minor_units, currency, explained, .. } => {
            if *minor_units < 0 {
                return invalid("amount.minor_units");
            }
            if !explained {
                return invalid("reason");
            }
            resolve(card, *minor_units, *currency)
        }
        Ask::Expire { .. } => stands(card).map_or_else(not_found, |held| Known::New(Way::Ends(held))),
        Ask::GetAccount { .. } | Ask::GetTrialBalance => Known::New(Way::First),
    }
}

fn not_found() -> Known {
    refused("TRANSACTION_NOT_FOUND", "")
}

fn malformed(transfer: &Transfer) -> Option<Known> {
    match transfer {
        _ if transfer.minor_units <= 0 => Some(invalid("amount.minor_units")),
        _ if transfer.debit == transfer.credit => Some(invalid("credit_account_id")),
        _ => None,
    }
}

/// The hold, if it stands.
pub(crate) fn stands(card: &[Recorded]) -> Option<Transfer> {
    match card {
        [only] if only.state == Some(State::Held) => only.transfer,
        _ => None,
    }
}

/// What was ever set aside under it.
fn ever_held(card: &[Recorded]) -> Option<Transfer> {
    let held = |r: &&Recorded| matches!(r.state, Some(State::Held | State::Suspect));
    card.iter().find(held).and_then(|r| r.transfer)
}

fn opening(card: &[Recorded], terms: &Terms) -> Known {
    let text_fits = terms.number.len() <= 34 && terms.holder_name.chars().count() <= 100;
    if !text_fits {
        return invalid("account.account_number");
    }
    let Some(first) = card.first() else { return Known::New(Way::First) };
    let Some(opened) = &first.terms else { return reused("account.account_id") };
    match () {
        () if opened.kind != terms.kind => reused("account.kind"),
        () if opened.currency != terms.currency => reused("account.currency_code"),
        () if opened.number != terms.number => reused("account.account_number"),
        () if opened.holder_name != terms.holder_name => reused("account.holder_name"),
        () if opened.overdraft_limit != terms.overdraft_limit => {
            reused("account.overdraft_limit_minor_units")
        }
        () if opened.daily_withdrawal_limit != terms.daily_withdrawal_limit => {
            reused("account.daily_withdrawal_limit_minor_units")
        }
        () => Known::Again(0),
    }
}

fn repeat(card: &[Recorded], (kind, asked, terminal): (Kind, &Transfer, atm_types::TerminalId)) -> Known {
    let Some(first) = card.first() else { return Known::New(Way::First) };
    if first.terminal != terminal || first.kind == Kind::OpenAccount {
        return reused("transaction_id");
    }
    // What came before it under its id is its answer: a fence, or cash that the books had forgotten.
    let (Kind::Post | Kind::Hold, Some(before)) = (first.kind, first.transfer) else {
        return Known::Again(0);
    };
    match () {
        () if first.kind != kind => reused("kind"),
        () if before.debit != asked.debit => reused("debit_account_id"),
        () if before.credit != asked.credit => reused("credit_account_id"),
        () if before.minor_units != asked.minor_units => reused("amount.minor_units"),
        () if before.currency != asked.currency => reused("amount.currency_code"),
        () => Known::Again(0),
    }
}

/// The same amount again is a repeat, another one is not.
fn same_amount(card: &[Recorded], index: usize, amount: (i64, atm_types::Currency)) -> Known {
    match card[index].transfer {
        Some(before) if before.minor_units != amount.0 => reused("amount.minor_units"),
        Some(before) if before.currency != amount.1 => reused("amount.currency_code"),
        _ => Known::Again(index),
    }
}

fn capture(card: &[Recorded], amount: (i64, atm_types::Currency), signed: Option<Transfer>) -> Known {
    let Some(last) = card.last() else {
        return match signed {
            Some(held) => within(held, amount, "CAPTURE_EXCEEDS_HOLD", Way::Late(held)),
            None => not_found(),
        };
    };
    let nothing = || refused("NOTHING_TO_CAPTURE", "");
    match last.state {
        None => not_found(),
        Some(State::Captured | State::CapturedLate) => same_amount(card, card.len() - 1, amount),
        Some(State::Suspect) => refused("SUSPENDED", ""),
        Some(State::Posted) => nothing(),
        Some(State::Held | State::Cancelled | State::Expired | State::Declined) => {
            let Some(held) = ever_held(card).or(signed) else { return nothing() };
            let way = if stands(card).is_some() { Way::Ends(held) } else { Way::Late(held) };
            within(held, amount, "CAPTURE_EXCEEDS_HOLD", way)
        }
    }
}

fn within(held: Transfer, amount: (i64, atm_types::Currency), reason: &str, way: Way) -> Known {
    match () {
        () if amount.1 != held.currency => refused("CURRENCY_MISMATCH", "amount.currency_code"),
        () if amount.0 > held.minor_units => refused(reason, ""),
        () => Known::New(way),
    }
}

fn suspend(card: &[Recorded], suspense: AccountId, signed: Option<Transfer>) -> Known {
    if let Some(index) = card.iter().position(|r| r.kind == Kind::Suspend) {
        let same = card[index].suspense == Some(suspense);
        return if same { Known::Again(index) } else { reused("suspense_account_id") };
    }
    let Some(last) = card.last() else {
        return signed.map_or_else(not_found, |held| Known::New(Way::FreezeAgain(held)));
    };
    let nothing = || refused("NOTHING_TO_SUSPEND", "");
    match last.state {
        None => not_found(),
        Some(State::Captured | State::CapturedLate) => Known::Again(card.len() - 1),
        Some(State::Posted) => nothing(),
        Some(State::Held | State::Cancelled | State::Expired | State::Declined | State::Suspect) => {
            match (stands(card), ever_held(card).or(signed)) {
                (Some(held), _) => Known::New(Way::Freeze(held)),
                (None, Some(held)) => Known::New(Way::FreezeAgain(held)),
                (None, None) => nothing(),
            }
        }
    }
}

fn resolve(card: &[Recorded], minor_units: i64, currency: atm_types::Currency) -> Known {
    if let Some(index) = card.iter().position(|r| r.kind == Kind::Resolve) {
        return same_amount(card, index, (minor_units, currency));
    }
    match card.last() {
        None => not_found(),
        Some(last) if last.state.is_none() => not_found(),
        Some(Recorded { state: Some(State::Suspect), transfer: Some(held), .. }) => {
            within(*held, (minor_units, currency), "RESOLUTION_EXCEEDS_HOLD", Way::Decide(*held))
        }
        Some(_) => refused("NOT_SUSPENDED", ""),
    }
}
