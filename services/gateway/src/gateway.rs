//! What all flows share. There is no storage behind it: everything here can be lost at any moment.

use std::sync::Arc;

use atm_rpc::channel::{ChannelConfig, ChannelError, lazy_channel_over};
use atm_rpc::credentials::BearerToken;
use atm_types::{Clock, Currency, IdSource};
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::config::Config;
use crate::machines::Machines;
use crate::revocations::Revocations;
use crate::session::SessionKeys;
use crate::upstream::{Auth, Ledger};

/// What the flows work with.
pub struct Gateway {
    /// The bank's currency.
    pub currency: Currency,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where error ids come from.
    pub ids: Arc<dyn IdSource>,
    /// Cards, PINs and sessions.
    pub auth: Arc<Auth>,
    /// The books.
    pub ledger: Ledger,
    /// What session tokens are verified with.
    pub session_keys: Arc<SessionKeys>,
    /// Which sessions have ended.
    pub revocations: Arc<Revocations>,
    /// What is known of accounts for good.
    pub accounts: Accounts,
    /// Which machines are known to be who they say.
    pub machines: Machines,
    /// What operators show.
    pub operator_token: BearerToken,
    /// Places for calls that make auth hash a PIN, so that a flood of them takes no room from money.
    pub pin_checks: Semaphore,
}

impl Gateway {
    /// A gateway to the upstreams that `config` names. Nothing is called yet.
    ///
    /// # Errors
    /// [`ChannelError`] when a URL is none.
    pub fn new(config: &Config, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Result<Self, ChannelError> {
        let channel = |url: &str| lazy_channel_over(url, &ChannelConfig::default(), config.network.as_ref());
        let margin = config.deadline_margin;
        let token = || config.service_token.clone();
        Ok(Self {
            currency: config.currency,
            clock,
            ids,
            auth: Arc::new(Auth::new(channel(&config.auth_url)?, token(), margin)),
            ledger: Ledger::new(channel(&config.ledger_url)?, token(), margin),
            session_keys: Arc::default(),
            revocations: Arc::default(),
            accounts: Accounts::default(),
            machines: Machines::default(),
            operator_token: config.operator_token.clone(),
            pin_checks: Semaphore::new(config.max_pin_checks),
        })
    }
}
