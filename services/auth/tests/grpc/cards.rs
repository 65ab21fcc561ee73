//! `IssueCards`, `BlockCard`, `UnblockCard` and `ChangePin`.

use atm_proto::auth::{BlockCardRequest, CardResultKind as Kind, IssueCardsRequest, UnblockCardRequest};
use atm_rpc::status::violated_field;
use tonic::Code;

use crate::bank::{
    Bank, CARD, NOBODYS, PIN, Refusal, WRONG, change, order_id, press, reason, to_issue, until,
};

async fn block(bank: &Bank, card: &str) -> Result<String, tonic::Status> {
    let request = BlockCardRequest { card_number: card.to_owned(), order_id: order_id() };
    bank.client().block_card(request).await.map(|answer| answer.into_inner().card_id)
}

async fn unblock(bank: &Bank, card: &str) -> Result<String, tonic::Status> {
    let request = UnblockCardRequest { card_number: card.to_owned(), order_id: order_id() };
    bank.client().unblock_card(request).await.map(|answer| answer.into_inner().card_id)
}

async fn card_id(bank: &Bank) -> String {
    bank.log_in(CARD, PIN).await.unwrap().session.unwrap().card_id
}

#[tokio::test]
async fn issuing_again_changes_nothing_and_hashes_nothing() {
    let bank = Bank::open().await;
    let (kind, first) = bank.issue(CARD, Some("9876")).await;
    let hashes = bank.hasher.count();
    assert_eq!(kind, Kind::Unchanged);
    assert_eq!(bank.issue(CARD, Some("9876")).await, (Kind::Unchanged, first));
    assert_eq!(bank.hasher.count(), hashes);
    assert!(bank.log_in(CARD, PIN).await.is_ok(), "the first PIN stays");
}

#[tokio::test]
async fn a_card_without_a_pin_is_opened_by_none_until_one_is_set_by_issuing_it_again() {
    let bank = Bank::open().await;
    let (kind, id) = bank.issue("50006000", None).await;
    assert_eq!(kind, Kind::Issued);
    assert_eq!(reason(&bank.log_in("50006000", "0000").await), "WRONG_CARD_OR_PIN");
    assert_eq!(bank.issue("50006000", None).await, (Kind::Unchanged, id.clone()));
    assert_eq!(bank.issue("50006000", Some("2468")).await, (Kind::PinSet, id));
    assert!(bank.log_in("50006000", "2468").await.is_ok());
}

