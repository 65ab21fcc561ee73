//! The bugs that can be planted, and what each of them breaks.

/// Gives each bug its name, the invariants that it breaks, and a sentence.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $bug:ident breaks [$($invariant:literal),+];)+) => {
        /// A mistake that a tired engineer could make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[doc = $what])+ $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$bug),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => stringify!($bug),)+ }
            }

            /// What it does, in a sentence.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$bug => concat!($($what),+).trim_ascii(),)+ }
            }

            /// The numbers of the invariants that it breaks; see docs/ARCHITECTURE.md.
            pub const fn breaks(self) -> &'static [u8] {
                match self { $(Self::$bug => &[$($invariant),+],)+ }
            }
        }
    };
}

bugs! {
    /// The ledger decides a repeated id again instead of answering with what it recorded.
    DropTheDedupe breaks [4, 6];
    /// The machine cancels a withdrawal although its notes were presented.
    CancelAfterDispense breaks [12];
}
