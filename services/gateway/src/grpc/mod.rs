//! The wire: handlers, conversions, and statuses.

mod admin_service;
mod atm_service;
pub mod convert;
pub mod status;
mod text_service;

pub use admin_service::Admin;
pub use atm_service::Atm;
pub use text_service::Text;
