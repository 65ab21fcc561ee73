//! A bank of a test's own, which can be stopped, put back to an older backup, and started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use atm_cli::bank::{Bank, BankConfig};
use atm_types::{SystemClock, SystemIds};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Customer, PIN, Said, cli, said};

pub(crate) struct OwnBank {
    runtime: Runtime,
    bank: Option<Bank>,
    home: TempDir,
}

impl OwnBank {
    pub(crate) fn new() -> Self {
        let mut bank =
            Self { runtime: Runtime::new().unwrap(), bank: None, home: tempfile::tempdir().unwrap() };
        bank.start();
        bank
    }

    pub(crate) fn start(&mut self) {
        let config = BankConfig { cheap_pins: true, ..BankConfig::new(self.data()) };
        let starting = Bank::start(config, Arc::new(SystemClock), Arc::new(SystemIds));
        self.bank = Some(self.runtime.block_on(starting).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        self.runtime.block_on(self.bank.take().unwrap().stop()).unwrap();
    }

    pub(crate) fn gateway(&self) -> String {
        self.bank.as_ref().unwrap().gateway_url().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("bank")
    }

    /// Copies the ledger's files, while the bank is stopped.
    pub(crate) fn back_up_ledger(&self, name: &str) {
        copy(&self.data().join("ledger"), &self.home.path().join(name));
    }

    /// Puts them back.
    pub(crate) fn restore_ledger(&self, name: &str) {
        std::fs::remove_dir_all(self.data().join("ledger")).unwrap();
        copy(&self.home.path().join(name), &self.data().join("ledger"));
    }

    /// Opens an account for a new customer.
    pub(crate) fn customer(&self, number: u32, balance: &str) -> Customer {
        let customer = Customer { account: format!("T-{number}"), card: format!("40000000{number:04}") };
        let opened =
            self.admin(&["open-account", &customer.account, "--name", "Test", "--opening-balance", balance]);
        assert_eq!(opened.code, 0, "{opened:?}");
        let issued = self.admin(&["issue-card", "--card", &customer.card, "--account", &customer.account]);
        assert_eq!(issued.code, 0, "{issued:?}");
        customer
    }

    pub(crate) fn operator_token_file(&self) -> PathBuf {
        self.bank.as_ref().unwrap().operator_token_file().to_owned()
    }

    pub(crate) fn admin(&self, arguments: &[&str]) -> Said {
        let token = self.operator_token_file();
        let mut command = cli(&self.gateway());
        command.arg("admin").args(arguments).arg("--operator-token-file").arg(token);
        said(command.env("ATM_PIN", PIN))
    }
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
