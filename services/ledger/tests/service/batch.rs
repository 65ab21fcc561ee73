//! Many commands in one round trip.

use atm_proto::ledger::batch_command::Command;
use atm_proto::ledger::batch_result::Result as Told;
use atm_proto::ledger::{
    AccountKind, BatchCommand, BatchExecuteRequest, BatchExecuteResponse, ResolveTransactionRequest,
    SuspendTransactionRequest,
};
use atm_proto::types::{DeclineReason, Money, TransactionState};
use prost::Message;
use tonic::{Code, Response, Status};

use crate::support::*;

async fn execute(
    client: &mut Client,
    commands: Vec<Command>,
) -> Result<Response<BatchExecuteResponse>, Status> {
    let commands = commands.into_iter().map(|command| BatchCommand { command: Some(command) }).collect();
    client.batch_execute(BatchExecuteRequest { commands }).await
}

fn results(response: Response<BatchExecuteResponse>) -> Vec<Told> {
    response.into_inner().results.into_iter().map(|result| result.result.unwrap()).collect()
}

#[tokio::test]
async fn each_command_has_its_own_outcome_in_the_order_in_which_it_was_asked() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    let (farhan, ayesha) = (customer("Farhan"), customer("Ayesha"));
    let (held, fenced, twice, frozen, open) = (new_id(), new_id(), new_id(), new_id(), new_id());
    let mut yen = post(&new_id(), &opening(), &farhan, 5);
    yen.amount = Some(Money { currency_code: "JPY".to_owned(), minor_units: 5 });
    let commands = vec![
        Command::OpenAccount(account(opening(), AccountKind::OpeningBalance)),
        Command::OpenAccount(account(cash(), AccountKind::Cash)),
        Command::OpenAccount(account(farhan.clone(), AccountKind::Customer)),
        Command::Post(post(&new_id(), &opening(), &farhan, 1_000)),
        Command::Hold(hold(&held, &farhan, &cash(), 400)),
        Command::Post(post(&new_id(), &farhan, &ayesha, 100)),
        Command::Post(post("not an id", &opening(), &farhan, 1)),
        Command::Post(yen),
        Command::Capture(capture(&held, 300)),
        Command::Capture(capture(&new_id(), 300)),
        Command::Cancel(cancel(&fenced)),
        Command::Post(post(&twice, &opening(), &farhan, 7)),
        Command::Post(post(&twice, &opening(), &farhan, 7)),
        Command::Post(post(&twice, &opening(), &farhan, 8)),
        Command::OpenAccount(account(suspense(), AccountKind::Suspense)),
        Command::Hold(hold(&frozen, &farhan, &cash(), 400)),
        Command::Suspend(suspend(&frozen)),
        Command::Capture(capture(&frozen, 400)),
        Command::Resolve(resolve(&frozen, 401)),
        Command::Resolve(resolve(&frozen, 100)),
        Command::Suspend(suspend(&new_id())),
        Command::Suspend(SuspendTransactionRequest { authorization: vec![1], ..suspend(&new_id()) }),
        Command::Hold(hold(&open, &farhan, &cash(), 100)),
        Command::Suspend(SuspendTransactionRequest { suspense_account_id: cash(), ..suspend(&open) }),
        Command::Resolve(ResolveTransactionRequest { operator: String::new(), ..resolve(&frozen, 100) }),
    ];
    let told = results(execute(&mut client, commands).await.unwrap());
    let state = |index: usize| match &told[index] {
        Told::Post(told) => told.current_state(),
        Told::Hold(told) => told.current_state(),
        Told::Capture(told) => told.current_state(),
        Told::Cancel(told) => told.current_state(),
        Told::Suspend(told) => told.current_state(),
        Told::Resolve(told) => told.current_state(),
        Told::OpenAccount(_) | Told::Error(_) => TransactionState::Unspecified,
    };
    let error = |index: usize| match &told[index] {
        Told::Error(error) => (Code::from(error.code), error.reason.as_str(), error.field.as_str()),
        other => panic!("{other:?}"),
    };
    assert_eq!(told.len(), 25);
    assert!(told[..3].iter().all(|told| matches!(told, Told::OpenAccount(_))));
    assert_eq!((state(3), state(8)), (TransactionState::Posted, TransactionState::Captured));
    // The whole batch was decided when the hold's answer was made.
    assert!(
        matches!(&told[4], Told::Hold(told) if told.outcome.as_ref().unwrap().state() == TransactionState::Held)
    );
    assert_eq!(state(5), TransactionState::Declined);
    let Told::Post(declined) = &told[5] else { panic!() };
    let reason = declined.outcome.as_ref().unwrap().decline.unwrap().reason();
    assert_eq!(reason, DeclineReason::CreditAccountNotFound);
    assert_eq!(error(6), (Code::InvalidArgument, "INVALID_FIELD", "transaction_id"));
    assert_eq!(error(7), (Code::InvalidArgument, "CURRENCY_MISMATCH", "amount.currency_code"));
    assert_eq!(error(9), (Code::NotFound, "TRANSACTION_NOT_FOUND", ""));
    assert_eq!(state(10), TransactionState::Cancelled);
    assert_eq!(told[11], told[12], "the second of two with one id gets the first one's answer");
    assert_eq!(error(13), (Code::AlreadyExists, "ID_REUSED", "amount.minor_units"));
    assert!(
        matches!(&told[16], Told::Suspend(told) if told.outcome.as_ref().unwrap().state() == TransactionState::Suspect)
    );
    assert_eq!(error(17), (Code::FailedPrecondition, "SUSPENDED", ""));
    assert_eq!(error(18), (Code::FailedPrecondition, "RESOLUTION_EXCEEDS_HOLD", ""));
    assert!(matches!(&told[19], Told::Resolve(told) if told.outcome.as_ref().unwrap().resolution.is_some()));
    assert_eq!((state(16), state(19)), (TransactionState::Captured, TransactionState::Captured));
    assert_eq!(error(20), (Code::NotFound, "TRANSACTION_NOT_FOUND", ""));
    assert_eq!(error(21), (Code::InvalidArgument, "INVALID_FIELD", "authorization"));
    assert_eq!(error(23), (Code::InvalidArgument, "INVALID_FIELD", "suspense_account_id"));
    assert_eq!(error(24), (Code::InvalidArgument, "INVALID_FIELD", "operator"));
    assert_eq!(balance(&mut client, farhan).await, (607, 507));
}

