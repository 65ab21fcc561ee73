//! Takes down what is asked of the ledger at its door and what it answers, for the judges of atm-history.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use atm_fault_proxy::{Answered, Witness};
use atm_history::{self as history, Answer, Ask, Malformed, Recorder, Transfer};
use atm_ledger::authorization::Authorizer;
use atm_proto::ledger as wire;
use bytes::Bytes;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

/// How a gRPC message begins: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

type Read = fn(&Answered) -> Result<Answer, Malformed>;

/// Whoever stands there.
pub(super) struct Door {
    authorizer: Authorizer,
    recorder: Recorder,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    begun: u64,
    calls: BTreeMap<u64, (history::Ticket, Read)>,
}

impl Door {
    /// Of a ledger with this key.
    pub(super) fn new(ledger_key: &[u8; 32]) -> Self {
        Self {
            authorizer: Authorizer::new(ledger_key),
            recorder: Recorder::new(),
            under_way: Mutex::default(),
        }
    }

    /// Everything that was asked since this was last called.
    pub(super) fn calls(&self) -> Vec<history::Call> {
        self.recorder.take()
    }

    /// What a request asks for, and how its answer is read.
    fn read(&self, path: &str, request: &Bytes) -> Option<(Ask, Read)> {
        macro_rules! of {
            ($request:ident, $told:path) => {{
                let request = wire::$request::decode(request.get(FRAME_BYTES..)?).ok()?;
                (Ask::try_from(&request).ok()?, |answer| $told(&answer_of(answer)))
            }};
        }
        let method = path.strip_prefix("/atm.ledger.v1.LedgerService/")?;
        let (mut ask, read): (Ask, Read) = match method {
            "OpenAccount" => of!(OpenAccountRequest, history::opened),
            "PostTransaction" => of!(PostTransactionRequest, history::told::<wire::PostTransactionResponse>),
            "HoldTransaction" => of!(HoldTransactionRequest, history::told::<wire::HoldTransactionResponse>),
            "CaptureTransaction" => {
                of!(CaptureTransactionRequest, history::told::<wire::CaptureTransactionResponse>)
            }
            "CancelTransaction" => {
                of!(CancelTransactionRequest, history::told::<wire::CancelTransactionResponse>)
            }
            "SuspendTransaction" => {
                of!(SuspendTransactionRequest, history::told::<wire::SuspendTransactionResponse>)
            }
            "ResolveTransaction" => {
                of!(ResolveTransactionRequest, history::told::<wire::ResolveTransactionResponse>)
            }
            "GetAccount" => of!(GetAccountRequest, history::account_read),
            _ => return None,
        };
        self.add_signature(&mut ask, request);
        Some((ask, read))
    }

    /// Fills in what the ledger's own signature, if a true one came along, says.
    fn add_signature(&self, ask: &mut Ask, request: &Bytes) {
        let message = request.get(FRAME_BYTES..).unwrap_or_default();
        let (id, terminal, authorization, signed) = match ask {
            Ask::Capture { id, terminal, signed, .. } => {
                let request = wire::CaptureTransactionRequest::decode(message);
                (*id, *terminal, request.unwrap_or_default().authorization, signed)
            }
            Ask::Suspend { id, terminal, signed, .. } => {
                let request = wire::SuspendTransactionRequest::decode(message);
                (*id, *terminal, request.unwrap_or_default().authorization, signed)
            }
            _ => return,
        };
        let held = self.authorizer.verify(id, terminal, &authorization).map(|it| it.transfer);
        *signed = held.map(|held| Transfer {
            debit: held.debit,
            credit: held.credit,
            minor_units: held.amount,
            currency: held.currency,
        });
    }
}

impl Witness for Door {
    fn wants(&self, path: &str) -> bool {
        !path.ends_with("/WatchEntries") && !path.ends_with("/VerifyLedger")
    }

    fn began(&self, path: &str, request: &Bytes) -> u64 {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.begun += 1;
        let call = under_way.begun;
        if let Some((ask, read)) = self.read(path, request) {
            let ticket = self.recorder.begin(0, ask);
            under_way.calls.insert(call, (ticket, read));
        }
        call
    }

    fn ended(&self, call: u64, answer: Answered) {
        let known = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).calls.remove(&call);
        if let Some((ticket, read)) = known {
            // An answer that no ledger gives is none.
            self.recorder.end(&ticket, read(&answer).unwrap_or(Answer::Unknown));
        }
    }
}

/// The answer as a client has it.
fn answer_of<T: Message + Default>(answer: &Answered) -> Result<Response<T>, Status> {
    let status =
        Status::from_header_map(&answer.trailers).or_else(|| Status::from_header_map(&answer.headers));
    match status {
        Some(status) if status.code() != tonic::Code::Ok => return Err(status),
        _ => {}
    }
    let message = answer.body.get(FRAME_BYTES..).and_then(|message| T::decode(message).ok());
    let mut response = Response::new(message.ok_or_else(|| Status::unknown("there is no message"))?);
    *response.metadata_mut() = MetadataMap::from_headers(answer.headers.clone());
    Ok(response)
}
