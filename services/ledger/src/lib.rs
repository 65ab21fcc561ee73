//! The double-entry ledger service: one writer, one order, one fsync for many transactions.
//!
//! [`run`] serves the books in a directory over gRPC. A call goes `grpc` (reads the request, checks
//! signatures) → [`handle::Ledger`] (the queue) → `writer` (decides a batch with `atm-ledger-core`, commits it
//! in one storage transaction) → back to `grpc`, which answers from the recorded step and nothing else.

pub mod authorization;
mod chain;
mod codec;
pub mod config;
pub mod evidence;
mod grpc;
pub mod handle;
mod read;
pub mod storage;
pub mod trial_balance;
pub mod verify;
mod writer;

use std::sync::Arc;

use atm_rpc::admission::AdmissionConfig;
use atm_rpc::credentials::BearerToken;
use atm_rpc::network::Listener;
use atm_rpc::process::{SecretFile, SecretFileError};
use atm_rpc::server::{self, ServeError, ServerConfig};
use atm_types::{Clock, IdSource};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use crate::authorization::{Authorizer, KeyError};
use crate::config::Config;
use crate::handle::{Ledger, OpenError, Options, WriterGuard};

/// Why the ledger did not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The books cannot be opened.
    #[error("the books cannot be opened")]
    Open(#[from] OpenError),
    /// The service token cannot be used.
    #[error("the service token cannot be used")]
    Token(#[source] SecretFileError),
    /// The ledger's own key cannot be used.
    #[error("the ledger's key cannot be used")]
    Key(#[from] KeyError),
    /// A commit failed. What was not answered may or may not be recorded; a new start finds out.
    #[error("the writer failed and nothing more can be recorded: start again")]
    WriterFailed,
    /// The listener is broken.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves the books in `config.data` on `listener` until `shutdown` is cancelled; then finishes the calls in
/// flight, writes what is queued, and closes the books.
///
/// # Errors
/// [`Error`]; after [`Error::WriterFailed`] the process should end and be started again.
pub async fn run(
    listener: impl Listener,
    config: Config,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    run_with(listener, config, clock, ids, shutdown, |_| {}).await
}

/// [`run`] with more services on the same server: benchmarks put their yardstick beside the ledger.
#[doc(hidden)]
pub async fn run_with(
    listener: impl Listener,
    config: Config,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    shutdown: CancellationToken,
    add_services: impl FnOnce(&mut RoutesBuilder),
) -> Result<(), Error> {
    let token = SecretFile::create_or_load(&config.service_token_file, &*ids)
        .and_then(|file| BearerToken::from_secret(&file))
        .map_err(Error::Token)?;
    let options = Options {
        time_zone: config.time_zone.clone(),
        queue_commands: config.queue_commands,
        ..Options::new(&config.data)
    };
    // Opening reads and checks; the runtime has calls of other services to serve meanwhile.
    let opening = tokio::task::spawn_blocking(move || Ledger::open(options, clock));
    let (ledger, writer) = match opening.await {
        Ok(opened) => opened?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let books_are_new = *ledger.committed().borrow() == 0;
    let authorizer = Authorizer::open(&config.data, books_are_new, &*ids)?;
    let books = Books { ledger, writer, authorizer, token, max_in_flight: config.max_in_flight };
    serve_with(listener, books, ids, shutdown, add_services).await
}

/// Books that are open, and what it takes to serve them.
pub struct Books {
    /// The handle.
    pub ledger: Ledger,
    /// Its writer.
    pub writer: WriterGuard,
    /// What signs holds.
    pub authorizer: Authorizer,
    /// What every caller has to show.
    pub token: BearerToken,
    /// Calls that are served at once.
    pub max_in_flight: usize,
}

/// Serves books that are open already: for simulations, whose books are in no directory.
///
/// # Errors
/// [`Error::WriterFailed`] and [`Error::Serve`], as [`run`].
pub async fn serve_books(
    listener: impl Listener,
    books: Books,
    ids: Arc<dyn IdSource>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    serve_with(listener, books, ids, shutdown, |_| {}).await
}

async fn serve_with(
    listener: impl Listener,
    books: Books,
    ids: Arc<dyn IdSource>,
    shutdown: CancellationToken,
    add_services: impl FnOnce(&mut RoutesBuilder),
) -> Result<(), Error> {
    let Books { ledger, writer, authorizer, token, max_in_flight } = books;
    let api = grpc::Api::new(ledger, authorizer, Arc::clone(&ids));

    let names = &["atm.ledger.v1.LedgerService"];
    let (mut routes, health) = server::base_routes(names, &[atm_proto::FILE_DESCRIPTOR_SET]);
    grpc::routes(api, token, &mut routes);
    add_services(&mut routes);

    let leave = shutdown.child_token();
    let serving =
        server::serve(listener, server_config(max_in_flight, ids), routes.routes(), health, leave.clone());
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        biased;
        () = writer.failed() => {
            // Nothing can be promised any more: those in flight are told so, and the process ends.
            tracing::error!("the writer failed; leaving");
            leave.cancel();
            let _ = serving.await;
            Err(Error::WriterFailed)
        }
        served = &mut serving => served.map_err(Error::from),
    };
    // The last commit or checkpoint may fail like any other.
    let failed = writer.failed();
    writer.stop().await;
    match failed.now_or_never() {
        Some(()) => Err(Error::WriterFailed),
        None => served,
    }
}

fn server_config(max_in_flight: usize, ids: Arc<dyn IdSource>) -> ServerConfig {
    // Kept in the proportions of the defaults, whatever the size.
    let max_in_flight = max_in_flight.max(1);
    ServerConfig {
        streaming: grpc::STREAMING,
        admission: AdmissionConfig {
            max_in_flight,
            reserved_for_critical: max_in_flight / 8,
            reserved_for_normal: max_in_flight / 4,
            classify: grpc::classify,
            ..AdmissionConfig::default()
        },
        ids,
        ..ServerConfig::default()
    }
}
