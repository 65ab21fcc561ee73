//! What a simulated device can be told to do wrong with its next dispense.

use super::Step;

/// One misfortune. It is kept in the device's memory until a dispense begins, and happens to that one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A note jams while notes are picked: what was picked goes to the reject bin.
    JamPick,
    /// The bundle jams on its way to the shutter.
    JamStack,
    /// The shutter does not open.
    JamPresent,
    /// Half of the notes stick together and are rejected; the rest is stacked.
    Short,
    /// The power goes right after the command was understood.
    PowerAfterAccept,
    /// The power goes when the notes have left their cassettes.
    PowerAfterPick,
    /// The power goes when the bundle is behind the shutter.
    PowerAfterStack,
    /// The power goes while the shutter moves: the device does not know on which side the notes are.
    PowerWhilePresenting,
    /// The power goes when the customer has access.
    PowerAfterPresent,
    /// The power goes when the customer has taken the notes.
    PowerAfterTake,
    /// The customer takes nothing; it is taken back and counted.
    NotTaken,
    /// The customer takes half; the rest is taken back and counted.
    PartlyTaken,
    /// The customer takes half; the rest is taken back, but the counter fails.
    NotTakenUncounted,
    /// The notes come out, but the sensor at the shutter is dead: the device does not know.
    StatusUnknown,
}

impl Fault {
    pub(crate) const ALL: &'static [(Self, &'static str)] = &[
        (Self::None, "none"),
        (Self::JamPick, "jam-pick"),
        (Self::JamStack, "jam-stack"),
        (Self::JamPresent, "jam-present"),
        (Self::Short, "short"),
        (Self::PowerAfterAccept, "power-after-accept"),
        (Self::PowerAfterPick, "power-after-pick"),
        (Self::PowerAfterStack, "power-after-stack"),
        (Self::PowerWhilePresenting, "power-while-presenting"),
        (Self::PowerAfterPresent, "power-after-present"),
        (Self::PowerAfterTake, "power-after-take"),
        (Self::NotTaken, "not-taken"),
        (Self::PartlyTaken, "partly-taken"),
        (Self::NotTakenUncounted, "not-taken-uncounted"),
        (Self::StatusUnknown, "status-unknown"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, _)| *fault == self).map_or("none", |(_, name)| name)
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(fault, _)| *fault)
    }

    /// Whether the power goes once this step is in the device's memory.
    pub(super) fn takes_the_power_after(self, step: Step) -> bool {
        matches!(
            (self, step),
            (Self::PowerAfterAccept, Step::Accepted)
                | (Self::PowerAfterPick, Step::Picked)
                | (Self::PowerAfterStack, Step::Stacked)
                | (Self::PowerWhilePresenting, Step::Presenting)
                | (Self::PowerAfterPresent, Step::Presented)
                | (Self::PowerAfterTake, Step::Taken)
        )
    }
}
