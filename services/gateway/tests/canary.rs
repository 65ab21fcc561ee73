//! Row 25 of security.md for the gateway: with every log at TRACE, of every crate, no PIN, card number, session
//! token, service token, operator token or terminal key is in any line, whether a call succeeds, fails, or
//! breaks off. A process of its own, because the log belongs to the whole process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so where it stands")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atm_gateway::Config;
use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::*;
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::BearerToken;
use atm_rpc::process::SecretFile;
use atm_rpc::server::check_health;
use atm_types::{Clock, IdSource, SystemClock, SystemIds};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

const PIN: &str = "730951846207";
const WRONG_PIN: &str = "918273645546";
const CARD: &str = "4929731846205518";
const OPERATOR: &str = "canary-operator-7f3a";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn with<T>(message: T, metadata: &[(&'static str, String)]) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        let mut value: tonic::metadata::MetadataValue<_> = value.parse().unwrap();
        // What the client side logs of its own requests is the client's affair; ours mark their secrets.
        value.set_sensitive(true);
        request.metadata_mut().insert(*key, value);
    }
    request.set_timeout(Duration::from_secs(20));
    request
}

#[tokio::test]
async fn row_25_no_secret_is_in_any_log() {
    let captured = Captured::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .finish()
        .init();

    let directory = tempfile::TempDir::new().unwrap();
    let token_file = directory.path().join("service.token");
    let secret = SecretFile::create_or_load(&token_file, &SystemIds).unwrap();
    let service_token = BearerToken::from_secret(&secret).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    let mut urls = Vec::new();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("http://{}", listener.local_addr().unwrap()));
        listeners.push(listener);
    }
    let (gateway, ledger, auth) =
        (listeners.pop().unwrap(), listeners.pop().unwrap(), listeners.pop().unwrap());
    let config = atm_auth::Config::for_tests(directory.path());
    tokio::spawn(atm_auth::run(auth, config, Arc::clone(&clock), Arc::clone(&ids), shutdown.clone()));
    let config = atm_ledger::config::Config::new(directory.path().join("ledger"), token_file);
    tokio::spawn(atm_ledger::run(ledger, config, Arc::clone(&clock), Arc::clone(&ids), shutdown.clone()));
    let operator = BearerToken::new(OPERATOR).unwrap();
    let config = Config::new(&*urls[0], &*urls[1], service_token, operator);
    tokio::spawn(atm_gateway::run(gateway, config, clock, ids, shutdown.clone()));
    for url in &urls {
        while !check_health(url).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    let channel = lazy_channel(&urls[2], &ChannelConfig::default()).unwrap();
    let mut admin = AdminServiceClient::new(channel.clone());
    let mut atm = AtmServiceClient::new(channel);
    let as_operator = [("authorization", format!("Bearer {OPERATOR}"))];
    let money = Some(atm_proto::types::Money { currency_code: "BDT".to_owned(), minor_units: 500 });
    let account = NewAccount {
        account_number: "Farhan".to_owned(),
        holder_name: "Farhan".to_owned(),
        opening_balance: money.clone(),
        ..NewAccount::default()
    };
    let row = ImportRow { account: Some(account), card_number: CARD.to_owned(), pin: PIN.to_owned() };
    let bad = ImportRow { pin: "canary".to_owned(), ..row.clone() };
    let rows = ImportAccountsRequest { rows: vec![row, bad] };
    admin.import_accounts(with(rows, &as_operator)).await.unwrap();

    let key = hex::encode(SystemIds.secret());
    let terminal = [("atm-terminal-key", key.clone()), ("atm-id", "ATM-1".to_owned())];
    let log_in = |card: &str, pin: &str| LogInRequest {
        card_number: card.to_owned(),
        pin: pin.to_owned(),
        attempt_id: SystemIds.attempt_id().to_string(),
        atm_id: "ATM-1".to_owned(),
        boot: None,
    };
    let session = atm.log_in(with(log_in(CARD, PIN), &terminal)).await.unwrap().into_inner().session_token;
    assert!(atm.log_in(with(log_in(CARD, WRONG_PIN), &terminal)).await.is_err());
    assert!(atm.log_in(with(log_in(&format!("{CARD}77777"), PIN), &terminal)).await.is_err());
    assert!(atm.log_in(with(log_in(CARD, &format!("{PIN}{PIN}")), &terminal)).await.is_err());
    let customer = [terminal[0].clone(), terminal[1].clone(), ("authorization", format!("Bearer {session}"))];
    let withdraw = WithdrawRequest { transaction_id: SystemIds.transaction_id().to_string(), amount: money };
    atm.withdraw(with(withdraw, &customer)).await.unwrap();
    let change = ChangePinRequest {
        old_pin: WRONG_PIN.to_owned(),
        new_pin: PIN.to_owned(),
        attempt_id: SystemIds.attempt_id().to_string(),
    };
    assert!(atm.change_pin(with(change, &customer)).await.is_err());
    // What no customer asks for: each of these calls carries the terminal's key or the operator's token.
    let boot = atm_proto::types::Boot {
        epoch: 1,
        boot_id: SystemIds.uuid_v7().to_string(),
        previous_boot_id: String::new(),
    };
    let sign_on = SignOnRequest { atm_id: "ATM-1".to_owned(), boot: Some(boot.clone()) };
    atm.sign_on(with(sign_on, &terminal)).await.unwrap();
    let stale = atm_proto::types::Boot { boot_id: SystemIds.uuid_v7().to_string(), ..boot };
    let stale = LogInRequest { boot: Some(stale), ..log_in(CARD, PIN) };
    assert!(atm.log_in(with(stale, &terminal)).await.is_err());
    let load = RecordCashMovementRequest {
        transaction_id: SystemIds.transaction_id().to_string(),
        from: CashBin::Vault.into(),
        to: CashBin::Cassettes.into(),
        amount: Some(atm_proto::types::Money { currency_code: "BDT".to_owned(), minor_units: 500 }),
    };
    atm.record_cash_movement(with(load, &terminal)).await.unwrap();
    let suspend = SuspendWithdrawalRequest {
        transaction_id: SystemIds.transaction_id().to_string(),
        authorization: vec![1],
    };
    assert!(atm.suspend_withdrawal(with(suspend, &terminal)).await.is_err());
    let position = GetCashPositionRequest { atm_id: "ATM-1".to_owned() };
    admin.get_cash_position(with(position, &as_operator)).await.unwrap();
    let resolve = ResolveSuspectRequest {
        transaction_id: SystemIds.transaction_id().to_string(),
        amount: Some(atm_proto::types::Money { currency_code: "BDT".to_owned(), minor_units: 0 }),
        operator: "Nadia".to_owned(),
        reason: "counted".to_owned(),
    };
    assert!(admin.resolve_suspect(with(resolve, &as_operator)).await.is_err());
    let block =
        BlockCardRequest { card_number: CARD.to_owned(), order_id: SystemIds.attempt_id().to_string() };
    admin.block_card(with(block, &as_operator)).await.unwrap();
    assert!(atm.get_balance(with(GetBalanceRequest {}, &customer)).await.is_err());

    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    for everything in ["TRACE", "h2::", "following revocations"] {
        assert!(log.contains(everything), "{everything} is missing in {} bytes", log.len());
    }
    for (what, canary) in [
        ("PIN", PIN),
        ("wrong PIN", WRONG_PIN),
        ("card number", CARD),
        ("operator token", OPERATOR),
        ("terminal key", key.as_str()),
        ("session token", &session[..60]),
        ("service token", secret.text()),
    ] {
        let line = log.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{what}");
    }
}
