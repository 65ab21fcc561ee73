//! How large a request may be depends on the method, while tonic has one limit for a service. So there are two
//! servers around the same handlers, and the path decides which of them decodes.

use std::convert::Infallible;
use std::task::{Context, Poll};

use atm_proto::auth::auth_service_server::AuthServiceServer;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::Handlers;

const ISSUE_CARDS: &str = "/atm.auth.v1.AuthService/IssueCards";

/// The service with a larger limit for `IssueCards`.
#[derive(Clone)]
pub(crate) struct BySize {
    pub(super) ordinary: AuthServiceServer<Handlers>,
    pub(super) issuing: AuthServiceServer<Handlers>,
}

impl NamedService for BySize {
    const NAME: &'static str = super::NAME;
}

impl Service<http::Request<Body>> for BySize {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <AuthServiceServer<Handlers> as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == ISSUE_CARDS {
            self.issuing.call(request)
        } else {
            self.ordinary.call(request)
        }
    }
}
