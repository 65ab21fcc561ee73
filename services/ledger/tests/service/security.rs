//! The rows of the table of bad inputs that concern the ledger and can be seen on the wire. Rows 2, 27 and 28
//! are about processes (tests/process.rs), 20 and 22 about limits (limits.rs).

use std::collections::BTreeSet;

use atm_proto::ledger::batch_command::Command;
use atm_proto::ledger::{self as wire, AccountKind, BatchCommand, BatchExecuteRequest};
use atm_proto::types::{DeclineReason, Money, TransactionState};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::BearerToken;
use atm_rpc::status::violated_field;
use bytes::Bytes;
use prost::Message;
use tonic::{Code, Request, Status};

use crate::support::raw::{self, framed, h2_call};
use crate::support::*;

const PREFIX: &str = "/atm.ledger.v1.LedgerService/";

fn methods() -> BTreeSet<(String, bool)> {
    let set = prost_types::FileDescriptorSet::decode(atm_proto::FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.iter().filter(|file| file.package() == "atm.ledger.v1");
    let methods = files.flat_map(|file| &file.service).flat_map(|service| &service.method);
    methods.map(|method| (format!("{PREFIX}{}", method.name()), method.server_streaming())).collect()
}

fn bearer(bank: &Bank) -> String {
    let token = std::fs::read_to_string(&bank.config.service_token_file).unwrap();
    format!("Bearer {}", token.trim())
}

fn field_of(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    violated_field(status).unwrap()
}

#[tokio::test]
async fn row_03_every_method_needs_the_service_token_and_health_and_reflection_do_not() {
    let bank = Bank::open().await;
    endow(&mut bank.client(), &[("Farhan", 1_000)]).await;
    let before = last_sequence(&mut bank.client()).await;
    assert_eq!(methods().len(), 15);
    let body = framed(&post(&new_id(), &customer("Farhan"), &cash(), 1).encode_to_vec());
    let token = bearer(&bank);
    let wrong = token.replace(&token[7..9], "00");
    for (path, _) in methods() {
        for headers in [&[][..], &[("authorization", "Bearer ")], &[("authorization", wrong.as_str())]] {
            let said = h2_call(bank.address, &path, headers, body.clone()).await;
            assert_eq!(said.code, Some(Code::Unauthenticated), "{path} {said:?}");
        }
    }
    assert_eq!(last_sequence(&mut bank.client()).await, before);
    assert!(atm_rpc::server::check_health(&bank.url()).await);
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // `list_services` is field 7 of the request.
        let said = h2_call(bank.address, &path, &[], framed(&[0x3a, 0])).await;
        assert_eq!(said.code, Some(Code::Ok), "{said:?}");
    }
}

#[tokio::test]
async fn row_14_an_amount_that_is_none_names_its_field() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let before = last_sequence(&mut client).await;
    let money = |code: &str, minor_units| Some(Money { currency_code: code.to_owned(), minor_units });
    for (amount, field) in [
        (None, "amount"),
        (taka(0), "amount.minor_units"),
        (taka(-1), "amount.minor_units"),
        (taka(i64::MIN), "amount.minor_units"),
        (money("", 1), "amount.currency_code"),
        (money("bdt", 1), "amount.currency_code"),
        (money("XYZ", 1), "amount.currency_code"),
        (money("BDT\n", 1), "amount.currency_code"),
        (money("USD", 1), "amount.currency_code"),
    ] {
        let request = wire::PostTransactionRequest {
            amount: amount.clone(),
            ..post(&new_id(), &customer("Farhan"), &cash(), 1)
        };
        assert_eq!(field_of(&client.post_transaction(request).await.unwrap_err()), field, "{amount:?}");
        let request = wire::HoldTransactionRequest {
            amount: amount.clone(),
            ..hold(&new_id(), &customer("Farhan"), &cash(), 1)
        };
        assert_eq!(field_of(&client.hold_transaction(request).await.unwrap_err()), field, "{amount:?}");
    }
    let id = new_id();
    client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 10)).await.unwrap();
    for (amount, field) in
        [(None, "amount"), (taka(-1), "amount.minor_units"), (money("USD", 1), "amount.currency_code")]
    {
        let request = wire::CaptureTransactionRequest { amount, ..capture(&id, 1) };
        assert_eq!(field_of(&client.capture_transaction(request).await.unwrap_err()), field);
    }
    for (seconds, nanos) in
        [(0, 0), (0, 999_999_999), (-1, 0), (30 * 24 * 60 * 60, 1), (i64::MAX, 0), (i64::MIN, -1)]
    {
        let lifetime = Some(prost_types::Duration { seconds, nanos });
        let request =
            wire::HoldTransactionRequest { lifetime, ..hold(&new_id(), &customer("Farhan"), &cash(), 1) };
        assert_eq!(field_of(&client.hold_transaction(request).await.unwrap_err()), "lifetime");
    }
    assert_eq!(last_sequence(&mut client).await, before + 1, "only the one good hold is recorded");
}

