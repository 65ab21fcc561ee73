//! The cash machine: screen, commands, journal.
