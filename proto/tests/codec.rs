//! The codec puts on the wire what prost would, and takes whatever arrives there.
#![allow(clippy::unwrap_used, reason = "a test")]

use atm_proto::bench::EchoRequest;
use atm_proto::codec::MessageCodec;
use atm_proto::types::Money;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tonic::codec::{Codec, EncodeBody, Streaming};
use tonic::{Code, Status};

/// A gRPC message: not compressed, its length, its bytes (the specification's "Length-Prefixed-Message").
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::from(&[0][..]);
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

async fn sent<T: Message + 'static>(messages: Vec<T>) -> Bytes {
    let encoder = MessageCodec::<T, Money>::default().encoder();
    let body = EncodeBody::new_client(encoder, stream::iter(messages.into_iter().map(Ok)), None, None);
    body.collect().await.unwrap().to_bytes()
}

/// What is received when `bytes` come in pieces of at most `piece` bytes.
async fn received<U: Message + Default + 'static>(bytes: &Bytes, piece: usize) -> Result<Vec<U>, Status> {
    let pieces: Vec<_> = bytes
        .chunks(piece)
        .map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let body = StreamBody::new(stream::iter(pieces));
    let mut stream = Streaming::new_request(MessageCodec::<U, U>::default().decoder(), body, None, None);
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

#[tokio::test]
async fn messages_of_any_size_travel_as_prost_writes_them() {
    for size in [0, 1, 100, 511, 512, 513, 8_192, 100_000] {
        let message = EchoRequest { payload: vec![0x5a; size] };
        let bytes = sent(vec![message.clone(), message.clone()]).await;
        let one = framed(&message.encode_to_vec());
        assert_eq!(bytes, [&one[..], &one[..]].concat(), "{size} bytes");
        for piece in [1, 7, 4_096, usize::MAX] {
            let messages = received::<EchoRequest>(&bytes, piece).await.unwrap();
            assert_eq!(messages, [message.clone(), message.clone()], "{size} bytes in pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn what_is_no_message_is_an_internal_error() {
    let texts_are_utf8 = Money { currency_code: "BDT".to_owned(), minor_units: 1 }.encode_to_vec();
    let broken = texts_are_utf8.iter().map(|byte| if *byte == b'D' { 0xff } else { *byte }).collect();
    for garbage in [vec![0xff; 3], vec![0x0a, 0x7f], broken] {
        let status = received::<Money>(&framed(&garbage), usize::MAX).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{garbage:?}");
    }
}
