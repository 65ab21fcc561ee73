//! What the ledger can do on this machine. `cargo bench -p atm-ledger` prints all sections; words after `--`
//! choose some of them, or, for a profiler, `plain-echo`, `echo` or `post` by itself.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on has nothing to print")]

#[path = "ledger/bank.rs"]
mod bank;
#[path = "ledger/in_process.rs"]
mod in_process;
#[path = "ledger/latency.rs"]
mod latency;
#[path = "ledger/unary.rs"]
mod unary;

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted =
        |section: &str| wanted.is_empty() || wanted.iter().any(|word| section.contains(word.as_str()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if is_wanted("in_process") {
        in_process::print(&runtime);
    }
    if is_wanted("unary") {
        unary::print(&runtime);
    }
    if is_wanted("latency") {
        latency::print(&runtime);
    }
    // For a profiler: one kind of call by itself, only when it is asked for.
    for call in wanted.iter().filter_map(|word| unary::Call::named(word)) {
        unary::print_alone(&runtime, call);
    }
}
