//! The bank's protobuf contracts: generated code, and the codec that it is sent with.
//!
//! Read the `.proto` files beside this crate; their comments are the documentation of every message. The
//! names `atm.type.v1` and `google.protobuf` shorten to [`types`] and `prost_types`.
#![allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the protos carry the comments"
)]

pub mod codec;

/// The encoded `FileDescriptorSet` of every proto of this crate, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Package `atm`: one module for each package below it.
pub mod atm {
    pub mod auth {
        pub mod v1 {
            tonic::include_proto!("atm.auth.v1");
        }
    }
    pub mod bench {
        pub mod v1 {
            tonic::include_proto!("atm.bench.v1");
        }
    }
    pub mod gateway {
        pub mod v1 {
            tonic::include_proto!("atm.gateway.v1");
        }
    }
    pub mod ledger {
        pub mod v1 {
            tonic::include_proto!("atm.ledger.v1");
        }
    }
    pub mod text {
        pub mod v1 {
            tonic::include_proto!("atm.text.v1");
        }
    }
    pub mod r#type {
        pub mod v1 {
            tonic::include_proto!("atm.r#type.v1");
        }
    }
}

pub use atm::auth::v1 as auth;
pub use atm::bench::v1 as bench;
pub use atm::gateway::v1 as gateway;
pub use atm::ledger::v1 as ledger;
pub use atm::text::v1 as text;
pub use atm::r#type::v1 as types;