#[tokio::test]
async fn a_batch_of_none_or_too_many_is_refused_as_a_whole() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 0)]).await;
    let before = last_sequence(&mut client).await;
    let one = || Command::Cancel(cancel(&new_id()));
    for count in [0, 8_191] {
        let status = execute(&mut client, (0..count).map(|_| one()).collect()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(atm_rpc::status::violated_field(&status).as_deref(), Some("commands"));
    }
    assert_eq!(last_sequence(&mut client).await, before);
    let none = BatchExecuteRequest { commands: vec![BatchCommand { command: None }] };
    let told = results(client.batch_execute(none).await.unwrap());
    assert!(matches!(&told[..], [Told::Error(error)] if error.field == "command"), "{told:?}");
}

#[tokio::test]
async fn a_full_batch_of_the_largest_money_commands_fits_into_its_message() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 0), ("Ayesha", 0)]).await;
    let largest = |id: String| {
        let mut hold = hold(&id, &customer("Farhan"), &customer("Ayesha"), i64::MAX);
        hold.lifetime = Some(prost_types::Duration { seconds: 30 * 24 * 60 * 60 - 1, nanos: 999_999_999 });
        Command::Hold(hold)
    };
    let commands: Vec<_> = (0..8_190).map(|_| largest(new_id())).collect();
    let request = BatchExecuteRequest {
        commands: commands.iter().map(|command| BatchCommand { command: Some(command.clone()) }).collect(),
    };
    let size = request.encoded_len();
    println!("a batch of 8,190 of the largest holds takes {size} bytes");
    assert!(size <= atm_rpc::limits::BATCH_BYTES);
    let mut capture = capture(&new_id(), i64::MAX);
    capture.authorization = vec![0; atm_ledger::authorization::AUTHORIZATION_BYTES];
    let mut suspend = suspend(&new_id());
    suspend.authorization = capture.authorization.clone();
    for command in [Command::Capture(capture), Command::Suspend(suspend)] {
        let size = (BatchCommand { command: Some(command) }).encoded_len() + 3;
        assert!(size * 8_190 <= atm_rpc::limits::BATCH_BYTES, "{size}");
    }

    let first = execute(&mut client, commands.clone()).await.unwrap();
    assert_eq!(first.get_ref().results.len(), 8_190);
    println!("its answer takes {} bytes", first.get_ref().encoded_len());
    let again = execute(&mut client, commands).await.unwrap();
    assert_eq!(bytes(again.get_ref()), bytes(first.get_ref()));
}
