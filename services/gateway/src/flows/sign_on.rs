//! Sign-on: a machine that started says so before it does anything else.

use atm_proto::auth::SignOnTerminalRequest;
use atm_proto::gateway::{SignOnRequest, SignOnResponse};
use atm_proto::ledger::ListEntriesRequest;

use crate::caller::Terminal;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::request;
use crate::terminal::AtmId;
use crate::upstream::Asked;

/// Lets this start of the machine go on, or refuses it for good, and says how far the books go.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TerminalMismatch`], [`Failure::StaleBoot`], and those of an upstream.
pub async fn sign_on(
    gateway: &Gateway,
    terminal: &Terminal,
    request: SignOnRequest,
) -> Result<SignOnResponse, Failure> {
    let atm_id: AtmId = request.atm_id.parse()?;
    request::boot(request.boot.as_ref().ok_or_else(|| Failure::invalid("boot", "is required"))?)?;
    if terminal.atm_id.as_ref().is_some_and(|said| *said != atm_id) {
        return Err(Failure::TerminalMismatch);
    }
    let asked = SignOnTerminalRequest {
        terminal_id: terminal.id.to_string(),
        atm_id: atm_id.to_string(),
        boot: request.boot,
    };
    let bound = gateway.auth.sign_on_terminal(terminal.deadline, asked).await?.bound;
    // The head of the books is told beside any page of them, and the first page of one step costs the least.
    let page = ListEntriesRequest { after_sequence: 0, page_size: 1 };
    let books = gateway.ledger.list_entries(terminal.deadline, Asked::Books, page).await;
    let books = books.map_err(Failure::after_a_part)?;
    Ok(SignOnResponse {
        bound,
        commit_sequence: books.last_sequence,
        currency_code: gateway.currency.to_string(),
    })
}