#[tokio::test]
async fn row_15_what_the_account_cannot_bear_is_a_recorded_decline_and_no_error() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Ayesha", 0)]).await;
    let mut limited = account(customer("Farhan"), AccountKind::Customer);
    limited.account.as_mut().unwrap().daily_withdrawal_limit_minor_units = 500;
    client.open_account(limited).await.unwrap();
    client.post_transaction(post(&new_id(), &opening(), &customer("Farhan"), 1_000)).await.unwrap();
    client
        .post_transaction(post(&new_id(), &opening(), &customer("Ayesha"), i64::MAX - 10_000))
        .await
        .unwrap();
    let (farhan, ayesha) = (customer("Farhan"), customer("Ayesha"));
    for (credit, amount, reason, left) in [
        (cash(), 1_001, DeclineReason::InsufficientFunds, 1_000),
        (cash(), 501, DeclineReason::DailyLimitExceeded, 500),
        (ayesha.clone(), i64::MAX, DeclineReason::BalanceOverflow, 0),
    ] {
        let request = hold(&new_id(), &farhan, &credit, amount);
        let first = client.hold_transaction(request.clone()).await.unwrap().into_inner();
        let decline = first.outcome.as_ref().unwrap().decline.unwrap();
        assert_eq!((decline.reason(), decline.available_minor_units), (reason, left));
        assert_eq!(first.current_state(), TransactionState::Declined);
        assert_eq!(client.hold_transaction(request).await.unwrap().into_inner(), first);
    }
    assert_eq!(balance(&mut client, farhan).await, (1_000, 1_000));
}

