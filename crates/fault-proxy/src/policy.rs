//! Decides what happens to each call: rules, dice, and nothing else. No waiting is done here.

use std::time::Duration;

use fastrand::Rng;

use crate::rules::{Break, Delay, DelayLength, Heard, Moment, Rule, RuleError};

/// Decides about one call after the other.
///
/// Each call takes one number from the generator and draws everything about itself from that, always in the same
/// order and whether it is needed or not. So the n-th call meets the same fate whatever happened to others, and
/// making one fault more likely does not move the others about.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<(Rule, u64)>,
    dice: Rng,
}

/// What is to happen to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    /// Wait until so many calls that came later have been answered, or so long.
    pub hold_back: Option<(u64, Duration)>,
    /// How long the request takes.
    pub delay_request: Duration,
    /// Where the request ends up.
    pub request: End,
    /// How much later the request is sent once more.
    pub duplicate: Option<Duration>,
    /// How long the answer takes.
    pub delay_answer: Duration,
    /// Where the answer ends up.
    pub answer: End,
}

/// Where a request or an answer ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It arrives.
    Passes,
    /// It is lost, and the client hears this of it.
    Lost(Heard),
    /// The connection is cut.
    Cut,
    /// The connection goes dark.
    Dark,
}

impl Fate {
    /// Nothing happens to the call.
    pub const NONE: Self = Self {
        hold_back: None,
        delay_request: Duration::ZERO,
        request: End::Passes,
        duplicate: None,
        delay_answer: Duration::ZERO,
        answer: End::Passes,
    };
}

impl Policy {
    /// Decides by these rules with this generator.
    ///
    /// # Errors
    /// [`RuleError`] names the first rule that makes no sense.
    pub fn new(rules: Vec<Rule>, dice: Rng) -> Result<Self, RuleError> {
        let mut policy = Self { rules: Vec::new(), dice };
        policy.set_rules(rules)?;
        Ok(policy)
    }

    /// Goes on with other rules and the same generator. Calls are counted anew.
    ///
    /// # Errors
    /// [`RuleError`] names the first rule that makes no sense; the old ones stay.
    pub fn set_rules(&mut self, rules: Vec<Rule>) -> Result<(), RuleError> {
        rules.iter().enumerate().try_for_each(|(index, rule)| rule.check(index + 1))?;
        self.rules = rules.into_iter().map(|rule| (rule, 0)).collect();
        Ok(())
    }

    /// Decides about the next call, which goes to `path` and comes `elapsed` after the start.
    pub fn decide(&mut self, path: &str, elapsed: Duration) -> Fate {
        let mut dice = self.dice.fork();
        let mut fate = None;
        for (rule, count) in &mut self.rules {
            if !rule.method.matches(path) {
                continue;
            }
            // Counted even if an earlier rule has decided: "call 3" means the third one that came.
            *count += 1;
            let meant = rule.calls.is_none_or(|calls| calls.contains(*count))
                && rule.during.is_none_or(|window| window.contains(elapsed));
            if fate.is_none() && meant {
                fate = Some(draw(rule, &mut dice));
            }
        }
        fate.unwrap_or(Fate::NONE)
    }
}

fn draw(rule: &Rule, dice: &mut Rng) -> Fate {
    let mut happens = |probability: f64| dice.f64() < probability;
    let lost_request = happens(rule.lose_request);
    let lost_answer = happens(rule.lose_answer);
    let duplicated = happens(rule.duplicate);
    let held_back = happens(rule.reorder.map_or(0.0, |it| it.probability));
    let reset = breaks(rule.reset, happens(rule.reset.map_or(0.0, |it| it.probability)));
    let dark = breaks(rule.blackhole, happens(rule.blackhole.map_or(0.0, |it| it.probability)));
    let duplicate_after = rule.duplicate_after.map(|length| duration(length, dice)).unwrap_or_default();
    let delay_request = delay(rule.delay_request, dice);
    let delay_answer = delay(rule.delay_answer, dice);
    let end = |moment, lost| {
        if reset == Some(moment) {
            End::Cut
        } else if dark == Some(moment) {
            End::Dark
        } else if lost {
            End::Lost(rule.heard)
        } else {
            End::Passes
        }
    };
    Fate {
        hold_back: rule.reorder.filter(|_| held_back).map(|it| (it.calls, it.at_most.0)),
        delay_request,
        request: end(Moment::BeforeEffect, lost_request),
        duplicate: duplicated.then_some(duplicate_after),
        delay_answer,
        answer: end(Moment::AfterEffect, lost_answer),
    }
}

fn breaks(rule: Option<Break>, happens: bool) -> Option<Moment> {
    rule.filter(|_| happens).map(|it| it.moment)
}

fn delay(rule: Option<Delay>, dice: &mut Rng) -> Duration {
    let happens = dice.f64() < rule.map_or(0.0, |it| it.probability);
    let length = rule.map_or(Duration::ZERO, |it| duration(it.length, dice));
    if happens { length } else { Duration::ZERO }
}

