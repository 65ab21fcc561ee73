//! How messages become bytes on every connection of the bank: protobuf by prost, on contiguous memory.
//!
//! tonic's own codec does the same through three layers of buffers, field by field and byte by byte, and gives each
//! direction of each call 8 KiB to begin with. A message of this bank has some hundred bytes; on one slice it is encoded
//! and decoded in a fraction of the time, and calls that wait take less of the processor's caches. The bytes are the
//! same.

use std::marker::PhantomData;

use bytes::{Buf, BufMut};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Room for one ordinary message, in bytes; a larger one gets what it needs.
const ROOM: usize = 512;
/// A stream hands on what it has once it has so many bytes; tonic's own default.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// Sends `T` and receives `U`. The generated services and clients use it.
#[derive(Clone, Debug)]
pub struct MessageCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MessageCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MessageCodec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> MessageEncoder<T> {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> MessageDecoder<U> {
        MessageDecoder(PhantomData)
    }
}

/// The sending half of a [`MessageCodec`].
#[derive(Clone, Debug)]
pub struct MessageEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message.encode_to_vec());
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ROOM, YIELD_THRESHOLD)
    }
}

/// The receiving half of a [`MessageCodec`].
#[derive(Clone, Debug)]
pub struct MessageDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    /// # Errors
    /// INTERNAL when the bytes are no such message, as gRPC has it (doc/statuscodes.md of the specification).
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let length = buffer.remaining();
        let decoded = match buffer.chunk() {
            whole if whole.len() == length => {
                let decoded = U::decode(whole);
                buffer.advance(length);
                decoded
            }
            _ => U::decode(&*buffer.copy_to_bytes(length)),
        };
        decoded.map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ROOM, YIELD_THRESHOLD)
    }
}
