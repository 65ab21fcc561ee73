//! The routes of the service, with the token they need and the sizes they take.
//!
//! tonic limits messages for a whole service, but only `BatchExecute` may be large: so there are two of the
//! same service, which differ in what they take, and the path decides between them. The limit is held against
//! the length at the head of a message, before any of it is read.

use std::convert::Infallible;
use std::task::{Context, Poll};

use atm_proto::ledger::ledger_service_server::LedgerServiceServer;
use atm_rpc::credentials::{BearerToken, RequireToken};
use atm_rpc::limits::{BATCH_BYTES, MESSAGE_BYTES};
use http::Request;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::service::interceptor::InterceptedService;
use tower::Service;

use super::Api;

/// Adds the ledger to `routes`; every method needs `token`.
pub(crate) fn routes(api: Api, token: BearerToken, routes: &mut RoutesBuilder) {
    let server = LedgerServiceServer::new(api);
    let token = RequireToken::new(token);
    let limited =
        |bytes| InterceptedService::new(server.clone().max_decoding_message_size(bytes), token.clone());
    routes.add_service(BySize { ordinary: limited(MESSAGE_BYTES), batch: limited(BATCH_BYTES) });
}

type Guarded = InterceptedService<LedgerServiceServer<Api>, RequireToken>;

#[derive(Clone)]
struct BySize {
    ordinary: Guarded,
    batch: Guarded,
}

impl NamedService for BySize {
    const NAME: &'static str = <LedgerServiceServer<Api> as NamedService>::NAME;
}

impl Service<Request<Body>> for BySize {
    type Response = <Guarded as Service<Request<Body>>>::Response;
    type Error = Infallible;
    type Future = <Guarded as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().ends_with("/BatchExecute") {
            self.batch.call(request)
        } else {
            self.ordinary.call(request)
        }
    }
}
