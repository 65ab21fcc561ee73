//! The whole system on one thread: the real cash machine, gateway, auth and ledger and their gRPC, under a seeded
//! clock, network, disks and cash device.

pub mod check;
pub mod evidence;
