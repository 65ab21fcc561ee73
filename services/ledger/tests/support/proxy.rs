//! A network between a client and the ledger that loses, repeats and delays.