fn duration(length: DelayLength, dice: &mut Rng) -> Duration {
    let drawn = dice.f64();
    match length {
        DelayLength::Fixed(span) => span.0,
        DelayLength::Uniform(least, most) => least.0 + (most.0 - least.0).mul_f64(drawn),
        // The inverse of the distribution function. 1 − drawn is never 0.
        DelayLength::Exponential(mean) => mean.0.mul_f64((-(1.0 - drawn).ln()).min(100.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Calls, Reorder, Window};
    use crate::{Glob, Span};

    const METHOD: &str = "/bank/Post";

    fn policy(rules: Vec<Rule>, seed: u64) -> Policy {
        Policy::new(rules, Rng::with_seed(seed)).unwrap()
    }

    fn fates(policy: &mut Policy, calls: usize) -> Vec<Fate> {
        (0..calls).map(|_| policy.decide(METHOD, Duration::ZERO)).collect()
    }

    fn span(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }

    fn everything() -> Rule {
        Rule {
            lose_request: 0.3,
            lose_answer: 0.3,
            duplicate: 0.3,
            duplicate_after: Some(DelayLength::Exponential(span(10))),
            delay_request: Some(Delay { probability: 0.5, length: DelayLength::Uniform(span(1), span(9)) }),
            delay_answer: Some(Delay { probability: 0.5, length: DelayLength::Exponential(span(5)) }),
            reorder: Some(Reorder { probability: 0.2, calls: 2, at_most: span(50) }),
            reset: Some(Break { probability: 0.1, moment: Moment::AfterEffect }),
            blackhole: Some(Break { probability: 0.1, moment: Moment::BeforeEffect }),
            ..Rule::default()
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_fates_and_another_seed_others() {
        let run = |seed| fates(&mut policy(vec![everything()], seed), 500);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn making_one_fault_likelier_leaves_the_others_where_they_were() {
        let often = Rule { lose_request: 0.9, ..everything() };
        let (seldom, often) =
            (fates(&mut policy(vec![everything()], 7), 500), fates(&mut policy(vec![often], 7), 500));
        for (before, after) in seldom.iter().zip(&often) {
            assert_eq!(Fate { request: before.request, ..*after }, *before);
            assert!(before.request == after.request || before.request == End::Passes);
        }
    }

    #[test]
    fn losses_each_way_are_independent_and_as_frequent_as_told() {
        let fates = fates(&mut policy(vec![Rule::lossy(0.3, 0.5)], 42), 20_000);
        let share = |fits: &dyn Fn(&Fate) -> bool| {
            let count = u32::try_from(fates.iter().filter(|fate| fits(fate)).count()).unwrap();
            f64::from(count) / 20_000.0
        };
        let passes = |fate: &Fate| fate.request == End::Passes && fate.answer == End::Passes;
        // Five standard deviations of 20,000 draws are below 0.018.
        assert!((share(&|fate| fate.request != End::Passes) - 0.3).abs() < 0.018);
        assert!((share(&|fate| fate.answer != End::Passes) - 0.5).abs() < 0.018);
        assert!((share(&passes) - 0.7 * 0.5).abs() < 0.018);
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_every_rule_counts_its_own_calls() {
        let third = Rule { calls: Some(Calls::only(3)), ..Rule::lossy(1.0, 0.0) };
        let other = Rule { method: Glob::new("/bank/Cancel"), ..Rule::lossy(0.0, 1.0) };
        let rest =
            Rule { duplicate: 1.0, calls: Some(Calls { every: 2, ..Calls::default() }), ..Rule::default() };
        let mut policy = policy(vec![third, other, rest], 1);
        let fates = fates(&mut policy, 5);
        let lost: Vec<_> = fates.iter().map(|fate| fate.request != End::Passes).collect();
        assert_eq!(lost, [false, false, true, false, false]);
        let twice: Vec<_> = fates.iter().map(|fate| fate.duplicate.is_some()).collect();
        assert_eq!(twice, [true, false, false, false, true], "call 3 was the first rule's");
        assert_eq!(policy.decide("/bank/Cancel", Duration::ZERO).answer, End::Lost(Heard::Never));
        policy.set_rules(Vec::new()).unwrap();
        assert_eq!(policy.decide(METHOD, Duration::ZERO), Fate::NONE);
    }

    #[test]
    fn a_window_is_a_time_and_a_delay_keeps_within_its_bounds() {
        let window = Window { from: span(100), to: span(200) };
        let mut policy = policy(vec![Rule { during: Some(window), ..everything() }], 3);
        for _ in 0..100 {
            assert_eq!(policy.decide(METHOD, Duration::from_millis(99)), Fate::NONE);
            assert_eq!(policy.decide(METHOD, Duration::from_millis(200)), Fate::NONE);
            let delay = policy.decide(METHOD, Duration::from_millis(100)).delay_request;
            assert!(delay.is_zero() || (span(1).0..=span(9).0).contains(&delay), "{delay:?}");
        }
    }
}