#[tokio::test]
async fn row_16_a_malformed_id_is_refused_and_an_id_used_again_is_answered_or_named() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000), ("Ayesha", 0)]).await;
    let id = new_id();
    let good = hold(&id, &customer("Farhan"), &cash(), 100);
    for text in [
        "",
        "1",
        "00000000-0000-0000-0000-000000000000",
        &id.to_uppercase(),
        &id.replace('-', ""),
        &format!("{id} "),
    ] {
        let text = text.to_owned();
        let request = wire::HoldTransactionRequest { transaction_id: text.clone(), ..good.clone() };
        assert_eq!(field_of(&client.hold_transaction(request).await.unwrap_err()), "transaction_id");
        assert_eq!(
            field_of(&client.capture_transaction(capture(&text, 1)).await.unwrap_err()),
            "transaction_id"
        );
        assert_eq!(field_of(&client.cancel_transaction(cancel(&text)).await.unwrap_err()), "transaction_id");
        let request = wire::GetTransactionRequest { transaction_id: text.clone() };
        assert_eq!(field_of(&client.get_transaction(request).await.unwrap_err()), "transaction_id");
        let request = wire::HoldTransactionRequest { debit_account_id: text.clone(), ..good.clone() };
        assert_eq!(field_of(&client.hold_transaction(request).await.unwrap_err()), "debit_account_id");
        let request = wire::HoldTransactionRequest { credit_account_id: text.clone(), ..good.clone() };
        assert_eq!(field_of(&client.hold_transaction(request).await.unwrap_err()), "credit_account_id");
        assert_eq!(
            field_of(&client.get_account(wire::GetAccountRequest { account_id: text }).await.unwrap_err()),
            "account_id"
        );
    }
    let request = wire::HoldTransactionRequest { terminal_id: "5ec0de".to_owned(), ..good.clone() };
    assert_eq!(field_of(&client.hold_transaction(request).await.unwrap_err()), "terminal_id");
    let request =
        wire::HoldTransactionRequest { credit_account_id: good.debit_account_id.clone(), ..good.clone() };
    assert_eq!(field_of(&client.hold_transaction(request).await.unwrap_err()), "credit_account_id");

    let first = client.hold_transaction(good.clone()).await.unwrap().into_inner();
    assert_eq!(client.hold_transaction(good.clone()).await.unwrap().into_inner(), first);
    let before = (last_sequence(&mut client).await, balance(&mut client, customer("Farhan")).await);
    let changed = [
        (wire::HoldTransactionRequest { amount: taka(101), ..good.clone() }, "amount.minor_units"),
        (
            wire::HoldTransactionRequest { credit_account_id: customer("Ayesha"), ..good.clone() },
            "credit_account_id",
        ),
        (
            wire::HoldTransactionRequest { debit_account_id: customer("Ayesha"), ..good.clone() },
            "debit_account_id",
        ),
        // Another caller's id: nothing else is told about it.
        (
            wire::HoldTransactionRequest {
                terminal_id: STRANGER.to_owned(),
                amount: taka(7),
                ..good.clone()
            },
            "transaction_id",
        ),
    ];
    for (request, field) in changed {
        let status = client.hold_transaction(request).await.unwrap_err();
        assert_eq!((status.code(), reused_field(&status).as_str()), (Code::AlreadyExists, field));
    }
    let status = client.post_transaction(post(&id, &customer("Farhan"), &cash(), 100)).await.unwrap_err();
    assert_eq!(reused_field(&status), "kind");
    client.capture_transaction(capture(&id, 60)).await.unwrap();
    let status = client.capture_transaction(capture(&id, 61)).await.unwrap_err();
    assert_eq!(reused_field(&status), "amount.minor_units");
    assert_eq!(last_sequence(&mut client).await, before.0 + 1);
    // The lifetime is not part of what makes two requests the same.
    let lifetime = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let again = client.hold_transaction(wire::HoldTransactionRequest { lifetime, ..good }).await.unwrap();
    assert_eq!(again.into_inner().outcome, first.outcome);
}

#[tokio::test]
async fn row_17_a_capture_above_the_hold_a_cancel_after_the_capture_and_another_terminals_hold() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let id = new_id();
    client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 100)).await.unwrap();
    let state_of = |status: &Status| {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        tonic_types::StatusExt::get_details_error_info(status).unwrap().metadata["state"].clone()
    };
    let above = client.capture_transaction(capture(&id, 101)).await.unwrap_err();
    assert_eq!(state_of(&above), "TRANSACTION_STATE_HELD");
    let foreign = wire::CaptureTransactionRequest { terminal_id: STRANGER.to_owned(), ..capture(&id, 100) };
    assert_eq!(client.capture_transaction(foreign).await.unwrap_err().code(), Code::NotFound);
    let foreign = wire::CancelTransactionRequest { terminal_id: STRANGER.to_owned(), ..cancel(&id) };
    assert_eq!(client.cancel_transaction(foreign).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (1_000, 900));

    let captured = client.capture_transaction(capture(&id, 100)).await.unwrap().into_inner();
    let cancelled = client.cancel_transaction(cancel(&id)).await.unwrap().into_inner();
    assert_eq!(
        (cancelled.current_state(), cancelled.outcome),
        (TransactionState::Captured, captured.outcome)
    );
    let (posted, declined) = (new_id(), new_id());
    client.post_transaction(post(&posted, &customer("Farhan"), &cash(), 100)).await.unwrap();
    client.post_transaction(post(&declined, &customer("Farhan"), &cash(), 100_000)).await.unwrap();
    let status = client.capture_transaction(capture(&posted, 100)).await.unwrap_err();
    assert_eq!(state_of(&status), "TRANSACTION_STATE_POSTED");
    let status = client.capture_transaction(capture(&declined, 100)).await.unwrap_err();
    assert_eq!(state_of(&status), "TRANSACTION_STATE_DECLINED");
}

