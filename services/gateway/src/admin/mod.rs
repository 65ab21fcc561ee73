//! What operators can ask for, one file each.

pub mod block_card;
pub mod import;
pub mod issue_card;
pub mod open_account;
pub mod trial_balance;
pub mod verify;
