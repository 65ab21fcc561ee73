//! A screen that nobody looks at: what a simulated machine shows is kept instead of being printed.

use std::sync::{Arc, Mutex, PoisonError};

/// What was shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// The one object of JSON mode.
    pub(crate) object: Option<String>,
    /// Everything for people, line by line.
    pub(crate) lines: Vec<String>,
}

/// The screen of one command. Clones are the same screen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture(Arc<Mutex<Shown>>);

tokio::task_local! {
    static CAPTURE: Capture;
}

impl Capture {
    /// Runs a command whose output goes here.
    pub(crate) async fn around<T>(&self, command: impl Future<Output = T>) -> T {
        CAPTURE.scope(self.clone(), command).await
    }

    /// What was shown so far.
    pub(crate) fn shown(&self) -> Shown {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps it if somebody captures this task's output; whether somebody does.
pub(super) fn keep(what: impl FnOnce(&mut Shown)) -> bool {
    CAPTURE.try_with(|capture| what(&mut capture.0.lock().unwrap_or_else(PoisonError::into_inner))).is_ok()
}
