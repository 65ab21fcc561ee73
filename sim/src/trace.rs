//! What happened, in order: events of the applications and commits, no packets. Its hash tells two runs apart.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::world::Host;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Duration,
    /// Where.
    pub host: Host,
    /// What.
    pub what: String,
}

/// All events, and their hash.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<Event>,
    hash: Sha256,
}

impl Trace {
    /// Adds an event.
    pub fn add(&mut self, at: Duration, host: Host, what: String) {
        self.hash.update(at.as_millis().to_le_bytes());
        self.hash.update(host.number().to_le_bytes());
        self.hash.update(what.as_bytes());
        self.hash.update([0]);
        self.events.push(Event { at, host, what });
    }

    /// All events so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The hash of all events so far, in hexadecimal digits.
    pub fn hash(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, host, what } = self;
        write!(formatter, "{:>9.3}s  {host:<12}  {what}", at.as_secs_f64())
    }
}
