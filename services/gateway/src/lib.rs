//! The gateway: what a cash machine and an operator call. It stores nothing.
