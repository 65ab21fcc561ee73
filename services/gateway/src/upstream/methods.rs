//! Which methods of auth and ledger may be sent again.

/// The unary methods that have the same effect when they arrive twice: all of them, since every command
/// carries an id. A test holds this list against the `idempotency_level` of the contracts.
pub const RETRYABLE: [&str; 24] = [
    "/atm.auth.v1.AuthService/VerifyPin",
    "/atm.auth.v1.AuthService/SignOnTerminal",
    "/atm.auth.v1.AuthService/GetTerminal",
    "/atm.auth.v1.AuthService/CloseSession",
    "/atm.auth.v1.AuthService/ChangePin",
    "/atm.auth.v1.AuthService/IssueCards",
    "/atm.auth.v1.AuthService/BlockCard",
    "/atm.auth.v1.AuthService/UnblockCard",
    "/atm.auth.v1.AuthService/ForgetStart",
    "/atm.auth.v1.AuthService/ReleaseTerminal",
    "/atm.auth.v1.AuthService/GetSessionKeys",
    "/atm.ledger.v1.LedgerService/OpenAccount",
    "/atm.ledger.v1.LedgerService/GetAccount",
    "/atm.ledger.v1.LedgerService/PostTransaction",
    "/atm.ledger.v1.LedgerService/HoldTransaction",
    "/atm.ledger.v1.LedgerService/CaptureTransaction",
    "/atm.ledger.v1.LedgerService/CancelTransaction",
    "/atm.ledger.v1.LedgerService/SuspendTransaction",
    "/atm.ledger.v1.LedgerService/ResolveTransaction",
    "/atm.ledger.v1.LedgerService/BatchExecute",
    "/atm.ledger.v1.LedgerService/GetTransaction",
    "/atm.ledger.v1.LedgerService/ListEntries",
    "/atm.ledger.v1.LedgerService/ListAccountEntries",
    "/atm.ledger.v1.LedgerService/GetTrialBalance",
];

/// Whether the method at `path` may be sent again.
pub fn may_retry(path: &str) -> bool {
    RETRYABLE.contains(&path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::method_options::IdempotencyLevel;
    use prost_types::{FileDescriptorSet, MethodOptions};

    use super::*;

    #[test]
    fn the_retry_list_agrees_with_the_idempotency_level_of_every_method() {
        let set = FileDescriptorSet::decode(atm_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut repeatable = BTreeSet::new();
        let mut seen = 0;
        for file in set.file.iter().filter(|file| ["atm.auth.v1", "atm.ledger.v1"].contains(&file.package()))
        {
            for service in &file.service {
                for method in service.method.iter().filter(|method| !method.server_streaming()) {
                    seen += 1;
                    let level = method
                        .options
                        .as_ref()
                        .map_or(IdempotencyLevel::IdempotencyUnknown, MethodOptions::idempotency_level);
                    if level != IdempotencyLevel::IdempotencyUnknown {
                        repeatable.insert(format!(
                            "/{}.{}/{}",
                            file.package(),
                            service.name(),
                            method.name()
                        ));
                    }
                }
            }
        }
        assert!(seen >= 24, "the descriptor set holds both services");
        let listed: BTreeSet<String> = RETRYABLE.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(listed, repeatable);
    }

    #[test]
    fn what_is_not_listed_is_sent_once() {
        assert!(!may_retry("/atm.ledger.v1.LedgerService/WatchEntries"));
        assert!(!may_retry("/somewhere.Else/Pay"));
    }
}
