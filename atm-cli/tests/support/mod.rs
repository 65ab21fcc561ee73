//! A bank in this process, cash machines as real processes, and what they said.
#![allow(dead_code, reason = "each test file uses the part that it needs")]

pub(crate) mod glass_bank;
pub(crate) mod own_bank;
pub(crate) mod proxy;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use atm_cli::bank::{Bank, BankConfig};
use atm_proto::gateway::SuspendWithdrawalRequest;
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_types::{IdSource, SystemClock, SystemIds};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const PIN: &str = "1234";

/// One bank for all tests of a file, on free ports, with cheap PIN hashes.
pub(crate) struct House {
    pub(crate) runtime: Runtime,
    pub(crate) gateway: String,
    pub(crate) operator_token_file: PathBuf,
    pub(crate) data: PathBuf,
    _bank: Bank,
    _home: TempDir,
}

pub(crate) fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("bank");
        let config = BankConfig { cheap_pins: true, ..BankConfig::new(&data) };
        let bank = runtime.block_on(Bank::start(config, Arc::new(SystemClock), Arc::new(SystemIds))).unwrap();
        House {
            gateway: bank.gateway_url().to_owned(),
            operator_token_file: bank.operator_token_file().to_owned(),
            runtime,
            data,
            _bank: bank,
            _home: home,
        }
    })
}

/// A customer with an account of her own, so that tests do not meet each other.
pub(crate) struct Customer {
    pub(crate) account: String,
    pub(crate) card: String,
}

impl House {
    /// Opens an account with `balance` and a card with the usual PIN.
    pub(crate) fn customer(&self, balance: &str) -> Customer {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let customer = Customer {
            account: format!("T-{number}"),
            card: format!("{}", 400_000_000_000 + u64::from(number)),
        };
        let opened =
            self.admin(&["open-account", &customer.account, "--name", "Test", "--opening-balance", balance]);
        assert_eq!(opened.code, 0, "{opened:?}");
        let issued = self.admin(&["issue-card", "--card", &customer.card, "--account", &customer.account]);
        assert_eq!(issued.code, 0, "{issued:?}");
        customer
    }

    /// Runs `atm-cli admin` as the operator.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Said {
        let mut command = cli(&self.gateway);
        command.arg("admin").args(arguments).arg("--operator-token-file").arg(&self.operator_token_file);
        said(command.env("ATM_PIN", PIN))
    }

    /// Freezes a withdrawal with a machine's own key, past the machine.
    pub(crate) fn suspend(&self, atm: &Atm, id: &str) {
        let request = SuspendWithdrawalRequest { transaction_id: id.to_owned(), authorization: Vec::new() };
        let request = with_key_of(atm, request);
        self.runtime.block_on(async {
            let mut client = AtmServiceClient::connect(self.gateway.clone()).await.unwrap();
            client.suspend_withdrawal(request).await.unwrap();
        });
    }

    /// What the bank says about a customer, asked at a machine of the test's own.
    pub(crate) fn balance(&self, customer: &Customer) -> (String, String) {
        let json = Atm::new(&self.gateway).json(&["balance", "--card", &customer.card]);
        (text(&json, "balance"), text(&json, "available"))
    }

    /// The lines of a customer's statement, newest first, without the opening balance: id, kind and amount.
    pub(crate) fn movements(&self, customer: &Customer) -> Vec<(String, String, String)> {
        let json = Atm::new(&self.gateway).json(&["statement", "--limit", "1000", "--card", &customer.card]);
        let lines = json["lines"].as_array().unwrap();
        lines
            .iter()
            .map(|line| (text(line, "transaction_id"), text(line, "kind"), text(line, "amount")))
            .filter(|(_, kind, _)| kind != "opening_balance")
            .collect()
    }
}

/// A cash machine: a state directory, and the real program in it.
pub(crate) struct Atm {
    pub(crate) state: PathBuf,
    pub(crate) gateway: String,
    /// What its program has in its environment besides.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    _home: TempDir,
}

impl Atm {
    pub(crate) fn new(gateway: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self {
            state: home.path().join("atm"),
            gateway: gateway.to_owned(),
            environment: Vec::new(),
            _home: home,
        }
    }

