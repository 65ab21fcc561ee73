//! What every proto of the bank promises, read from the descriptor set that the servers themselves serve.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use prost_reflect::{DescriptorPool, MethodDescriptor};

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(atm_proto::FILE_DESCRIPTOR_SET).unwrap();
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

#[test]
fn every_method_says_whether_it_may_be_repeated() {
    let methods = methods();
    assert!(methods.len() > 40, "the descriptor set holds all services");
    for method in methods {
        let options = method.method_descriptor_proto().options.clone().unwrap_or_default();
        assert!(options.idempotency_level.is_some(), "{} declares no idempotency_level", method.full_name());
    }
}

#[test]
fn every_method_has_a_request_and_a_response_of_its_own() {
    for method in methods() {
        assert_eq!(method.input().name(), format!("{}Request", method.name()), "{}", method.full_name());
        assert_eq!(method.output().name(), format!("{}Response", method.name()), "{}", method.full_name());
    }
}

#[test]
fn an_enum_starts_with_the_unspecified_value() {
    let pool = DescriptorPool::decode(atm_proto::FILE_DESCRIPTOR_SET).unwrap();
    for value in pool.all_enums().filter(|e| e.full_name().starts_with("atm.")).filter_map(|e| e.get_value(0))
    {
        assert!(value.name().ends_with("_UNSPECIFIED"), "{}", value.full_name());
    }
}
