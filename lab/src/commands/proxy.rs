//! `proxy`: the fault proxy alone, in front of anything that speaks gRPC.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use atm_fault_proxy::{
    Break, Counters, Delay, DelayLength, Glob, Heard, Moment, Proxy, ProxyError, Reorder, Rule, RuleError,
    Rules, Span, Tcp,
};
use clap::Args;
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::cli::Verdict;
use crate::screen::Screen;

const EXAMPLES: &str = "\
Point your client at --listen instead of at its server. Probabilities are per call, from 0 to 1.

Examples:
  atm-lab proxy --upstream http://127.0.0.1:50051 --lose-request 0.3 --lose-answer 0.3 --seed 7
  atm-lab proxy --upstream http://127.0.0.1:50051 --delay 100ms --method '/atm.gateway.v1.AtmService/*'
  atm-lab proxy --listen 127.0.0.1:60051 --upstream http://127.0.0.1:50051 --rules lab/rules/example.toml";

/// Where it stands, and what it does.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:60051")]
    listen: SocketAddr,
    /// The server that calls are forwarded to.
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// What everything that is drawn follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file of rules; instead of the flags below.
    #[arg(long, value_name = "FILE.toml", conflicts_with = "Faults")]
    rules: Option<PathBuf>,
    #[command(flatten)]
    faults: Faults,
    /// How often the counters are printed while it runs; 0s for never. SIGUSR1 prints them at once.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    report_every: Span,
    /// Listen where other machines can reach it, without TLS.
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Args)]
struct Faults {
    /// The methods that are struck; `*` stands for anything.
    #[arg(long, value_name = "GLOB", default_value = "*")]
    method: String,
    /// Requests that are never forwarded.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    lose_request: f64,
    /// Answers that are thrown away after the call took effect.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    lose_answer: f64,
    /// Let the client hear of a loss by a reset stream, instead of never.
    #[arg(long)]
    heard: bool,
    /// Requests that are forwarded twice.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    duplicate: f64,
    /// How long every request takes longer, such as 100ms.
    #[arg(long, value_name = "TIME")]
    delay: Option<Span>,
    /// How long every answer takes longer.
    #[arg(long, value_name = "TIME")]
    delay_answer: Option<Span>,
    /// Draw the delays from an exponential distribution with these means.
    #[arg(long)]
    exponential: bool,
    /// Requests that wait until three later ones were answered, or for a second.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    reorder: f64,
    /// Calls at which the connection is cut before they take effect.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    reset: f64,
    /// Calls at which the connection goes dark before they take effect.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    blackhole: f64,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// When rules make no sense or the address cannot be had.
pub async fn run(arguments: Arguments, screen: Screen) -> anyhow::Result<Verdict> {
    let rules = match &arguments.rules {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let rules: Rules =
                toml::from_str(&text).with_context(|| format!("{} holds no rules", path.display()))?;
            rules.rule
        }
        None => vec![arguments.faults.rule()],
    };
    ensure!(
        arguments.listen.ip().is_loopback() || arguments.insecure,
        "{} can be reached from other machines, without TLS: say --insecure if it may",
        arguments.listen
    );
    let proxy = Proxy::new(&arguments.upstream, Arc::new(Tcp), rules, Rng::with_seed(arguments.seed))
        .map_err(|error| at_fault(error, arguments.rules.as_deref()))?;
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    screen.remark(format_args!(
        "in front of {}: http://{} (seed {})",
        arguments.upstream,
        listener.local_addr()?,
        arguments.seed
    ));
    let stop = CancellationToken::new();
    let counters = proxy.counters();
    let mut asked = signal(SignalKind::user_defined1())?;
    let mut ended = signal(SignalKind::terminate())?;
    let period = arguments.report_every.0;
    let mut tick = interval(if period.is_zero() { Duration::from_secs(3600) } else { period });
    tick.tick().await;
    let serving = proxy.serve(listener, stop.clone());
    tokio::pin!(serving);
    loop {
        tokio::select! {
            served = &mut serving => served?,
            _ = tick.tick(), if !period.is_zero() => {
                report(&counters, screen);
                continue;
            }
            _ = asked.recv() => {
                report(&counters, screen);
                continue;
            }
            _ = ended.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        break;
    }
    report(&counters, screen);
    screen.object(&counters.snapshot());
    Ok(Verdict::Good)
}

/// Names the input: a rule by its file, and what a person gave as a flag by that flag.
fn at_fault(error: ProxyError, rules: Option<&Path>) -> anyhow::Error {
    match (error, rules) {
        (ProxyError::Rule(error), Some(path)) => anyhow!("{}: {error}", path.display()),
        (ProxyError::Rule(RuleError { field, problem, .. }), None) => {
            let flag = field.trim_end_matches(".probability").replace('_', "-");
            anyhow!("--{flag} {problem}")
        }
        (error @ ProxyError::NotAnHttpUrl { .. }, _) => anyhow!("--upstream: {error}"),
    }
}

impl Faults {
    fn rule(&self) -> Rule {
        let length =
            |span| if self.exponential { DelayLength::Exponential(span) } else { DelayLength::Fixed(span) };
        let delay = |span: Option<Span>| span.map(|span| Delay { probability: 1.0, length: length(span) });
        let broken = |probability| Some(Break { probability, moment: Moment::BeforeEffect });
        Rule {
            method: Glob::new(&self.method),
            lose_request: self.lose_request,
            lose_answer: self.lose_answer,
            heard: if self.heard { Heard::Reset } else { Heard::Never },
            duplicate: self.duplicate,
            delay_request: delay(self.delay),
            delay_answer: delay(self.delay_answer),
            reorder: Some(Reorder {
                probability: self.reorder,
                calls: 3,
                at_most: Span(Duration::from_secs(1)),
            }),
            reset: broken(self.reset),
            blackhole: broken(self.blackhole),
            ..Rule::default()
        }
    }
}

fn report(counters: &Counters, screen: Screen) {
    for (method, counted) in counters.snapshot() {
        let faults: Vec<String> = counted
            .faults
            .iter()
            .map(|(fault, count)| {
                let name = serde_json::to_value(fault).ok();
                let name = name.as_ref().and_then(|it| it.as_str()).unwrap_or_default().replace('_', " ");
                format!("{count} {name}")
            })
            .collect();
        let faults = if faults.is_empty() { "no faults".to_owned() } else { faults.join(", ") };
        screen.line(format_args!(
            "{method}  calls {}, forwarded {}, answered {}, unreachable {}; {faults}",
            counted.calls, counted.forwarded, counted.answered, counted.unreachable
        ));
    }
}
