//! An experiment as a file: what is called, how it is repeated, and what gets lost.

mod check;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use atm_fault_proxy::{Heard, Rule, Span};
use atm_rpc::retry::RetryPolicy;
use serde::{Deserialize, Serialize};

use crate::theory::{self, Resend};

/// One experiment: a sweep of loss rates for each of its series.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// A short name, which its files get.
    pub name: String,
    /// What the plot is called.
    pub title: String,
    /// What is called at the bank.
    pub call: Call,
    /// How many times faster than stated everything is run. It stands on every plot.
    #[serde(default = "one")]
    pub time_scale: u32,
    /// The loss rates of the sweep.
    pub losses: Vec<f64>,
    /// Transactions at each point, at least.
    pub transactions: u32,
    /// How wide the 95 % confidence interval of the waiting time may be to either side, as a part of it; so many
    /// more transactions there are. Only `transactions` of them when absent.
    pub precision: Option<f64>,
    /// Transactions that are under way at once, at most.
    pub concurrency: usize,
    /// How many new ones begin in a second, at most, in real time: so that the bank itself is never the bottleneck.
    pub per_second: u32,
    /// What of it a short run does.
    pub quick: Quick,
    /// How the client repeats.
    pub resend: ResendRule,
    /// After how long the client gives up and does not know; never when absent.
    pub deadline: Option<Span>,
    /// What a client hears of a loss.
    #[serde(default)]
    pub heard: Heard,
    /// The curves.
    pub series: Vec<Series>,
    /// A process that is killed now and then.
    pub kill: Option<Kill>,
    /// Why measurement and theory may differ by more than 10 % here, if they may.
    pub explained: Option<String>,
}

/// What a short run does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quick {
    /// The loss rates of the sweep.
    pub losses: Vec<f64>,
    /// Transactions at each point, at least.
    pub transactions: u32,
    /// See [`Scenario::precision`].
    pub precision: Option<f64>,
    /// How many times faster it is run, if not as the long run is. Slower is less easily disturbed.
    pub time_scale: Option<u32>,
}

/// What is called.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `AtmService/Withdraw`: money, which has to move exactly once.
    Withdraw,
    /// `TextService/Lowercase`: stateless, and so safe to repeat without any care.
    Lowercase,
}

/// How a client repeats.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResendRule {
    /// After each of these intervals without an answer, again.
    Every(Span),
    /// Attempts with a timeout, and exponential backoff with full jitter between them.
    Backoff {
        /// How long one attempt is waited for.
        attempt_timeout: Span,
        /// The most that the first pause lasts.
        initial: Span,
        /// The most that any pause lasts.
        max: Span,
        /// How much longer it gets from pause to pause.
        multiplier: f64,
    },
}

/// One curve.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How often a request is lost.
    pub lose_request: Rate,
    /// How often an answer is lost.
    pub lose_answer: Rate,
}

/// How often something is lost.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// As often as the sweep says.
    Sweep,
    /// Always this often.
    Fixed(f64),
}

/// A process that is killed (`kill -9`) and started again at a schedule, in real time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which one.
    pub service: Victim,
    /// How long it lives each time.
    pub every: Span,
}

/// A process that can be killed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// Auth.
    Auth,
    /// The ledger.
    Ledger,
    /// The gateway.
    Gateway,
}

/// Transactions at one point, in hundreds, whatever precision is wished for.
const MOST_HUNDREDS: u32 = 200;

fn one() -> u32 {
    1
}

impl Rate {
    /// The rate at a point of the sweep.
    pub fn at(self, loss: f64) -> f64 {
        match self {
            Self::Sweep => loss,
            Self::Fixed(rate) => rate,
        }
    }
}

impl Scenario {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense, with its name.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a scenario", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        check::check(&scenario, text)?;
        Ok(scenario)
    }

    /// The short form of itself.
    #[must_use]
    pub fn quick(mut self) -> Self {
        self.losses.clone_from(&self.quick.losses);
        self.transactions = self.quick.transactions;
        self.precision = self.quick.precision;
        self.time_scale = self.quick.time_scale.unwrap_or(self.time_scale);
        self
    }

    /// The policy of the real retry loop, scaled.
    pub fn policy(&self) -> RetryPolicy {
        match &self.resend {
            ResendRule::Every(interval) => RetryPolicy {
                initial_backoff: Duration::ZERO,
                max_backoff: Duration::ZERO,
                multiplier: 1.0,
                attempt_timeout: self.scaled(*interval),
                max_attempts: None,
            },
            ResendRule::Backoff { attempt_timeout, initial, max, multiplier } => RetryPolicy {
                initial_backoff: self.scaled(*initial),
                max_backoff: self.scaled(*max),
                multiplier: *multiplier,
                attempt_timeout: self.scaled(*attempt_timeout),
                max_attempts: None,
            },
        }
    }

    /// The same for the theory.
    pub fn resend(&self) -> Resend {
        let policy = self.policy();
        Resend {
            attempt_timeout_ms: millis(policy.attempt_timeout),
            initial_backoff_ms: millis(policy.initial_backoff),
            max_backoff_ms: millis(policy.max_backoff),
            multiplier: policy.multiplier,
        }
    }

    /// A stated time as it is run.
    pub fn scaled(&self, span: Span) -> Duration {
        span.0 / self.time_scale
    }

    /// Transactions at a point.
    ///
    /// The mean of n waits that spread by c (as a part of the mean) is known within 1.96 c / √n of itself. Where nothing
    /// fails nothing is waited for; where little fails, many transactions are needed, and there is a limit to that.
    pub fn transactions_at(&self, series: &Series, loss: f64) -> u32 {
        let success = theory::success(series.lose_request.at(loss), series.lose_answer.at(loss));
        let Some(precision) = self.precision.filter(|_| success < 1.0) else { return self.transactions };
        let resend = self.resend();
        let failure_ms = match self.heard {
            Heard::Never => resend.attempt_timeout_ms,
            Heard::Reset => 0.0,
        };
        let wanted = (1.96 * theory::spread_of_waiting(success, &resend, failure_ms) / precision).powi(2);
        // In hundreds, found without a cast: the answer need not be exact.
        let enough = (1..=MOST_HUNDREDS).map(|hundreds| hundreds * 100).find(|n| f64::from(*n) >= wanted);
        enough.unwrap_or(MOST_HUNDREDS * 100).max(self.transactions)
    }

    /// What the proxy does at a point.
    pub fn rule(&self, series: &Series, loss: f64) -> Rule {
        Rule { heard: self.heard, ..Rule::lossy(series.lose_request.at(loss), series.lose_answer.at(loss)) }
    }
}