#[tokio::test]
async fn each_card_has_its_own_result_in_order_and_another_accounts_card_is_left_alone() {
    let bank = Bank::open().await;
    let cards = vec![
        to_issue("70000001", "A", Some("1111")),
        to_issue(CARD, "somebody else", Some("1111")),
        to_issue("70000001", "A", Some("2222")),
        to_issue("70000002", "B", None),
        to_issue("70000002", "B", Some("3333")),
        to_issue("70000002", "C", Some("4444")),
    ];
    let answer = bank.client().issue_cards(IssueCardsRequest { cards }).await.unwrap().into_inner();
    let kinds: Vec<_> = answer.results.iter().map(atm_proto::auth::CardResult::kind).collect();
    assert_eq!(
        kinds,
        [Kind::Issued, Kind::OtherAccount, Kind::Unchanged, Kind::Issued, Kind::PinSet, Kind::OtherAccount]
    );
    assert_eq!(answer.results[0].card_id, answer.results[2].card_id);
    assert_eq!(answer.results[3].card_id, answer.results[4].card_id);
    assert!(answer.results[1].card_id.is_empty() && answer.results[5].card_id.is_empty());
    assert!(bank.log_in("70000001", "1111").await.is_ok());
    assert!(bank.log_in("70000002", "3333").await.is_ok());
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

#[tokio::test]
async fn a_thousand_cards_with_the_longest_fields_fit_into_one_call() {
    let bank = Bank::open().await;
    let cards = |pin| (0..1000).map(|n| to_issue(&format!("8000000000000{n:06}"), "A", pin)).collect();
    let request = IssueCardsRequest { cards: cards(Some("123456789012")) };
    assert!(prost::Message::encoded_len(&request) > 64 * 1024);
    let answer = bank.client().issue_cards(request).await.unwrap().into_inner();
    assert!(answer.results.iter().all(|result| result.kind() == Kind::Issued));
    let hashes = bank.hasher.count();
    let request = IssueCardsRequest { cards: cards(Some("123456789012")) };
    let again = bank.client().issue_cards(request).await.unwrap().into_inner();
    assert!(
        again
            .results
            .iter()
            .zip(&answer.results)
            .all(|(again, first)| { again.kind() == Kind::Unchanged && again.card_id == first.card_id })
    );
    assert_eq!(bank.hasher.count(), hashes);
}

#[tokio::test]
async fn nothing_is_issued_when_one_card_of_the_call_is_malformed() {
    let bank = Bank::open().await;
    let cards = vec![to_issue("70000001", "A", None), to_issue("7000", "A", None)];
    let refused = bank.client().issue_cards(IssueCardsRequest { cards }).await.refused();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(violated_field(&refused).as_deref(), Some("cards[1].card_number"));
    assert_eq!(bank.issue("70000001", None).await.0, Kind::Issued);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_leaves_a_permit_to_those_who_log_in() {
    let bank = Bank::open().await;
    bank.hasher.close(Some("7777"));
    let mut client = bank.client();
    let cards = (0..20).map(|n| to_issue(&format!("7100{n:04}"), "A", Some("7777"))).collect();
    let import = tokio::spawn(async move { client.issue_cards(IssueCardsRequest { cards }).await });
    until("the import is hashing", || bank.hasher.waiting() == 1).await;
    for _ in 0..5 {
        assert!(bank.log_in(CARD, PIN).await.is_ok());
    }
    assert_eq!(bank.hasher.waiting(), 1);
    bank.hasher.open();
    assert_eq!(import.await.unwrap().unwrap().into_inner().results.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_cut_off_goes_on_where_it_was() {
    let bank = Bank::open().await;
    let cards = |pin| (0..40).map(|n| to_issue(&format!("7200{n:04}"), "A", Some(pin))).collect();
    let mut client = bank.client();
    // The gate holds what comes after the first batch of 32.
    bank.hasher.close_after(32);
    let cut = IssueCardsRequest { cards: cards("7777") };
    let import = tokio::spawn(async move { client.issue_cards(cut).await });
    until("the first batch is hashed", || bank.hasher.waiting() > 0).await;
    import.abort();
    let _ = import.await;
    bank.hasher.open();
    let again = IssueCardsRequest { cards: cards("7777") };
    let answer = bank.client().issue_cards(again).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 40);
    for result in answer.results {
        assert!(matches!(result.kind(), Kind::Issued | Kind::Unchanged));
        assert!(!result.card_id.is_empty());
    }
    assert!(bank.log_in("72000039", "7777").await.is_ok());
}

#[tokio::test]
async fn only_the_holder_of_a_blocked_card_is_told_and_unblocking_brings_it_back() {
    let bank = Bank::open().await;
    let blocked = block(&bank, CARD).await.unwrap();
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN");
    let refused = bank.log_in(CARD, PIN).await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "CARD_BLOCKED");
    assert_eq!(block(&bank, CARD).await.unwrap(), blocked, "blocking twice is no error");
    assert_eq!(unblock(&bank, CARD).await.unwrap(), blocked);
    assert_eq!(card_id(&bank).await, blocked);
}

#[tokio::test]
async fn a_log_in_repeated_after_the_block_gets_no_dead_session() {
    let bank = Bank::open().await;
    let request = press(CARD, PIN);
    bank.send(request.clone()).await.unwrap();
    block(&bank, CARD).await.unwrap();
    assert_eq!(reason(&bank.send(request).await), "CARD_BLOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_during_a_verification_is_seen_by_it() {
    let bank = Bank::open().await;
    bank.hasher.close(None);
    let mut client = bank.client();
    let log_in = tokio::spawn(async move { client.verify_pin(press(CARD, PIN)).await });
    until("the PIN is being verified", || bank.hasher.waiting() == 1).await;
    block(&bank, CARD).await.unwrap();
    bank.hasher.open();
    assert_eq!(reason(&log_in.await.unwrap()), "CARD_BLOCKED");
}

#[tokio::test]
async fn operators_are_told_which_cards_do_not_exist() {
    let bank = Bank::open().await;
    for answer in [block(&bank, NOBODYS).await, unblock(&bank, NOBODYS).await] {
        assert_eq!(answer.code(), Code::NotFound);
    }
    for answer in [block(&bank, "12").await, unblock(&bank, "x").await] {
        assert_eq!(answer.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_changed_pin_works_at_once_and_the_old_one_no_longer() {
    let bank = Bank::open().await;
    let id = card_id(&bank).await;
    bank.client().change_pin(change(&id, PIN, "567890")).await.unwrap();
    assert_eq!(reason(&bank.log_in(CARD, PIN).await), "WRONG_CARD_OR_PIN");
    assert!(bank.log_in(CARD, "567890").await.is_ok());
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_repeated_without_harm() {
    let bank = Bank::open().await;
    let id = card_id(&bank).await;
    let request = change(&id, PIN, "567890");
    bank.client().change_pin(request.clone()).await.unwrap();
    let hashes = bank.hasher.count();
    for _ in 0..5 {
        bank.client().change_pin(request.clone()).await.unwrap();
    }
    assert_eq!(bank.hasher.count(), hashes);
    // The same key press with other PINs is another attempt, and the old PIN is not right any more.
    let mut other = request;
    other.new_pin = "111111".to_owned();
    assert_eq!(reason(&bank.client().change_pin(other).await), "WRONG_CARD_OR_PIN");
    assert!(bank.log_in(CARD, "567890").await.is_ok());
}

#[tokio::test]
async fn wrong_old_pins_lock_the_card_together_with_wrong_log_ins() {
    let bank = Bank::open().await;
    let id = card_id(&bank).await;
    let wrong = bank.client().change_pin(change(&id, WRONG, "5678")).await;
    assert_eq!(reason(&wrong), "WRONG_CARD_OR_PIN");
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN");
    let third = bank.client().change_pin(change(&id, WRONG, "5678")).await;
    assert_eq!(reason(&third), "CARD_LOCKED");
    assert_eq!(reason(&bank.client().change_pin(change(&id, PIN, "5678")).await), "CARD_LOCKED");
    assert_eq!(reason(&bank.log_in(CARD, PIN).await), "CARD_LOCKED");
}

#[tokio::test]
async fn a_blocked_or_unknown_card_changes_no_pin() {
    let bank = Bank::open().await;
    let id = card_id(&bank).await;
    block(&bank, CARD).await.unwrap();
    assert_eq!(reason(&bank.client().change_pin(change(&id, PIN, "5678")).await), "CARD_BLOCKED");
    unblock(&bank, CARD).await.unwrap();
    assert!(bank.log_in(CARD, PIN).await.is_ok());
    let nobodys = "018f4e9a-5b2c-7def-8123-456789abcdef";
    let before = bank.hasher.count();
    for expected in ["WRONG_CARD_OR_PIN", "WRONG_CARD_OR_PIN", "CARD_LOCKED", "CARD_LOCKED"] {
        assert_eq!(reason(&bank.client().change_pin(change(nobodys, PIN, "5678")).await), expected);
    }
    assert_eq!(bank.hasher.count() - before, 3);
}

#[tokio::test]
async fn row_11_a_malformed_new_pin_is_refused_before_anything_is_counted() {
    let bank = Bank::open().await;
    let id = card_id(&bank).await;
    let hashes = bank.hasher.count();
    let refused = bank.client().change_pin(change(&id, PIN, "12x4")).await.refused();
    assert_eq!(violated_field(&refused).as_deref(), Some("new_pin"));
    let refused = bank.client().change_pin(change(&id, "1", "1234")).await.refused();
    assert_eq!(violated_field(&refused).as_deref(), Some("old_pin"));
    assert_eq!(bank.hasher.count(), hashes);
}

#[tokio::test]
async fn a_late_copy_of_an_order_about_a_card_changes_nothing_and_is_answered_as_the_order_was() {
    let mut bank = Bank::open().await;
    let order = UnblockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    let block = BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    let blocked = bank.client().block_card(block.clone()).await.unwrap().into_inner();
    let unblocked = bank.client().unblock_card(order.clone()).await.unwrap().into_inner();
    for _ in 0..3 {
        bank.log_in(CARD, WRONG).await.refused();
    }
    bank.stop().await.unwrap();
    bank.start_again().await;
    let again = bank.client().unblock_card(order.clone()).await.unwrap().into_inner();
    assert_eq!(again.card_id, unblocked.card_id);
    assert_eq!(reason(&bank.log_in(CARD, PIN).await), "CARD_LOCKED", "no guess was given back");

    unblock(&bank, CARD).await.unwrap();
    let session = bank.log_in(CARD, PIN).await.unwrap().session.unwrap();
    bank.clock.advance(std::time::Duration::from_secs(1));
    let again = bank.client().block_card(block.clone()).await.unwrap().into_inner();
    assert_eq!((again.revoke_time, again.card_id), (blocked.revoke_time, blocked.card_id));
    let order_of = |time: prost_types::Timestamp| (time.seconds, time.nanos);
    assert!(order_of(session.issue_time.unwrap()) > order_of(again.revoke_time.unwrap()));
    assert!(bank.log_in(CARD, PIN).await.is_ok(), "it is not blocked again");
}

#[tokio::test]
async fn an_order_id_stands_for_one_order_and_is_required() {
    let bank = Bank::open().await;
    let id = order_id();
    let nobodys = BlockCardRequest { card_number: NOBODYS.to_owned(), order_id: id.clone() };
    for _ in 0..2 {
        assert_eq!(reason(&bank.client().block_card(nobodys.clone()).await), "CARD_NOT_FOUND");
    }
    // Not even when the card is issued meanwhile.
    bank.issue(NOBODYS, Some(PIN)).await;
    assert_eq!(reason(&bank.client().block_card(nobodys).await), "CARD_NOT_FOUND");
    assert!(bank.log_in(NOBODYS, PIN).await.is_ok());

    let other_card = BlockCardRequest { card_number: CARD.to_owned(), order_id: id.clone() };
    assert_eq!(reason(&bank.client().block_card(other_card).await), "ORDER_ID_REUSED");
    let other_order = UnblockCardRequest { card_number: NOBODYS.to_owned(), order_id: id };
    assert_eq!(reason(&bank.client().unblock_card(other_order).await), "ORDER_ID_REUSED");
    for order_id in ["", "ABC"] {
        let request = BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id.to_owned() };
        let refused = bank.client().block_card(request).await.unwrap_err();
        assert_eq!(violated_field(&refused).as_deref(), Some("order_id"));
    }
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}
