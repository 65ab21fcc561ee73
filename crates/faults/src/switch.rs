//! The switches of this thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::Bug;

type Watcher = Rc<dyn Fn(&'static str)>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// While it lives, the watcher is told of every fault point that this thread reaches.
#[must_use]
#[derive(Debug)]
pub struct Watching(());

/// Watches this thread. The watcher may panic, which is how a simulated program dies.
pub fn watch(watcher: impl Fn(&'static str) + 'static) -> Watching {
    WATCHER.set(Some(Rc::new(watcher)));
    Watching(())
}

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHER.set(None);
    }
}

/// While it lives, the bug is planted on this thread.
#[must_use]
#[derive(Debug)]
pub struct Planted(());

/// Plants a bug on this thread.
pub fn plant(bug: Bug) -> Planted {
    PLANTED.set(Some(bug));
    Planted(())
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

pub(crate) fn reached(point: &'static str) {
    // Taken out of the cell first: the watcher may unwind.
    let watcher = WATCHER.with_borrow(Clone::clone);
    if let Some(watcher) = watcher {
        watcher(point);
    }
}
