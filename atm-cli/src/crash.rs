//! Places with a name at which the machine can be told to die, as by `kill -9`.
//!
//! They stand before and after every durable write, every sending and receiving of a money call, and every command
//! to the cash device. The list is made from the sources by `build.rs`, so that no point can be forgotten in it.
//! `--crash-at` chooses one; tests choose every one.

use std::sync::OnceLock;

pub(crate) use atm_faults::die;

/// Every crash point there is, in the order of their names.
pub(crate) const ALL: &[&str] = include!(concat!(env!("OUT_DIR"), "/crash_points.rs"));

static CHOSEN: OnceLock<String> = OnceLock::new();

/// Stands where the machine may be told to die.
macro_rules! crash_point {
    ($name:literal) => {
        $crate::crash::reached($name)
    };
}
pub(crate) use crash_point;

/// Chooses the point to die at, once for the process.
pub(crate) fn choose(name: &str) {
    CHOSEN.get_or_init(|| name.to_owned());
}

/// Dies here if this is the chosen point. Who wants to know which points a command passes sets
/// `RUST_LOG=crash_point=trace`.
pub(crate) fn reached(name: &'static str) {
    atm_faults::reached(name);
    tracing::trace!(target: "crash_point", point = name);
    if CHOSEN.get().is_some_and(|chosen| chosen == name) {
        die();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_comes_from_the_sources_and_knows_its_names() {
        assert!(ALL.contains(&"DEVICE_PRESENTED") && ALL.contains(&"BEFORE_DEVICE_PRESENTED"), "{ALL:?}");
        assert!(ALL.iter().all(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')), "{ALL:?}");
    }
}
