//! What a scenario must be like beyond its types: whatever is refused here would run for ever, divide by nothing, or
//! measure points that nobody can tell apart.

use std::fmt::Display;
use std::time::Duration;

use anyhow::anyhow;
use atm_fault_proxy::Span;
use toml::de::DeTable;

use super::{Rate, ResendRule, Scenario, Series};

/// What is wrong, and with which key.
struct Wrong {
    key: String,
    problem: String,
}

type Checked = Result<(), Wrong>;

/// Refuses what makes no sense, with the line and the key.
pub(super) fn check(scenario: &Scenario, text: &str) -> anyhow::Result<()> {
    sense(scenario).map_err(|Wrong { key, problem }| match line_of(text, &key) {
        Some(line) => anyhow!("line {line}: {key}: {problem}"),
        None => anyhow!("{key}: {problem}"),
    })
}

/// More streams the proxy does not take.
const MOST_AT_ONCE: usize = 100_000;
/// Faster than that no timer ticks.
const MOST_PER_SECOND: u32 = 1_000_000;

fn sense(scenario: &Scenario) -> Checked {
    let Scenario { name, concurrency, per_second, quick, .. } = scenario;
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    insist(!name.is_empty() && plain, "name", format_args!("{name:?} must be of a-z 0-9 -"))?;
    let at_once = (1..=MOST_AT_ONCE).contains(concurrency);
    insist(at_once, "concurrency", format_args!("{concurrency} must be from 1 to {MOST_AT_ONCE}"))?;
    let pace = (1..=MOST_PER_SECOND).contains(per_second);
    insist(pace, "per_second", format_args!("{per_second} must be from 1 to {MOST_PER_SECOND}"))?;
    form("", &scenario.losses, scenario.transactions, scenario.precision, scenario.time_scale)?;
    let time_scale = quick.time_scale.unwrap_or(scenario.time_scale);
    form("quick.", &quick.losses, quick.transactions, quick.precision, time_scale)?;
    resend(&scenario.resend, scenario.time_scale.max(time_scale))?;
    if let Some(deadline) = scenario.deadline {
        lasting("deadline", deadline)?;
    }
    if let Some(kill) = scenario.kill {
        lasting("kill.every", kill.every)?;
    }
    curves(&scenario.series)
}

/// The long form or the quick one.
fn form(of: &str, losses: &[f64], transactions: u32, precision: Option<f64>, time_scale: u32) -> Checked {
    insist(time_scale >= 1, format!("{of}time_scale"), "0 must be 1 or more")?;
    let enough = format_args!("{transactions} must be 2 or more");
    insist(transactions >= 2, format!("{of}transactions"), enough)?;
    if let Some(precision) = precision {
        let (some, key) = (precision > 0.0 && precision < 1.0, format!("{of}precision"));
        insist(some, key, format_args!("{precision} must be more than 0 and below 1"))?;
    }
    insist(!losses.is_empty(), format!("{of}losses"), "must not be empty")?;
    for (place, loss) in losses.iter().enumerate() {
        let key = format!("{of}losses[{place}]");
        sometimes_arrives(&key, *loss)?;
        insist(!losses[..place].contains(loss), key, format_args!("{loss} is there already"))?;
    }
    Ok(())
}

fn resend(rule: &ResendRule, time_scale: u32) -> Checked {
    // What is waited for less than this is over before it has begun.
    let waits = |key: &str, span: Span| {
        let least = Duration::from_millis(1);
        let problem = format_args!("{span}, run {time_scale} times faster, must be 1 ms or more");
        insist(span.0 / time_scale >= least, key, problem)
    };
    match rule {
        ResendRule::Every(interval) => waits("resend.every", *interval),
        ResendRule::Backoff { attempt_timeout, initial, max, multiplier } => {
            waits("resend.backoff.attempt_timeout", *attempt_timeout)?;
            let grows = format_args!("{max} must not be below initial, {initial}");
            insist(max >= initial, "resend.backoff.max", grows)?;
            let within = (1.0..=100.0).contains(multiplier);
            let problem = format_args!("{multiplier} must be from 1 to 100");
            insist(within, "resend.backoff.multiplier", problem)
        }
    }
}

fn curves(series: &[Series]) -> Checked {
    insist(!series.is_empty(), "series", "must not be empty")?;
    for (place, Series { name, lose_request, lose_answer }) in series.iter().enumerate() {
        let key = format!("series[{place}]");
        let alone = !name.is_empty() && series[..place].iter().all(|other| other.name != *name);
        let problem = format_args!("{name:?} must be a name, and no other curve's");
        insist(alone, format!("{key}.name"), problem)?;
        for (side, rate) in [("lose_request", lose_request), ("lose_answer", lose_answer)] {
            if let Rate::Fixed(rate) = rate {
                sometimes_arrives(&format!("{key}.{side}.fixed"), *rate)?;
            }
        }
        let sweeps = [lose_request, lose_answer].iter().any(|rate| matches!(rate, Rate::Sweep));
        insist(sweeps, key, "lose_request or lose_answer must be \"sweep\", or all its points are the same")?;
    }
    Ok(())
}

/// With a loss of 1 nothing ever ends.
fn sometimes_arrives(key: &str, loss: f64) -> Checked {
    insist((0.0..1.0).contains(&loss), key, format_args!("{loss} must be from 0 to below 1"))
}

fn lasting(key: &str, span: Span) -> Checked {
    insist(!span.0.is_zero(), key, format_args!("{span} must be more than 0"))
}

fn insist(right: bool, key: impl Into<String>, problem: impl Display) -> Checked {
    if right { Ok(()) } else { Err(Wrong { key: key.into(), problem: problem.to_string() }) }
}

/// The line of a key such as `series[0].lose_request.fixed`, or of the innermost part of it that is there.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut steps = key.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    let mut value = document.get_ref().get(steps.next()?)?;
    for step in steps {
        let inner = match step.parse::<usize>() {
            Ok(place) => value.get_ref().get(place),
            Err(_) => value.get_ref().get(step),
        };
        let Some(inner) = inner else { break };
        value = inner;
    }
    Some(text.get(..value.span().start)?.matches('\n').count() + 1)
}
