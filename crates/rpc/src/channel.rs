//! Connections to one server, opened when first needed and watched while idle.
//!
//! tonic reconnects by itself but without a pause; the pause is the backoff of [`crate::retry`].

use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint};
use tower::util::MapResponse;

use crate::limits;
use crate::network::{Connect, Connector, Gathering};

/// How a client holds its connection.
#[derive(Clone, Copy, Debug)]
pub struct ChannelConfig {
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How often a connection is pinged, while idle too.
    pub keepalive_interval: Duration,
    /// How long a ping may go unanswered before the connection counts as dead.
    pub keepalive_timeout: Duration,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(4),
        }
    }
}

/// Why a URL cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It is not a URL with a host.
    #[error("{url:?} is not a URL such as http://127.0.0.1:50051")]
    NotAUrl {
        /// What was given.
        url: String,
    },
    /// Only `http` is spoken. It is an error of its own, so that nobody believes an `https` to be secure.
    #[error("{url:?} must begin with http://; TLS is not supported yet")]
    Scheme {
        /// What was given.
        url: String,
    },
}

/// A channel to the server at `url` that connects at the first call.
///
/// # Errors
/// [`ChannelError`] if this is no `http` URL with a host. Whether anybody listens there is not tried.
pub fn lazy_channel(url: &str, config: &ChannelConfig) -> Result<Channel, ChannelError> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.connect_timeout));
    endpoint(url, config)
        .map(|endpoint| endpoint.connect_with_connector_lazy(MapResponse::new(tcp, Gathering::new)))
}

/// [`lazy_channel`] whose connections `network` opens; `None` is TCP.
///
/// # Errors
/// As [`lazy_channel`].
pub fn lazy_channel_over(
    url: &str,
    config: &ChannelConfig,
    network: Option<&Arc<dyn Connect>>,
) -> Result<Channel, ChannelError> {
    let Some(network) = network else { return lazy_channel(url, config) };
    endpoint(url, config).map(|endpoint| endpoint.connect_with_connector_lazy(Connector(Arc::clone(network))))
}

fn endpoint(url: &str, config: &ChannelConfig) -> Result<Endpoint, ChannelError> {
    let not_a_url = || ChannelError::NotAUrl { url: url.to_owned() };
    let uri: http::Uri = url.parse().map_err(|_| not_a_url())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(ChannelError::Scheme { url: url.to_owned() }),
        Some(_) | None => return Err(not_a_url()),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(not_a_url());
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(limits::HEADER_LIST_BYTES)
        .http2_max_local_error_reset_streams(limits::LOCAL_ERROR_RESETS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_channel_is_made_without_anybody_listening() {
        lazy_channel("http://127.0.0.1:1", &ChannelConfig::default()).unwrap();
        lazy_channel("http://ledger:50053", &ChannelConfig::default()).unwrap();
    }

    #[test]
    fn what_is_not_an_http_url_is_refused_by_name() {
        let config = ChannelConfig::default();
        for url in ["", "localhost", "127.0.0.1:50051", "ftp://host", "http://", "unix:/tmp/socket", "/path"]
        {
            let error = endpoint(url, &config).unwrap_err();
            assert!(matches!(&error, ChannelError::NotAUrl { url: named } if named == url), "{error}");
        }
        assert!(matches!(endpoint("https://bank", &config), Err(ChannelError::Scheme { .. })));
    }
}