#[tokio::test]
async fn row_18_a_message_over_its_limit_is_refused_by_its_length_alone() {
    let bank = Bank::open().await;
    let token = bearer(&bank);
    let headers = [("authorization", token.as_str())];
    let refused = |said: &raw::Said| matches!(said.code, Some(Code::OutOfRange | Code::ResourceExhausted));
    for (path, _) in methods() {
        let limit = if path.ends_with("/BatchExecute") { 2 * 1024 * 1024 } else { 64 * 1024 };
        // Only the length is sent: whoever made room for the message, or waited for it, would not answer.
        for length in [limit + 1, u32::MAX] {
            let announced = Bytes::from([&[0][..], &length.to_be_bytes()].concat());
            let said = soon(h2_call(bank.address, &path, &headers, announced)).await;
            assert!(refused(&said), "{path} {length} {said:?}");
        }
        // An unknown field that just fits is read and skipped: the message fails for what is missing in it.
        let filler = limit as usize - 5;
        let mut message = vec![0xfa, 0xff, 0x03];
        prost::encoding::encode_varint(filler as u64 - 2, &mut message);
        message.resize(limit as usize, 0);
        let said = soon(h2_call(bank.address, &path, &headers, framed(&message))).await;
        assert!(!refused(&said), "{path} {said:?}");
    }
}

#[tokio::test]
async fn row_19_bytes_that_are_no_message_and_methods_that_are_not_there() {
    let bank = Bank::open().await;
    let token = bearer(&bank);
    let headers = [("authorization", token.as_str())];
    for (path, _) in methods() {
        // A length-delimited field that is longer than the message.
        let said = h2_call(bank.address, &path, &headers, framed(&[0x0a, 0x7f, 0x01])).await;
        assert_eq!(said.code, Some(Code::Internal), "{path} {said:?}");
        // Text that is not UTF-8, in the first field of most requests.
        if ["PostTransaction", "GetAccount"].iter().any(|method| path.ends_with(method)) {
            let said = h2_call(bank.address, &path, &headers, framed(&[0x0a, 0x02, 0xff, 0xfe])).await;
            assert_eq!(said.code, Some(Code::Internal), "{path} {said:?}");
        }
    }
    for path in
        [format!("{PREFIX}PrintMoney"), "/atm.ledger.v2.LedgerService/GetAccount".to_owned(), "/".to_owned()]
    {
        let said = h2_call(bank.address, &path, &headers, framed(&[])).await;
        assert_eq!(said.code, Some(Code::Unimplemented), "{path} {said:?}");
    }
    assert!(atm_rpc::server::check_health(&bank.url()).await);
}

#[tokio::test]
async fn row_20_a_deadline_that_is_over_has_no_effect() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let before = last_sequence(&mut client).await;
    let token = bearer(&bank);
    for timeout in ["0n", "0S", "1n", "1u"] {
        let headers = [("authorization", token.as_str()), ("grpc-timeout", timeout)];
        let request = post(&new_id(), &customer("Farhan"), &cash(), 1);
        let path = format!("{PREFIX}PostTransaction");
        let said = h2_call(bank.address, &path, &headers, framed(&request.encode_to_vec())).await;
        assert_eq!(said.code, Some(Code::DeadlineExceeded), "{timeout} {said:?}");
    }
    assert_eq!(last_sequence(&mut client).await, before);
}

