//! The double-entry ledger service: one writer, one order, one fsync for many transactions.
