//! How large a message may be. tonic decodes up to 4 MiB and encodes without a limit unless each generated
//! client and server is told otherwise with `max_decoding_message_size` and `max_encoding_message_size`.

/// Bytes of one ordinary message, either way: 64 KiB.
pub const MESSAGE_BYTES: usize = 64 * 1024;

/// Bytes of one batch of commands, or of one page of a listing: 2 MiB.
pub const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of one call's headers, as HTTP/2 counts them (RFC 9113 §6.5.2): 16 KiB.
pub const HEADER_LIST_BYTES: u32 = 16 * 1024;

/// Streams that one connection may have open, unary calls included (RFC 9113 §5.1.2).
pub const CONCURRENT_STREAMS: u32 = 256;

/// Streams reset for the peer's own errors before the connection is closed (CVE-2024-2758 and its kin).
pub const LOCAL_ERROR_RESETS: usize = 1024;
