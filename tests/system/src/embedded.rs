//! All three services in one real process, as `atm-cli serve` starts them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{atm_cli, wait_for};

/// A running `atm-cli serve` with a data directory of its own; killed and removed when dropped.
pub struct EmbeddedBank {
    process: Child,
    directory: tempfile::TempDir,
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// Where auth listens.
    pub auth: SocketAddr,
    /// Where the ledger listens.
    pub ledger: SocketAddr,
}

impl EmbeddedBank {
    /// Starts it and waits until all three accept connections.
    ///
    /// # Panics
    /// When it does not come up, with what it wrote.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let [gateway, auth, ledger] = free_ports().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let log = std::fs::File::create(directory.path().join("log")).expect("the directory is writable");
        let process = Command::new(atm_cli())
            .arg("serve")
            .arg("--data")
            .arg(directory.path().join("data"))
            .args(["--listen", &gateway.to_string()])
            .args(["--auth-listen", &auth.to_string()])
            .args(["--ledger-listen", &ledger.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("atm-cli can be started");
        let mut bank = Self { process, directory, gateway, auth, ledger };
        wait_for("atm-cli serve accepts connections", 120, || bank.is_up().then_some(()));
        bank
    }

    /// The token that auth and the ledger ask for.
    #[must_use]
    pub fn service_token_file(&self) -> PathBuf {
        self.directory.path().join("data/service.token")
    }

    fn is_up(&mut self) -> bool {
        if let Some(status) = self.process.try_wait().expect("a child can be asked") {
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            panic!("atm-cli serve ended with {status}:\n{log}");
        }
        [self.gateway, self.auth, self.ledger].iter().all(|address| TcpStream::connect(address).is_ok())
    }
}

impl Drop for EmbeddedBank {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Three loopback ports free at this moment, all held until all are chosen.
///
/// # Panics
/// When the machine has none left.
#[must_use]
pub fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("a bound socket has an address").port())
}
