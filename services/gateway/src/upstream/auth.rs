//! Calls to auth.

use std::time::Duration;

use atm_proto::auth as proto;
use atm_proto::auth::auth_service_client::AuthServiceClient;
use atm_rpc::credentials::BearerToken;
use atm_rpc::deadline::Deadline;
use atm_rpc::limits;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::{Upstream, refusal};
use crate::failure::Failure;

/// Auth, as the gateway sees it.
#[derive(Debug)]
pub struct Auth {
    upstream: Upstream,
    client: AuthServiceClient<Channel>,
}

macro_rules! unary {
    ($(#[$doc:meta])* $name:ident, $path:literal, $request:ident => $response:ident) => {
        $(#[$doc])*
        pub async fn $name(
            &self,
            deadline: Deadline,
            request: proto::$request,
        ) -> Result<proto::$response, Failure> {
            let call = |request: Request<proto::$request>| {
                let mut client = self.client.clone();
                async move { client.$name(request).await }
            };
            let path = concat!("/atm.auth.v1.AuthService/", $path);
            self.upstream.call(path, deadline, request, call).await.map_err(refusal::of_auth)
        }
    };
}

impl Auth {
    /// Auth behind `channel`.
    pub fn new(channel: Channel, token: BearerToken, margin: Duration) -> Self {
        let client = AuthServiceClient::new(channel)
            .max_decoding_message_size(limits::BATCH_BYTES)
            .max_encoding_message_size(limits::BATCH_BYTES);
        Self { upstream: Upstream::new(token, margin), client }
    }

    unary! {
        /// Checks a PIN and opens a session.
        verify_pin, "VerifyPin", VerifyPinRequest => VerifyPinResponse
    }
    unary! {
        /// Signs a machine on after a start.
        sign_on_terminal, "SignOnTerminal", SignOnTerminalRequest => SignOnTerminalResponse
    }
    unary! {
        /// Says whether a machine's name is bound to a terminal.
        get_terminal, "GetTerminal", GetTerminalRequest => GetTerminalResponse
    }
    unary! {
        /// Ends a session.
        close_session, "CloseSession", CloseSessionRequest => CloseSessionResponse
    }
    unary! {
        /// Sets another PIN.
        change_pin, "ChangePin", ChangePinRequest => ChangePinResponse
    }
    unary! {
        /// Issues cards.
        issue_cards, "IssueCards", IssueCardsRequest => IssueCardsResponse
    }
    unary! {
        /// Blocks a card.
        block_card, "BlockCard", BlockCardRequest => BlockCardResponse
    }
    unary! {
        /// Unblocks a card.
        unblock_card, "UnblockCard", UnblockCardRequest => UnblockCardResponse
    }
    unary! {
        /// Forgets which start a machine signed on with.
        forget_start, "ForgetStart", ForgetStartRequest => ForgetStartResponse
    }
    unary! {
        /// Takes a machine's name from its terminal.
        release_terminal, "ReleaseTerminal", ReleaseTerminalRequest => ReleaseTerminalResponse
    }
    unary! {
        /// Reads the keys that sessions are verified with.
        get_session_keys, "GetSessionKeys", GetSessionKeysRequest => GetSessionKeysResponse
    }

    /// Opens the stream of revocations. It has no deadline: the listener watches for silence.
    pub async fn watch_revocations(&self) -> Result<Streaming<proto::WatchRevocationsResponse>, Status> {
        let mut request = Request::new(proto::WatchRevocationsRequest {});
        self.upstream.token.attach(&mut request);
        let stream = self.client.clone().watch_revocations(request).await?;
        Ok(stream.into_inner())
    }
}
