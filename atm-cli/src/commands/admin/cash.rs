//! What the commands about a machine's cash share: the opened machine, places and notes as people type them, and the
//! bank that is told until it has said yes.

use atm_rpc::deadline::Deadline;
use atm_types::{Currency, Money, TransactionId};
use serde::Serialize;
use tonic::Code;

use super::super::Context;
use crate::client::{AdminClient, read_failure};
use crate::device::{MOST_NOTES, denominations};
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine};
use crate::journal::{self, Account, Counts, Movement, MovementState};

/// The places that hold notes, in the order in which they are shown.
pub(super) const PLACES: [Account; 4] =
    [Account::Cassettes, Account::Reject, Account::Retract, Account::Deposit];

/// Opens this machine for its operators. Nothing is made where there was no machine; at one that is fenced off nothing
/// is done.
pub(super) fn open(context: &Context) -> Result<Machine, Failure> {
    if !context.has_journal()? {
        return Err(Failure::new(
            Exit::Unavailable,
            "not_enrolled",
            "there is no machine in this state directory; give --state DIR. Nothing was done",
        ));
    }
    let terminal = context.terminal()?;
    let mut machine = context.machine(&terminal)?;
    if machine.currency != context.global.currency {
        let message = format!("the notes in this machine are {}; give --currency", machine.currency);
        return Err(Failure::new(Exit::WrongUse, "other_currency", message));
    }
    machine.check_for_operators()?;
    if !machine.is_fenced_off().map_err(|error| flow::journal_before(&error))? {
        machine.finish_loads().map_err(|error| flow::journal_before(&error))?;
    }
    Ok(machine)
}

/// The machine in the state directory, if there is one; whatever it is called, and whether it may serve or not.
pub(super) fn own_machine(context: &Context) -> Result<Option<Machine>, Failure> {
    if !context.has_journal()? {
        return Ok(None);
    }
    let terminal = context.terminal()?;
    context.machine(&terminal).map(Some)
}

/// Signs on, and asks the bank for something harmless, before anything is moved: is this disk the one that may go on,
/// is the bank there, and does it take this token?
pub(super) async fn check_bank(
    context: &Context,
    machine: &mut Machine,
    client: &AdminClient,
) -> Result<(), Failure> {
    machine.sign_on(Deadline::after(context.global.deadline)).await?;
    machine.finish_loads().map_err(|error| flow::journal_before(&error))?;
    let answer = client.cash_position(machine.bank.atm_id(), context.global.deadline).await;
    let currency = answer.map_err(|error| read_failure(&error))?.currency_code;
    if currency == machine.currency.code() {
        return Ok(());
    }
    let message =
        format!("the bank works in {currency}, and the notes in this machine are {}", machine.currency);
    Err(Failure::new(Exit::WrongUse, "other_currency", message))
}

/// `cassettes`, `reject`, `retract` or `deposit`.
pub(super) fn place(text: &str) -> Result<Account, Failure> {
    PLACES.into_iter().find(|place| place.name() == text).ok_or_else(|| {
        Failure::invalid(format!("{text:?} is no place; there are cassettes, reject, retract and deposit"))
    })
}

/// `1000`: a note that the machine handles, in minor units.
pub(super) fn denomination(text: &str, currency: Currency) -> Result<i64, Failure> {
    let worth = Money::parse(text, currency).ok().map(Money::minor_units);
    worth.filter(|worth| denominations(currency).any(|known| known == *worth)).ok_or_else(|| {
        let known: Vec<String> = denominations(currency).map(|known| in_short(known, currency)).collect();
        Failure::invalid(format!("there is no cassette for {text:?}; there are {}", known.join(", ")))
    })
}

/// How many notes: 0 to what a place holds.
pub(super) fn count(text: &str) -> Result<u32, Failure> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|count| digits && *count <= MOST_NOTES).ok_or_else(|| {
        Failure::invalid(format!(
            "{text:?} is no count of notes: it must be a whole number, 0 to {MOST_NOTES}"
        ))
    })
}

/// A denomination as people say it: `1000`, not `1000.00`.
pub(super) fn in_short(denomination: i64, currency: Currency) -> String {
    let decimal = Money::new(denomination, currency).to_decimal();
    match decimal.split_once('.') {
        Some((whole, rest)) if rest.bytes().all(|byte| byte == b'0') => whole.to_owned(),
        Some(_) | None => decimal,
    }
}

