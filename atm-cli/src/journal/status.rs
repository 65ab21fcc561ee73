//! What the machine knows of itself: which start this is, which device it has, and whether it may serve.

use uuid::Uuid;

use super::machine::names;

/// One start of the machine; see `atm/type/v1/terminal.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// 1 for the first start of a new disk.
    pub(crate) epoch: u64,
    pub(crate) id: Uuid,
    /// The start before; none for the first.
    pub(crate) previous: Option<Uuid>,
}

/// Why the machine does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// The bank was restored from an older backup: it has forgotten steps that this machine has seen.
    BankWentBack,
    /// Another start of the same disk, or of a newer state of it, took this one's place.
    FencedOff,
}

names!(Outage { BankWentBack = "bank_went_back", FencedOff = "fenced_off" });

/// The machine's own row in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The last start that the bank acknowledged.
    pub(crate) current: Option<Boot>,
    /// A start that the bank has not acknowledged yet.
    pub(crate) pending: Option<Boot>,
    pub(crate) outage: Option<Outage>,
    /// The serial number of the cash device that this journal belongs to.
    pub(crate) device: Option<Uuid>,
    /// The name under which the machine got its first load; its cash is booked under this name.
    pub(crate) enrolled_as: Option<String>,
}
