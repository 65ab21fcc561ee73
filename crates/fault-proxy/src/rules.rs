//! What is to go wrong, as data: written in code, or read from a file.

use std::time::Duration;

use serde::Deserialize;

use crate::{Glob, Span};

/// The contents of a file of rules.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The first rule that fits a call decides about it; a call that none fits is passed on.
    #[serde(default)]
    pub rule: Vec<Rule>,
}

/// Which calls are meant, and what may happen to each of them.
///
/// Every probability is drawn on its own for each call, so that losing requests with p and answers with q lets
/// (1 − p)(1 − q) of the calls through. A break comes before a loss, which it makes pointless.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The methods, such as `/atm.ledger.v1.LedgerService/*`; all of them when absent.
    pub method: Glob,
    /// Which of their calls, counted by this rule; all of them when absent.
    pub calls: Option<Calls>,
    /// When, counted from the start of the proxy or of these rules; always when absent.
    pub during: Option<Window>,
    /// How likely a request is lost: it is never forwarded.
    pub lose_request: f64,
    /// How likely an answer is lost, after the call took effect.
    pub lose_answer: f64,
    /// What a client hears of either loss.
    pub heard: Heard,
    /// How likely a request is forwarded twice. The first answer that comes back is given.
    pub duplicate: f64,
    /// How much later the second copy is sent; at once when absent.
    pub duplicate_after: Option<DelayLength>,
    /// How long the request takes.
    pub delay_request: Option<Delay>,
    /// How long the answer takes.
    pub delay_answer: Option<Delay>,
    /// Whether later calls overtake the request.
    pub reorder: Option<Reorder>,
    /// Whether the connection is cut, with everything on it.
    pub reset: Option<Break>,
    /// Whether the connection goes dark: it stays open, and nothing comes out of it any more.
    pub blackhole: Option<Break>,
}

/// Calls of a rule's methods by their number, the first being 1.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// The first call that is meant.
    pub from: u64,
    /// The last call that is meant.
    pub to: u64,
    /// Of those, every so manieth, the first included.
    pub every: u64,
}

impl Default for Calls {
    fn default() -> Self {
        Self { from: 1, to: u64::MAX, every: 1 }
    }
}

impl Calls {
    /// The first `n` calls.
    pub fn first(n: u64) -> Self {
        Self { to: n, ..Self::default() }
    }

    /// This one call.
    pub fn only(n: u64) -> Self {
        Self { from: n, to: n, every: 1 }
    }

    /// Whether the call with this number is meant.
    pub fn contains(&self, number: u64) -> bool {
        (self.from..=self.to).contains(&number) && (number - self.from).is_multiple_of(self.every)
    }
}

/// A time window, from one moment up to and without another.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its begin.
    #[serde(default)]
    pub from: Span,
    /// Its end.
    pub to: Span,
}

impl Window {
    pub(crate) fn contains(&self, elapsed: Duration) -> bool {
        (self.from.0..self.to.0).contains(&elapsed)
    }
}

/// What a client hears of a loss.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// Nothing, until its own deadline.
    #[default]
    Never,
    /// That its stream was reset.
    Reset,
}

/// A delay that happens with some probability.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// How likely it is; certain when absent.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How long it is.
    pub length: DelayLength,
}

/// How long a delay is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum DelayLength {
    /// Always the same.
    Fixed(Span),
    /// Anything between the two, all equally likely.
    Uniform(Span, Span),
    /// Exponentially distributed with this mean, but at most a hundred times as long.
    Exponential(Span),
}

/// Calls that are held back.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// How likely it is; certain when absent.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How many calls that came later have to be answered first.
    pub calls: u64,
    /// How long it waits for them at most.
    pub at_most: Span,
}

/// The end of a connection, by a cut or by silence.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Break {
    /// How likely it is; certain when absent.
    #[serde(default = "certain")]
    pub probability: f64,
    /// When it comes.
    #[serde(default)]
    pub moment: Moment,
}

/// When a connection ends, as seen from the call at which it does.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the request was forwarded.
    #[default]
    BeforeEffect,
    /// After the answer came, and without giving it.
    AfterEffect,
}

fn certain() -> f64 {
    1.0
}

