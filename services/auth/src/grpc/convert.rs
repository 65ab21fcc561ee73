//! Between messages and domain types. What a message may not say is refused here, by the name of its field.

use std::str::FromStr;

use atm_proto::auth as proto;
use atm_rpc::status::invalid_argument;
use atm_types::{IdError, TerminalId, Timestamp};
use tonic::Status;

use crate::attempts::Press;
use crate::cards::{IssueResult, Wanted};
use crate::domain::{
    AtmId, Boot, BootError, CardId, CardNumber, OrderId, Pin, Revocation, RevocationTarget, Session,
};

/// The most cards in one request.
const MOST_CARDS: usize = 1000;

/// A log-in.
pub(super) fn log_in(request: proto::VerifyPinRequest) -> Result<(CardNumber, Pin, Press), Status> {
    // Taken over before anything is refused, so that neither text is dropped without being wiped.
    let (number, pin) = (CardNumber::parse(request.card_number), Pin::parse(request.pin));
    Ok((
        number.map_err(refused("card_number"))?,
        pin.map_err(refused("pin"))?,
        Press {
            boot: request.boot.as_ref().map(boot).transpose()?,
            ..press(&request.attempt_id, &request.atm_id, &request.terminal_id)?
        },
    ))
}

/// A change of PIN.
pub(super) fn change(request: proto::ChangePinRequest) -> Result<(CardId, (Pin, Pin), Press), Status> {
    let (old, new) = (Pin::parse(request.old_pin), Pin::parse(request.new_pin));
    Ok((
        id("card_id", &request.card_id)?,
        (old.map_err(refused("old_pin"))?, new.map_err(refused("new_pin"))?),
        press(&request.attempt_id, &request.atm_id, &request.terminal_id)?,
    ))
}

fn press(attempt_id: &str, atm_id: &str, terminal_id: &str) -> Result<Press, Status> {
    let attempt_id = id("attempt_id", attempt_id)?;
    let (atm_id, terminal_id) = place(atm_id, terminal_id)?;
    Ok(Press { attempt_id, atm_id, terminal_id, boot: None })
}

/// A machine's name and the terminal that uses it.
pub(super) fn place(atm_id: &str, terminal_id: &str) -> Result<(AtmId, TerminalId), Status> {
    let atm_id = self::atm_id(atm_id)?;
    let terminal_id = terminal_id.parse().and_then(|id| match id {
        // Nobody's hash: it stands for the holder of a service token, who has no PIN pad.
        TerminalId::SERVICE => Err(IdError::NotHex),
        id => Ok(id),
    });
    Ok((atm_id, terminal_id.map_err(refused("terminal_id"))?))
}

/// A sign-on.
pub(super) fn sign_on(request: &proto::SignOnTerminalRequest) -> Result<(AtmId, TerminalId, Boot), Status> {
    let (atm_id, terminal_id) = place(&request.atm_id, &request.terminal_id)?;
    let asked = request.boot.as_ref().ok_or_else(|| invalid_argument("boot", "is required"))?;
    Ok((atm_id, terminal_id, boot(asked)?))
}

fn boot(boot: &atm_proto::types::Boot) -> Result<Boot, Status> {
    let boot_id = id("boot.boot_id", &boot.boot_id)?;
    let previous = Some(&boot.previous_boot_id).filter(|text| !text.is_empty());
    let previous = previous.map(|text| id("boot.previous_boot_id", text)).transpose()?;
    Boot::new(boot.epoch, boot_id, previous).map_err(|error| {
        let field = match error {
            BootError::Epoch => "boot.epoch",
            BootError::Previous | BootError::OwnPredecessor => "boot.previous_boot_id",
        };
        refused(field)(error)
    })
}

/// The cards to issue: all of them are read before any is issued.
pub(super) fn cards(request: proto::IssueCardsRequest) -> Result<Vec<Wanted>, Status> {
    if !(1..=MOST_CARDS).contains(&request.cards.len()) {
        return Err(invalid_argument("cards", "must be 1 to 1000 cards"));
    }
    request.cards.into_iter().enumerate().map(|(index, card)| card_to_issue(index, card)).collect()
}