/// A duration in milliseconds, with fractions.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_repository_makes_sense_and_says_what_it_reproduces() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let scenario = Scenario::read(&path).unwrap();
            assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
            assert!(std::fs::read_to_string(&path).unwrap().starts_with("# "), "{}", path.display());
            assert!(scenario.policy().attempt_timeout >= Duration::from_millis(100), "{}", path.display());
            count += 1;
        }
        assert!(count >= 6, "{count} scenarios");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let sound = r#"
            name = "x"
            title = "X"
            call = "withdraw"
            time_scale = 5
            losses = [0.0, 0.9]
            transactions = 10
            concurrency = 1
            per_second = 10
            quick = { losses = [0.5], transactions = 5 }
            resend = { every = "1s" }
            series = [{ name = "both", lose_request = "sweep", lose_answer = { fixed = 0.3 } }]
        "#;
        let scenario = Scenario::parse(sound).unwrap();
        assert_eq!(scenario.policy().attempt_timeout, Duration::from_millis(200));
        let rule = scenario.rule(&scenario.series[0], 0.9);
        assert_eq!((rule.lose_request, rule.lose_answer), (0.9, 0.3));
        assert_eq!(scenario.quick.transactions, 5);
        // f = 0.93, and (1.96 / 0.05)² / 0.93 = 1652, give or take what the draws do to it.
        let precise = Scenario { precision: Some(0.05), ..scenario.clone() };
        assert!((1600..=1800).contains(&precise.transactions_at(&precise.series[0], 0.9)));
        assert_eq!(scenario.transactions_at(&scenario.series[0], 0.9), 10);
        assert_eq!(scenario.quick().transactions, 5);
        for (from, to, said) in [
            ("0.9]", "1.0]", "line 6: losses[1]: 1 must be from 0 to below 1"),
            ("0.9]", "nan]", "line 6: losses[1]: NaN must be from 0 to below 1"),
            ("0.9]", "0.0]", "line 6: losses[1]: 0 is there already"),
            ("\"x\"", "\"X y\"", "line 2: name: \"X y\" must be of a-z 0-9 -"),
            ("time_scale", "time_scales", "line 5"),
            ("= 5", "= 0", "line 5: time_scale: 0 must be 1 or more"),
            ("= 10", "= 1", "line 7: transactions: 1 must be 2 or more"),
            ("= 10", "= 10\nprecision = 0", "line 8: precision: 0 must be more than 0 and below 1"),
            ("= 10", "= 10\nprecision = -1.0", "line 8: precision: -1 must be more than 0 and below 1"),
            ("concurrency = 1", "concurrency = 0", "line 8: concurrency: 0 must be from 1"),
            ("per_second = 10", "per_second = 0", "line 9: per_second: 0 must be from 1"),
            ("= 5 }", "= 5, time_scale = 0 }", "line 10: quick.time_scale: 0 must be 1 or more"),
            ("= 5 }", "= 5, precision = nan }", "line 10: quick.precision: NaN must be"),
            ("[0.5]", "[]", "line 10: quick.losses: must not be empty"),
            ("1s", "soon", "line 11"),
            ("1s", "0s", "line 11: resend.every: 0ns, run 5 times faster, must be 1 ms or more"),
            ("every = \"1s\"", BACKOFF, "line 11: resend.backoff.multiplier: -2 must be from 1 to 100"),
            ("{ fixed = 0.3 }", "{ fixed = 1.0 }", "line 12: series[0].lose_answer.fixed: 1 must be"),
            ("{ fixed = 0.3 }", "{ fixed = 1.5 }", "line 12: series[0].lose_answer.fixed: 1.5 must be"),
            ("{ fixed = 0.3 }", "{ fixed = nan }", "line 12: series[0].lose_answer.fixed: NaN must be"),
            ("\"sweep\"", "{ fixed = 0.3 }", "line 12: series[0]: lose_request or lose_answer must be"),
            ("\"both\"", "\"\"", "line 12: series[0].name: \"\" must be a name"),
            ("call =", "deadline = \"0s\"\ncall =", "line 4: deadline: 0ns must be more than 0"),
            ("call =", KILL, "line 4: kill.every: 0ns must be more than 0"),
        ] {
            let error = format!("{:#}", Scenario::parse(&sound.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(said), "{to}: {error}");
        }
    }

    const BACKOFF: &str =
        r#"backoff = { attempt_timeout = "1s", initial = "50ms", max = "1s", multiplier = -2 }"#;
    const KILL: &str = r#"kill = { service = "ledger", every = "0s" }
            call ="#;

    #[test]
    fn a_refusal_names_its_file() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("nothing.toml");
        std::fs::write(&path, "name = 5").unwrap();
        let error = format!("{:#}", Scenario::read(&path).unwrap_err());
        assert!(error.starts_with(&format!("{} is not a scenario: ", path.display())), "{error}");
    }
}