/// Why a rule makes no sense.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("rule {number}: {field} {problem}")]
pub struct RuleError {
    /// The rule, the first being 1.
    pub number: usize,
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Rule {
    /// Loses requests and answers with these probabilities, unheard.
    pub fn lossy(lose_request: f64, lose_answer: f64) -> Self {
        Self { lose_request, lose_answer, ..Self::default() }
    }

    /// Checks ranges; `number` is for the error.
    pub(crate) fn check(&self, number: usize) -> Result<(), RuleError> {
        let probabilities = [
            ("lose_request", self.lose_request),
            ("lose_answer", self.lose_answer),
            ("duplicate", self.duplicate),
            ("delay_request.probability", self.delay_request.map_or(0.0, |it| it.probability)),
            ("delay_answer.probability", self.delay_answer.map_or(0.0, |it| it.probability)),
            ("reorder.probability", self.reorder.map_or(0.0, |it| it.probability)),
            ("reset.probability", self.reset.map_or(0.0, |it| it.probability)),
            ("blackhole.probability", self.blackhole.map_or(0.0, |it| it.probability)),
        ];
        let wrong = |field, problem| Err(RuleError { number, field, problem });
        for (field, probability) in probabilities {
            if !(0.0..=1.0).contains(&probability) {
                return wrong(field, "must be from 0 to 1");
            }
        }
        if self.calls.is_some_and(|calls| calls.every == 0 || calls.from == 0 || calls.to < calls.from) {
            return wrong(
                "calls",
                "must begin with 1 or more, not end before it begins, and step by 1 or more",
            );
        }
        if self.during.is_some_and(|window| window.to <= window.from) {
            return wrong("during", "must end after it begins");
        }
        let lengths = [
            self.duplicate_after,
            self.delay_request.map(|it| it.length),
            self.delay_answer.map(|it| it.length),
        ];
        for length in lengths.into_iter().flatten() {
            if matches!(length, DelayLength::Uniform(least, most) if most < least) {
                return wrong("uniform", "must not end before it begins");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_chosen_by_number() {
        let chosen = |calls: Calls| (1..=10).filter(|n| calls.contains(*n)).collect::<Vec<_>>();
        assert_eq!(chosen(Calls::first(3)), [1, 2, 3]);
        assert_eq!(chosen(Calls::only(4)), [4]);
        assert_eq!(chosen(Calls { from: 2, to: 8, every: 3 }), [2, 5, 8]);
        assert_eq!(chosen(Calls { every: 5, ..Calls::default() }), [1, 6]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_name_of_the_field() {
        let field = |rule: Rule| rule.check(1).unwrap_err().field;
        assert_eq!(field(Rule::lossy(1.1, 0.0)), "lose_request");
        assert_eq!(field(Rule::lossy(0.0, f64::NAN)), "lose_answer");
        assert_eq!(field(Rule { duplicate: -0.1, ..Rule::default() }), "duplicate");
        let backwards = Calls { from: 5, to: 4, every: 1 };
        assert_eq!(field(Rule { calls: Some(backwards), ..Rule::default() }), "calls");
        let never = Calls { every: 0, ..Calls::default() };
        assert_eq!(field(Rule { calls: Some(never), ..Rule::default() }), "calls");
        let empty = Window { from: Span::default(), to: Span::default() };
        assert_eq!(field(Rule { during: Some(empty), ..Rule::default() }), "during");
    }

    #[test]
    fn rules_are_read_from_text_and_misspelt_ones_are_refused() {
        let text = r#"{ "rule": [ {
            "method": "/a.B/*", "calls": { "from": 3 }, "during": { "to": "5s" }, "lose_request": 0.3,
            "heard": "reset", "delay_answer": { "length": { "uniform": ["10ms", "20ms"] } },
            "reorder": { "calls": 2, "at_most": "1s" }, "reset": { "probability": 0.1, "moment": "after_effect" }
        } ] }"#;
        let rules: Rules = serde_json::from_str(text).unwrap();
        let rule = &rules.rule[0];
        rule.check(1).unwrap();
        assert_eq!(rule.calls, Some(Calls { from: 3, ..Calls::default() }));
        assert_eq!(rule.heard, Heard::Reset);
        assert_eq!(rule.delay_answer.unwrap().probability, 1.0);
        assert_eq!(rule.reset.unwrap().moment, Moment::AfterEffect);
        let misspelt = serde_json::from_str::<Rules>(r#"{ "rule": [ { "loose_request": 0.3 } ] }"#);
        assert!(misspelt.unwrap_err().to_string().contains("loose_request"));
    }
}
