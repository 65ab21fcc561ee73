//! What operators can ask for, one file each.

pub mod block_card;
pub mod cash_entries;
pub mod cash_position;
pub mod import;
pub mod inspect;
pub mod issue_card;
pub mod machines;
pub mod move_cash;
pub mod open_account;
pub mod resolve;
pub mod suspects;
pub mod trial_balance;
pub mod verify;
