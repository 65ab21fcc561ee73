//! What a machine's name is bound to.

use atm_types::TerminalId;

use super::BootMark;

/// The terminal that a machine's name belongs to, and the start that it signed on with last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// The SHA-256 of the key that the name is bound to.
    pub terminal_id: TerminalId,
    /// None until the machine signs on, or logs somebody in, naming a start.
    pub boot: Option<BootMark>,
}