#[tokio::test]
async fn row_20_a_unary_caller_without_a_deadline_gets_ten_seconds() {
    let bank = Bank::open().await;
    let token = BearerToken::load(&bank.config.service_token_file).unwrap();
    let channel = lazy_channel(&bank.url(), &ChannelConfig::default()).unwrap();
    // From here on the time is the test's: it runs only while everybody waits.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let mut request = Request::new(());
    token.attach(&mut request);
    let status = raw::stall(&channel, &format!("{PREFIX}PostTransaction"), request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let took = start.elapsed().as_secs_f64();
    assert!((9.9..11.0).contains(&took), "{took}");
}

#[tokio::test]
async fn row_24_control_characters_and_forged_lines_are_refused_by_field() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[]).await;
    let before = last_sequence(&mut client).await;
    for text in ["Farhan\n2026-11-21 INFO forged", "a\0b", "\u{1b}[2J", "x\u{7f}", "a\u{85}b"] {
        let mut request = account(customer("Farhan"), AccountKind::Customer);
        request.account.as_mut().unwrap().holder_name = text.to_owned();
        assert_eq!(field_of(&client.open_account(request).await.unwrap_err()), "account.holder_name");
        let mut request = account(customer("Farhan"), AccountKind::Customer);
        request.account.as_mut().unwrap().account_number = text.to_owned();
        assert_eq!(field_of(&client.open_account(request).await.unwrap_err()), "account.account_number");
        let status = client.cancel_transaction(cancel(text)).await.unwrap_err();
        assert_eq!(field_of(&status), "transaction_id");
        assert!(!format!("{status:?}").contains("forged"), "what a stranger wrote is not repeated");
    }
    let mut request = account(customer("Farhan"), AccountKind::Customer);
    request.account.as_mut().unwrap().account_number = "x".repeat(35);
    assert_eq!(field_of(&client.open_account(request).await.unwrap_err()), "account.account_number");
    let mut request = account(customer("Farhan"), AccountKind::Customer);
    request.account.as_mut().unwrap().kind = 0;
    assert_eq!(field_of(&client.open_account(request).await.unwrap_err()), "account.kind");
    assert_eq!(last_sequence(&mut client).await, before);
}

#[tokio::test]
async fn row_26_a_stranger_learns_an_id_and_neither_sql_nor_a_path() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let id = new_id();
    client.post_transaction(post(&id, &customer("Farhan"), &cash(), 1)).await.unwrap();
    // Somebody who should not be there takes the tables away from under the ledger.
    let database = std::fs::read_dir(&bank.config.data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "db"))
        .unwrap();
    let vandal = rusqlite::Connection::open(&database).unwrap();
    let mut tables = vandal
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for table in &tables {
        vandal.execute_batch(&format!("ALTER TABLE \"{table}\" RENAME TO \"{table}_gone\"")).unwrap();
    }
    let request = wire::GetTransactionRequest { transaction_id: id };
    let read = client.get_transaction(request).await.unwrap_err();
    assert_eq!(read.code(), Code::Internal);
    assert_eq!(atm_rpc::status::reason(&read).as_deref(), Some("INTERNAL"));
    let post = client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), 1)).await.unwrap_err();
    assert_eq!(post.code(), Code::Unavailable, "a commit that failed is not known to have failed");
    for status in [&read, &post] {
        let text =
            format!("{} {}", status.message(), String::from_utf8_lossy(status.details())).to_lowercase();
        for word in ["sql", "table", "select", "insert", ".db", "/tmp", bank.config.data.to_str().unwrap()] {
            assert!(!text.contains(word), "{word} in {text}");
        }
        assert!(!tables.iter().any(|table| text.contains(&format!("{table}_gone"))), "{text}");
    }
    // A writer that failed answers nothing more: the process ends, and is started again.
    let ended = soon(bank.running).await.unwrap().unwrap_err();
    assert!(matches!(ended, atm_ledger::Error::WriterFailed), "{ended}");
}

#[tokio::test]
async fn a_command_in_a_batch_is_judged_like_the_same_command_alone() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let stranger = wire::CancelTransactionRequest { terminal_id: "nobody".to_owned(), ..cancel(&new_id()) };
    let alone = client.cancel_transaction(stranger.clone()).await.unwrap_err();
    let commands = vec![BatchCommand { command: Some(Command::Cancel(stranger)) }];
    let told = client.batch_execute(BatchExecuteRequest { commands }).await.unwrap().into_inner();
    let Some(wire::batch_result::Result::Error(error)) = &told.results[0].result else { panic!("{told:?}") };
    assert_eq!((error.code, error.message.as_str()), (i32::from(alone.code()), alone.message()));
    assert_eq!(Some(error.field.clone()), violated_field(&alone));
}