/// More and fewer notes, in words: `+2 x 500, -1 x 100`.
pub(super) fn in_words(counts: &Counts, currency: Currency) -> String {
    let words = counts.iter().map(|(denomination, count)| {
        format!("{}{count} x {}", if count > 0 { "+" } else { "" }, in_short(denomination, currency))
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// One denomination in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct NoteKeys {
    pub(super) denomination: String,
    pub(super) count: i64,
}

pub(super) fn keys(counts: &Counts, currency: Currency) -> Vec<NoteKeys> {
    let key = |(denomination, count)| NoteKeys { denomination: in_short(denomination, currency), count };
    counts.iter().map(key).collect()
}

/// A movement in JSON.
#[derive(Debug, Serialize)]
pub(super) struct MovementKeys {
    transaction_id: String,
    from: &'static str,
    to: &'static str,
    amount: String,
    currency: String,
    notes: Vec<NoteKeys>,
    /// `posted`, `pending` or `refused`: what the bank knows of it.
    state: &'static str,
    reason: Option<String>,
}

impl MovementKeys {
    /// `500.00 BDT from cassettes to suspense (posted)`.
    pub(super) fn in_words(&self) -> String {
        format!("{} {} from {} to {} ({})", self.amount, self.currency, self.from, self.to, self.state)
    }

    pub(super) fn of(movement: &Movement) -> Self {
        let currency = movement.amount.currency();
        Self {
            transaction_id: movement.id.to_string(),
            from: movement.from.name(),
            to: movement.to.name(),
            amount: movement.amount.to_decimal(),
            currency: currency.to_string(),
            notes: keys(&Counts::of_notes(&movement.notes), currency),
            state: match movement.state {
                MovementState::Posted | MovementState::OperatorPosted => "posted",
                MovementState::Pending | MovementState::OperatorPending => "pending",
                MovementState::Refused => "refused",
            },
            reason: movement.reason.clone(),
        }
    }
}

/// The movement that this command is about, if an earlier run of it has begun: by its id, or, without one, the same
/// movement that the bank does not know yet.
pub(super) async fn begun_before(
    machine: &Machine,
    client: &AdminClient,
    id: Option<TransactionId>,
    is_the_same: impl Fn(&Movement) -> bool,
) -> Result<Option<Movement>, Failure> {
    let before = |error| flow::journal_before(&error);
    let Some(id) = id else {
        let pending = machine.journal.operators_movements().map_err(before)?;
        return Ok(pending.into_iter().find(is_the_same));
    };
    let known = machine.journal.all_movements().map_err(before)?.into_iter().find(|known| known.id == id);
    if let Some(known) = known {
        return if is_the_same(&known) { Ok(Some(known)) } else { Err(id_reused(id)) };
    }
    if machine.journal.find(id).map_err(before)?.is_some() {
        return Err(id_reused(id));
    }
    match client.inspect(id).await {
        Ok(_) => Err(id_reused(id)),
        Err(error) if error.status.code() == Code::NotFound => Ok(None),
        Err(error) => Err(read_failure(&error)),
    }
}

fn id_reused(id: TransactionId) -> Failure {
    Failure::new(
        Exit::WrongUse,
        "id_reused",
        format!("transaction {id} is something else already; nothing was moved"),
    )
}

/// Journals a movement and does it in the device.
pub(super) fn move_notes(machine: &mut Machine, movement: &Movement) -> Result<(), Failure> {
    machine.move_by_operators(movement).map_err(|error| {
        let message = format!(
            "{error}. Whether cash movement {} was begun is not known; run the same command again, it goes on where \
             this one stopped",
            movement.id
        );
        Failure::new(Exit::Unknown, "journal", message)
    })
}

/// Tells the bank of all that operators moved, these movements among them, and says what became of it.
pub(super) async fn tell(
    context: &Context,
    machine: &mut Machine,
    client: &AdminClient,
    own: &[TransactionId],
) -> Result<(Exit, Vec<MovementKeys>), Failure> {
    let unknown = |error: journal::JournalError| {
        let message = format!("{error}. Run the same command again, it goes on where this one stopped");
        Failure::new(Exit::Unknown, "journal", message)
    };
    let told = machine.tell_for_operators(client).await.map_err(unknown)?;
    for movement in told.posted.iter().filter(|movement| !own.contains(&movement.id)) {
        context.screen.note(&format!(
            "An earlier movement, {}, of {} from {} to {} is in the books now.",
            movement.id, movement.amount, movement.from, movement.to
        ));
    }
    for (movement, reason) in &told.refused {
        context.screen.alarm(&format!(
            "cash movement {} of {} from {} to {} was refused by the bank ({reason}); a person must look",
            movement.id, movement.amount, movement.from, movement.to
        ));
    }
    if let Some((movement, reason)) = &told.silent {
        context.screen.error(&format!(
            "the notes are moved and the journal knows it, but the bank has not said yes to {} of {} ({reason}). Run \
             `atm-cli recover --operator-token-file FILE`: the notes are not moved again, and the books follow",
            movement.id, movement.amount
        ));
    }
    let all = machine.journal.all_movements().map_err(unknown)?;
    let own: Vec<&Movement> = all.iter().filter(|movement| own.contains(&movement.id)).collect();
    let is = |state| own.iter().any(|movement| movement.state == state);
    let exit = if is(MovementState::OperatorPending) {
        Exit::Unknown
    } else if is(MovementState::Refused) || !told.refused.is_empty() {
        Exit::Declined
    } else if told.silent.is_some() {
        Exit::Unknown
    } else {
        Exit::Done
    };
    Ok((exit, own.into_iter().map(MovementKeys::of).collect()))
}