    /// The same machine behind another wire.
    pub(crate) fn behind(&mut self, gateway: &str) -> &mut Self {
        self.gateway = gateway.to_owned();
        self
    }

    /// The program, with nothing of the caller's environment that could change what it does.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = cli(&self.gateway);
        command.arg("--state").arg(&self.state).args(arguments).env("ATM_PIN", PIN);
        command.envs(self.environment.clone());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// Runs it with `--json` and reads the one object.
    pub(crate) fn run_json(&self, arguments: &[&str]) -> (i32, Value) {
        let said = self.run(&[arguments, &["--json"]].concat());
        (said.code, said.json())
    }

    /// The same where success is expected.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let (code, json) = self.run_json(arguments);
        assert_eq!(code, 0, "{arguments:?}: {json}");
        json
    }

    /// The name that the machine makes from its key.
    pub(crate) fn atm_id(&self) -> String {
        let key = std::fs::read_to_string(self.state.join("terminal.key")).unwrap();
        let id = hex::encode(Sha256::digest(hex::decode(key.trim()).unwrap()));
        format!("atm-{}", &id[..8])
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.state.join("journal.sqlite3")
    }

    /// What the journal holds, or nothing while the program is still making it.
    pub(crate) fn journaled_if_ready(&self) -> Vec<Journaled> {
        let ready = rusqlite::Connection::open(self.journal()).and_then(|connection| {
            connection.query_row("SELECT count(*) FROM transactions", [], |row| row.get::<_, i64>(0))
        });
        if ready.is_ok_and(|count| count > 0) { self.journaled() } else { Vec::new() }
    }

    /// What the journal holds: id, state, ending and amount of each transaction.
    pub(crate) fn journaled(&self) -> Vec<Journaled> {
        let connection = rusqlite::Connection::open(self.journal()).unwrap();
        let mut statement = connection
            .prepare("SELECT id, kind, state, coalesce(ending, ''), amount_minor_units FROM transactions ORDER BY id")
            .unwrap();
        let rows = statement.query_map([], |row| {
            Ok(Journaled {
                id: row.get(0)?,
                kind: row.get(1)?,
                state: row.get(2)?,
                ending: row.get(3)?,
                minor_units: row.get(4)?,
            })
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

/// One transaction in a machine's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Journaled {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) ending: String,
    pub(crate) minor_units: i64,
}

/// A request as a machine sends it, with its key and its name.
pub(crate) fn with_key_of<T>(atm: &Atm, message: T) -> tonic::Request<T> {
    let key = std::fs::read_to_string(atm.state.join("terminal.key")).unwrap();
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("atm-terminal-key", key.trim().parse().unwrap());
    request.metadata_mut().insert("atm-id", atm.atm_id().parse().unwrap());
    request
}

pub(crate) fn cli(gateway: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("atm-cli"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ATM_")
            || ["RUST_LOG", "XDG_STATE_HOME"].iter().any(|n| name == *n)
        {
            command.env_remove(name);
        }
    }
    command.env("ATM_GATEWAY", gateway).env("NO_COLOR", "1").env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        let mut lines = self.stdout.lines();
        let first = lines.next().unwrap_or_else(|| panic!("no object: {self:?}"));
        assert_eq!(lines.next(), None, "exactly one object: {self:?}");
        serde_json::from_str(first).unwrap_or_else(|_| panic!("no object: {self:?}"))
    }
}

pub(crate) fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Said {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// A string in an object.
pub(crate) fn text(json: &Value, key: &str) -> String {
    json[key].as_str().unwrap_or_else(|| panic!("{key} in {json}")).to_owned()
}

const KEYS: [&str; 7] = ["transaction_id", "status", "reason", "amount", "balance", "available", "currency"];

/// The object of a money command has exactly the agreed keys.
pub(crate) fn keys(json: &Value) -> &Value {
    let mut found: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut agreed = KEYS;
    found.sort_unstable();
    agreed.sort_unstable();
    assert_eq!(found, agreed);
    json
}

/// An id that nobody has used.
pub(crate) fn new_id() -> String {
    SystemIds.transaction_id().to_string()
}

/// Waits until `condition` holds, which it must within a minute.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// All bytes of all files below a directory.
pub(crate) fn all_files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found
}