fn card_to_issue(index: usize, card: proto::CardToIssue) -> Result<Wanted, Status> {
    let field = |name: &str| format!("cards[{index}].{name}");
    let number = CardNumber::parse(card.card_number);
    let pin = if card.pin.is_empty() { None } else { Some(Pin::parse(card.pin)) };
    Ok(Wanted {
        number: number.map_err(refused(&field("card_number")))?,
        account_id: id(&field("account_id"), &card.account_id)?,
        pin: pin.transpose().map_err(refused(&field("pin")))?,
    })
}

/// An order about a card.
pub(super) fn card_order(order_id: &str, card_number: String) -> Result<(OrderId, CardNumber), Status> {
    // Taken over first, so that the text is not dropped without being wiped.
    let number = CardNumber::parse(card_number).map_err(refused("card_number"))?;
    Ok((id("order_id", order_id)?, number))
}

/// An order to forget the start of one machine, or of all.
pub(super) fn forget_start(request: &proto::ForgetStartRequest) -> Result<(OrderId, Option<AtmId>), Status> {
    let id = id("order_id", &request.order_id)?;
    match (request.all, request.atm_id.is_empty()) {
        (true, true) => Ok((id, None)),
        (true, false) => Err(invalid_argument("atm_id", "must be empty when all machines are meant")),
        (false, _) => Ok((id, Some(atm_id(&request.atm_id)?))),
    }
}

/// A machine's name.
pub(super) fn atm_id(text: &str) -> Result<AtmId, Status> {
    text.parse().map_err(refused("atm_id"))
}

/// An id of any kind.
pub(super) fn id<I: FromStr<Err = IdError>>(field: &str, text: &str) -> Result<I, Status> {
    text.parse().map_err(refused(field))
}

/// None of these errors repeats what it refuses.
fn refused<E: std::error::Error>(field: &str) -> impl FnOnce(E) -> Status + '_ {
    move |error| invalid_argument(field, &error.to_string())
}

/// A session.
pub(super) fn session(session: &Session) -> proto::Session {
    proto::Session {
        session_id: session.session_id.to_string(),
        card_id: session.card_id.to_string(),
        account_id: session.account_id.to_string(),
        atm_id: session.atm_id.to_string(),
        terminal_id: session.terminal_id.to_string(),
        issue_time: Some(timestamp(session.issue_time)),
        expire_time: Some(timestamp(session.expire_time)),
    }
}

/// What became of one card.
pub(super) fn card_result(result: IssueResult) -> proto::CardResult {
    use proto::CardResultKind::{Issued, OtherAccount, PinSet, Unchanged};
    let (kind, card_id) = match result {
        IssueResult::Issued(card_id) => (Issued, Some(card_id)),
        IssueResult::PinSet(card_id) => (PinSet, Some(card_id)),
        IssueResult::Unchanged(card_id) => (Unchanged, Some(card_id)),
        IssueResult::OtherAccount => (OtherAccount, None),
    };
    proto::CardResult {
        kind: kind.into(),
        card_id: card_id.map(|card_id| card_id.to_string()).unwrap_or_default(),
    }
}

/// A revocation.
pub(super) fn revocation(revocation: Revocation) -> proto::Revocation {
    use proto::revocation::Target;
    proto::Revocation {
        target: Some(match revocation.target {
            RevocationTarget::Session(id) => Target::SessionId(id.to_string()),
            RevocationTarget::Card(id) => Target::CardId(id.to_string()),
        }),
        revoke_time: Some(timestamp(revocation.revoke_time)),
    }
}

