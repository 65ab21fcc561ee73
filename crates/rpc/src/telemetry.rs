//! Logs: one line for each event, with the service and the trace ([`crate::trace`]) that it belongs to.
//!
//! The formatter itself reads the trace id, so that only a line that is written pays for it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

pub use crate::trace::{TraceContext, TraceLayer, current, scope, sync_scope};

/// Sends this process's logs to standard error: for people on a terminal (in colour unless `NO_COLOR` is set),
/// as JSON lines otherwise. `RUST_LOG` chooses what is logged, INFO by default. A second call changes nothing.
pub fn init(service: &'static str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let people = std::io::stderr().is_terminal();
    let colour = people && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let result = if people {
        let lines = Line { inner: format().compact().with_ansi(colour), service, json: false, colour };
        let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(std::io::stderr);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer))
    } else {
        let layer = json_layer(service).with_writer(std::io::stderr);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer))
    };
    // In the embedded mode three services share one process and the first has done it.
    if result.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Logs a panic as one line, with its trace, instead of the lines that Rust writes by itself.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no text");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(panic = message, location, %backtrace, "panicked"),
        _ => tracing::error!(panic = message, location, "panicked"),
    }
}

type JsonLayer<S> = tracing_subscriber::fmt::Layer<S, format::JsonFields, Line<format::Format<format::Json>>>;

fn json_layer<S>(service: &'static str) -> JsonLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = Line { inner: format().json().flatten_event(true), service, json: true, colour: false };
    tracing_subscriber::fmt::layer().fmt_fields(format::JsonFields::new()).event_format(lines)
}

/// Adds the service and the current trace id to each line, and keeps one event on one line.
struct Line<F> {
    inner: F,
    service: &'static str,
    json: bool,
    colour: bool,
}

/// Writes control characters as escapes, so that a value can neither begin what looks like another event nor
/// command the terminal. With `colour`, the colours of the formatter (`ESC [ … m`) pass.
fn write_visibly(writer: &mut Writer<'_>, text: &str, colour: bool) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(|character: char| character.is_control() && character != '\t') {
        let (plain, from_control) = rest.split_at(at);
        writer.write_str(plain)?;
        let end = if colour { colour_sequence(from_control) } else { None };
        let (control, after) = match end {
            Some(end) => from_control.split_at(end),
            None => from_control.split_at(from_control.chars().next().map_or(0, char::len_utf8)),
        };
        match end {
            Some(_) => writer.write_str(control)?,
            None => write!(writer, "{}", control.escape_default())?,
        }
        rest = after;
    }
    writer.write_str(rest)
}

/// Where a colour sequence at the beginning of `text` ends, if there is one.
fn colour_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    parameters[end..].starts_with('m').then_some("\x1b[".len() + end + "m".len())
}

thread_local! {
    /// Kept between events, so that logging does not allocate for each.
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
}

impl<S, N, F> FormatEvent<S, N> for Line<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = BUFFER.take();
        line.clear();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let text = line.trim_end_matches('\n');
        if self.json {
            write!(writer, r#"{{"service":"{}","#, self.service)?;
            if let Some(trace) = current() {
                write!(writer, r#""trace_id":"{trace}","#)?;
            }
            writeln!(writer, "{}", text.strip_prefix('{').unwrap_or(text))?;
        } else {
            write_visibly(&mut writer, text, self.colour)?;
            if let Some(trace) = current() {
                write!(writer, " trace_id={trace}")?;
            }
            writeln!(writer)?;
        }
        BUFFER.set(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use atm_types::SeededIds;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged as JSON while `work` runs.
    fn logged_json(work: impl FnOnce()) -> Vec<serde_json::Value> {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = json_layer("ledger").with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        captured.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_json_line_says_its_service_and_its_trace() {
        let context = TraceContext::new(&SeededIds::new(1));
        let lines = logged_json(|| {
            sync_scope(context, || tracing::info!(answer = 42, "inside"));
            tracing::info!("outside");
        });
        assert_eq!(lines[0]["trace_id"], context.to_string());
        assert_eq!(lines[0]["service"], "ledger");
        assert_eq!((&lines[0]["answer"], &lines[0]["message"]), (&42.into(), &"inside".into()));
        assert!(lines[1].get("trace_id").is_none());
        assert_eq!(lines[1]["message"], "outside");
    }

    /// What people read of `name` on their terminal.
    fn logged_for_people(name: &str, colour: bool) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let inner = format().compact().with_ansi(colour);
        let lines = Line { inner, service: "ledger", json: false, colour };
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(colour)
            .event_format(lines)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(%name, "opened");
        });
        captured.text()
    }

    #[test]
    fn a_panic_is_one_line_with_its_place_and_its_trace() {
        let context = TraceContext::new(&SeededIds::new(1));
        let lines = logged_json(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(log_panic));
            let caught = std::panic::catch_unwind(|| sync_scope(context, || panic!("two\nlines")));
            std::panic::set_hook(before);
            assert!(caught.is_err());
        });
        assert_eq!((lines.len(), &lines[0]["panic"]), (1, &"two\nlines".into()));
        assert_eq!(lines[0]["trace_id"], context.to_string());
        assert!(lines[0]["location"].as_str().unwrap().contains("telemetry.rs"), "{}", lines[0]);
    }

    #[test]
    fn a_value_forges_no_line_and_commands_no_terminal() {
        let name = "Farhan\n2026-11-21 ERROR forged\r\u{1b}[2J\u{9b}2J";
        for colour in [false, true] {
            let text = logged_for_people(name, colour);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains(r"forged\r\u{1b}[2J\u{9b}2J"), "{text:?}");
            assert!(!text.contains("\x1b[2J"), "{text:?}");
        }
        assert!(!logged_for_people("Farhan", false).contains('\x1b'));
        assert!(logged_for_people("Farhan", true).contains("\x1b["), "colours pass where they are wanted");
    }
}
