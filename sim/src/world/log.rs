//! Everything that the programs log, kept as text.

use std::fmt::{Debug, Write};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::shared::Shared;
use crate::evidence::LogLine;

/// Keeps what this thread logs as long as the guard lives.
pub(super) fn keep(shared: Arc<Shared>) -> tracing::subscriber::DefaultGuard {
    let ours = ["atm_cli", "atm_gateway", "atm_auth", "atm_ledger", "atm_rpc"];
    let targets: Targets = ours.into_iter().map(|target| (target, Level::INFO)).collect();
    let subscriber = tracing_subscriber::registry().with(Keeper { shared }.with_filter(targets));
    tracing::subscriber::set_default(subscriber)
}

struct Keeper {
    shared: Arc<Shared>,
}

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = LogLine {
            at: self.shared.now(),
            level: event.metadata().level().as_str(),
            target: event.metadata().target().to_owned(),
            text: text.0,
        };
        self.shared.lock().log.push(line);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}{}={value:?}", if self.0.is_empty() { "" } else { " " }, field.name());
    }
}