/// A time.
pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_seconds(), nanos: time.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use atm_rpc::status::violated_field;
    use proptest::prelude::*;

    use super::*;

    fn request() -> proto::VerifyPinRequest {
        proto::VerifyPinRequest {
            card_number: "123456789".to_owned(),
            pin: "1234".to_owned(),
            attempt_id: "018f4e9a-5b2c-7def-8123-456789abcdef".to_owned(),
            atm_id: "ATM-1".to_owned(),
            terminal_id: "a5".repeat(32),
            boot: None,
        }
    }

    #[test]
    fn each_field_at_fault_is_named() {
        type Spoil = fn(&mut proto::VerifyPinRequest);
        let cases: [(&str, Spoil); 7] = [
            ("card_number", |request| request.card_number = "1234567".to_owned()),
            ("pin", |request| request.pin = "123".to_owned()),
            ("attempt_id", |request| request.attempt_id.make_ascii_uppercase()),
            ("atm_id", |request| request.atm_id = "ATM\n1".to_owned()),
            ("terminal_id", |request| request.terminal_id.clear()),
            ("terminal_id", |request| request.terminal_id = "00".repeat(32)),
            ("terminal_id", |request| request.terminal_id = "A5".repeat(32)),
        ];
        assert!(log_in(request()).is_ok());
        for (field, spoil) in cases {
            let mut spoilt = request();
            spoil(&mut spoilt);
            let status = log_in(spoilt).err().unwrap();
            assert_eq!(violated_field(&status).as_deref(), Some(field));
        }
    }

    #[test]
    fn each_part_of_a_boot_at_fault_is_named() {
        use atm_proto::types::Boot as WireBoot;
        let (one, two) = ("018f4e9a-5b2c-7def-8123-456789abcdef", "018f4e9a-5b2c-7def-8123-456789abcdee");
        let wire = |epoch, boot_id: &str, previous: &str| WireBoot {
            epoch,
            boot_id: boot_id.to_owned(),
            previous_boot_id: previous.to_owned(),
        };
        let asked = |boot| proto::SignOnTerminalRequest {
            terminal_id: "a5".repeat(32),
            atm_id: "ATM-1".to_owned(),
            boot,
        };
        assert!(sign_on(&asked(Some(wire(1, one, "")))).is_ok());
        assert!(sign_on(&asked(Some(wire(2, one, two)))).is_ok());
        for (boot, field) in [
            (None, "boot"),
            (Some(wire(0, one, "")), "boot.epoch"),
            (Some(wire(u64::MAX, one, two)), "boot.epoch"),
            (Some(wire(1, "", "")), "boot.boot_id"),
            (Some(wire(1, &one.to_uppercase(), "")), "boot.boot_id"),
            (Some(wire(2, one, "")), "boot.previous_boot_id"),
            (Some(wire(2, one, "x")), "boot.previous_boot_id"),
            (Some(wire(2, one, one)), "boot.previous_boot_id"),
            (Some(wire(1, one, two)), "boot.previous_boot_id"),
        ] {
            let status = sign_on(&asked(boot.clone())).err().unwrap();
            assert_eq!(violated_field(&status).as_deref(), Some(field), "{boot:?}");
            if boot.is_some() {
                let status = log_in(proto::VerifyPinRequest { boot, ..request() }).err().unwrap();
                assert_eq!(violated_field(&status).as_deref(), Some(field));
            }
        }
        for (terminal_id, atm_id, field) in
            [("", "ATM-1", "terminal_id"), (&*"a5".repeat(32), "a b", "atm_id")]
        {
            let request = proto::SignOnTerminalRequest {
                terminal_id: terminal_id.to_owned(),
                atm_id: atm_id.to_owned(),
                boot: Some(wire(1, one, "")),
            };
            let status = sign_on(&request).err().unwrap();
            assert_eq!(violated_field(&status).as_deref(), Some(field));
        }
    }

    #[test]
    fn a_card_at_fault_is_named_by_its_place() {
        let good = || proto::CardToIssue {
            card_number: "12345678".to_owned(),
            account_id: "018f4e9a-5b2c-7def-8123-456789abcdef".to_owned(),
            pin: String::new(),
        };
        let bad = proto::CardToIssue { pin: "12".to_owned(), ..good() };
        let status = cards(proto::IssueCardsRequest { cards: vec![good(), bad] }).err().unwrap();
        assert_eq!(violated_field(&status).as_deref(), Some("cards[1].pin"));
        for count in [0, 1001] {
            let many = proto::IssueCardsRequest { cards: (0..count).map(|_| good()).collect() };
            assert_eq!(violated_field(&cards(many).err().unwrap()).as_deref(), Some("cards"));
        }
    }

    proptest! {
        #[test]
        fn a_refusal_never_repeats_what_it_refuses(text in "[0-9]{13,40}") {
            let spoilt = proto::VerifyPinRequest { pin: text.clone(), ..request() };
            let status = log_in(spoilt).err().unwrap();
            let printed = format!("{status:?}");
            prop_assert!(!printed.contains(&text));
        }
    }
}
