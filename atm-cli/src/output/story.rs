//! The story of one transaction in words: what a start found in the journal, and what it did about it.

use super::Screen;
use crate::journal::Record;

/// Tells every step. The first `found` of them were in the journal before.
pub(crate) fn tell(screen: Screen, record: &Record, steps: &[String], found: usize) {
    for (index, step) in steps.iter().enumerate() {
        let when = if index < found { "found" } else { "now" };
        screen.result(&format!("  {when:>5}: {}", sentence(record, step)));
    }
}

/// What a step meant. A name that is not known here is told as it is.
fn sentence(record: &Record, step: &str) -> String {
    let reason = record.reason.as_deref().unwrap_or("no reason known").replace('_', " ");
    let currency = record.intent.amount.currency();
    let plan = record.plan.in_words(currency);
    let money = |amount: Option<atm_types::Money>| {
        amount.map_or_else(|| "an unknown amount".to_owned(), |amount| amount.to_string())
    };
    match step {
        "INTENT" => format!("a {} of {} was about to be sent", record.intent.kind, record.intent.amount),
        "HELD" => "the bank set the money aside and signed for it".to_owned(),
        "DISPENSE_BEGUN" => format!("the device was about to be told to pay out {plan}"),
        "PRESENTED" => format!("the device presented {}", money(record.presented)),
        "NOT_PRESENTED" => "the device presented nothing, and never will".to_owned(),
        "PRESENTATION_UNKNOWN" => "the device does not know whether the notes came out".to_owned(),
        "CAPTURE_BEGUN" => {
            format!("the customer kept {}; {} went back in", record.taken(), money(record.retracted))
        }
        "RETRACT_UNCOUNTED" => "notes went back in and could not be counted".to_owned(),
        "CAPTURED" => "the bank posted it".to_owned(),
        "CAPTURE_REFUSED" | "SUSPEND_REFUSED" | "CONTRADICTED" => format!("the bank disagrees: {reason}"),
        "SUSPENDED" => "the bank froze the money until a person decides".to_owned(),
        "RESOLVED" => format!("a person decided that the customer got {}", money(record.resolved)),
        "POSTED" => "the bank posted it".to_owned(),
        "STACKED" => "the notes were stored".to_owned(),
        "RETURNED" => "the notes went back to the customer".to_owned(),
        "DECLINED" => format!("the bank declined it: {reason}"),
        "GIVEN_UP" => "it was given up; from then on it could only be cancelled".to_owned(),
        "CANCELLED" => "the bank cancelled it for good".to_owned(),
        "NOT_SENT" => "nothing of it ever left the machine".to_owned(),
        "REFUSED" => format!("the bank refused it before it could have an effect: {reason}"),
        "LOST" => "the bank has forgotten it, and only its customer could repeat it".to_owned(),
        other => other.to_lowercase().replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use atm_types::{Currency, IdSource, Money, SeededIds};

    use super::*;
    use crate::journal::{CardTag, Event, Intent, Kind};

    #[test]
    fn every_event_of_the_journal_has_a_sentence_of_its_own() {
        let intent = Intent {
            id: SeededIds::new(1).transaction_id(),
            kind: Kind::Withdrawal,
            amount: Money::new(50_000, Currency::BDT),
            card: CardTag::new(&[7; 32], "123456789"),
            to_account: None,
            trace_id: String::new(),
        };
        let record = Record::for_tests(&intent);
        let text = || "reason".to_owned();
        for event in [
            Event::Held { authorization: vec![], balance: None },
            Event::DispenseBegun {
                dispense_id: uuid::Uuid::nil(),
                plan: "1x50000".parse().unwrap(),
                cassettes: "1x50000".parse().unwrap(),
            },
            Event::Presented { amount: record.intent.amount },
            Event::NotPresented,
            Event::PresentationUnknown,
            Event::CaptureBegun { retracted: Money::zero(Currency::BDT) },
            Event::RetractUncounted,
            Event::Captured { balance: None },
            Event::CaptureRefused { reason: text() },
            Event::Suspended,
            Event::SuspendRefused { reason: text() },
            Event::Resolved { amount: record.intent.amount },
            Event::Posted { balance: None },
            Event::Declined { reason: text(), balance: None },
            Event::GivenUp { reason: text() },
            Event::Cancelled { reason: None },
            Event::NotSent,
            Event::Refused { reason: text() },
            Event::Contradicted { reason: text() },
            Event::Stacked,
            Event::Returned,
            Event::Lost { reason: text() },
        ] {
            let said = sentence(&record, event.name());
            assert_ne!(said, event.name().to_lowercase().replace('_', " "), "{event:?}");
        }
        assert!(sentence(&record, "INTENT").contains("500.00 BDT"));
    }
}
