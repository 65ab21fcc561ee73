//! The ledger's decisions, and nothing else: pure functions from state and command to outcome.
