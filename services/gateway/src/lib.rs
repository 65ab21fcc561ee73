//! The gateway: what a cash machine and an operator call. It stores nothing.
//!
//! A call goes: `grpc` (who is calling?) → one file in `flows` or `admin` (what is asked?) → `upstream` (auth or
//! ledger) → `grpc::convert` (what may this caller see of the answer?). Whatever stops it on the way is a
//! [`failure::Failure`], and `grpc::status` is the only place that turns one into a status. `text` is a small
//! utility that needs nobody.
//!
//! Beside the calls runs one task: [`revocations::follow`] keeps up with which sessions auth has ended.

pub mod accounts;
pub mod admin;
pub mod caller;
pub mod cash;
pub mod config;
pub mod failure;
pub mod flows;
pub mod gateway;
pub mod grpc;
pub mod machines;
pub mod request;
pub mod revocations;
pub mod session;
pub mod terminal;
pub mod text;
pub mod upstream;

use std::sync::Arc;

use atm_proto::FILE_DESCRIPTOR_SET;
use atm_proto::gateway::admin_service_server::AdminServiceServer;
use atm_proto::gateway::atm_service_server::AtmServiceServer;
use atm_proto::text::text_service_server::TextServiceServer;
use atm_rpc::channel::ChannelError;
use atm_rpc::limits;
use atm_rpc::network::Listener;
use atm_rpc::server::{ServeError, base_routes, serve};
use atm_types::{Clock, IdSource};
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::text::case::MAX_GROWTH;

pub use crate::config::Config;

/// The names of the services, as health and reflection know them.
const SERVICES: [&str; 3] =
    ["atm.gateway.v1.AtmService", "atm.gateway.v1.AdminService", "atm.text.v1.TextService"];

/// Why the gateway could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL of auth or of the ledger is none.
    #[error(transparent)]
    Upstream(#[from] ChannelError),
    /// Serving broke.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves on `listener` until `shutdown` is cancelled and what was begun is done.
///
/// # Errors
/// [`Error::Upstream`] before anything is served; [`Error::Serve`] when the listener breaks.
pub async fn run(
    listener: impl Listener,
    config: Config,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let gateway = Arc::new(Gateway::new(&config, clock, Arc::clone(&ids))?);
    // Lives as long as calls may need it: until serving has ended, not until it was told to.
    let stop_following = CancellationToken::new();
    let _stop = stop_following.clone().drop_guard();
    tokio::spawn(revocations::follow(
        Arc::clone(&gateway.auth),
        Arc::clone(&gateway.session_keys),
        Arc::clone(&gateway.revocations),
        Arc::clone(&ids),
        stop_following,
    ));

    let (mut routes, health) = base_routes(&SERVICES, &[FILE_DESCRIPTOR_SET]);
    routes.add_service(
        AtmServiceServer::new(grpc::Atm::new(Arc::clone(&gateway)))
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            // A page of a statement may have a thousand lines.
            .max_encoding_message_size(limits::BATCH_BYTES),
    );
    routes.add_service(
        AdminServiceServer::new(grpc::Admin::new(gateway))
            .max_decoding_message_size(limits::BATCH_BYTES)
            .max_encoding_message_size(limits::BATCH_BYTES),
    );
    routes.add_service(
        TextServiceServer::new(grpc::Text::new(Arc::clone(&ids), config.prime_workers, config.prime_queue))
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES * MAX_GROWTH),
    );
    let server = atm_rpc::server::ServerConfig { ids, ..config.server };
    serve(listener, server, routes.routes(), health, shutdown).await?;
    Ok(())
}
