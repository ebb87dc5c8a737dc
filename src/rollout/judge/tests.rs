//! Tests of the judge with artificial evidence.

use super::*;
use crate::rollout::{
    evidence::{RunTotals, WARM_RUNS, WindowTotals},
    figures::{number, percent},
    judge::comparison::NO_RUNS,
};

const STABLE: &str = "1.0.0";
const CANDIDATE: &str = "1.1.0";

/// A plan with every guard: a shadow step, a canary step at 5 %, and a step with all units.
fn plan() -> RolloutPlan {
    RolloutPlan::parse(
        "name = \"test\"\nmax_seconds = 10000\nkey = \"header:x-user\"\n\
         [guards]\ndisagreement_budget = 0.1\ndistribution_budget = 0.1\np99_ceiling_ms = 200\n\
         [[steps]]\nkind = \"shadow\"\nshare = 0.5\nmin_requests = 100\n\
         [[steps]]\nkind = \"canary\"\nweight = 0.05\nmin_seconds = 600\nmin_requests = 500\n\
         [[steps]]\nkind = \"canary\"\nweight = 1.0\nmin_seconds = 600\nmin_requests = 500\n",
    )
    .unwrap()
}

fn arm(units: u64, failed: u64) -> ArmTotals {
    let runs = [(
        0,
        RunTotals {
            runs: units,
            slow: units / 20,
            expensive: units / 20,
            ..RunTotals::default()
        },
    )];
    ArmTotals {
        requests: units,
        units,
        failed,
        runs: runs.into(),
        ..ArmTotals::default()
    }
}

fn evidence(candidate: ArmTotals, stable: ArmTotals) -> Evidence {
    Evidence {
        arms: [
            (CANDIDATE.to_owned(), candidate),
            (STABLE.to_owned(), stable),
        ]
        .into(),
    }
}

/// Judges a step whose minimum time has passed.
fn judge_due_step(plan: &RolloutPlan, step: usize, evidence: &Evidence) -> Judgement {
    judge_at(plan, step, evidence, 700.0, 700.0)
}

fn judge_at(
    plan: &RolloutPlan,
    step: usize,
    evidence: &Evidence,
    step_seconds: f64,
    rollout_seconds: f64,
) -> Judgement {
    let candidates = [CANDIDATE.to_owned()];
    judge(&Case {
        plan,
        step,
        stable: STABLE,
        candidates: &candidates,
        evidence,
        step_seconds,
        rollout_seconds,
        accepted: &[],
    })
}

fn state(judgement: &Judgement, guard: GuardMetric) -> &GuardState {
    &judgement
        .guards
        .iter()
        .find(|report| report.guard == guard)
        .unwrap()
        .state
}

fn check(judgement: &Judgement, verdict: Verdict, text: &str) {
    assert_eq!(
        (judgement.verdict, judgement.text.as_str()),
        (verdict, text)
    );
}

#[test]
fn a_worse_candidate_is_aborted() {
    let judgement = judge_due_step(&plan(), 1, &evidence(arm(412, 30), arm(8000, 16)));
    let text = "aborted at step 2 (5 %) after 412 keys: error rate 7.3 % against 0.2 % (e-value \
                2.5e15, limit 1900)";
    check(&judgement, Verdict::Abort, text);
    assert_eq!(
        (judgement.guard, judgement.candidate.as_deref()),
        (Some(GuardMetric::Errors), Some(CANDIDATE))
    );
    // The judge does not wait for a minimum time or number when the proof already exists.
    assert_eq!(
        judge_at(&plan(), 1, &evidence(arm(40, 30), arm(800, 1)), 1.0, 1.0).verdict,
        Verdict::Abort
    );
    // A stable version that is worse than the candidate violates no guard.
    assert_ne!(
        judge_due_step(&plan(), 1, &evidence(arm(412, 0), arm(8000, 700))).verdict,
        Verdict::Abort
    );
    let nan = ArmTotals {
        nan: 30,
        ..arm(412, 0)
    };
    let judgement = judge_due_step(&plan(), 1, &evidence(nan, arm(8000, 16)));
    assert_eq!(
        (judgement.verdict, judgement.guard),
        (Verdict::Abort, Some(GuardMetric::Nan))
    );
}

#[test]
fn a_candidate_that_is_as_good_advances() {
    let (plan, good) = (plan(), evidence(arm(5000, 5), arm(95_000, 95)));
    let judgement = judge_due_step(&plan, 1, &good);
    let text = "passed step 2 (5 %) after 5000 keys: error rate 0.1 % against 0.1 %, \
                NaN answers 0 % against 0 %, failed runs 0 % against 0 %, slow runs 5 % against 5 %, \
                expensive runs 5 % against 5 %, error rate 0 % of 0 keys in 60 s, ceiling 10 %";
    // The evidence has no windows. Their guard has no data and does not delay the step.
    check(
        &judgement,
        Verdict::Advance,
        &text.replace(", error rate 0 % of 0 keys in 60 s, ceiling 10 %", ""),
    );
    assert!(
        judgement
            .guards
            .iter()
            .all(|report| report.state != GuardState::Violated)
    );
    // The minimum time and the minimum number are not reached yet.
    let judgement = judge_at(&plan, 1, &good, 120.0, 120.0);
    check(
        &judgement,
        Verdict::Hold,
        "stays at step 2 (5 %) after 5000 keys: 2 min of 10 min",
    );
    let judgement = judge_due_step(&plan, 1, &evidence(arm(400, 0), arm(95_000, 0)));
    assert!(
        judgement.text.contains(
            "after 400 keys: 400 of 500 keys of 1.1.0; not yet shown to be as good: error rate 0 %"
        ),
        "{}",
        judgement.text
    );
    // The candidate fails exactly as often as the margin allows: it is shown neither to be worse
    // nor to be fine.
    let judgement = judge_due_step(&plan, 1, &evidence(arm(5000, 30), arm(95_000, 95)));
    assert_eq!(
        (judgement.verdict, state(&judgement, GuardMetric::Errors)),
        (Verdict::Hold, &GuardState::Open)
    );
    let judgement = judge_at(
        &plan,
        1,
        &evidence(arm(5000, 30), arm(95_000, 95)),
        700.0,
        10_000.0,
    );
    assert_eq!(
        (judgement.verdict, judgement.guard),
        (Verdict::Inconclusive, None)
    );
    assert!(
        judgement.text.starts_with(
            "inconclusive at step 2 (5 %) after 2.78 h: not yet shown to be as good: error rate \
             0.6 %"
        ),
        "{}",
        judgement.text
    );
}

#[test]
fn a_candidate_without_traffic_does_not_advance() {
    let (plan, nothing) = (plan(), Evidence::default());
    for step in 0..3 {
        let judgement = judge_at(&plan, step, &nothing, 9_999.0, 9_999.0);
        assert_eq!(judgement.verdict, Verdict::Hold);
        assert!(
            judgement.text.contains("no traffic for 1.1.0"),
            "{}",
            judgement.text
        );
    }
    let judgement = judge_due_step(&plan, 1, &evidence(arm(5000, 5), ArmTotals::default()));
    assert_eq!(judgement.verdict, Verdict::Hold);
    assert!(judgement.text.contains("no traffic for 1.0.0"));
    assert_eq!(
        judge_at(&plan, 1, &nothing, 10_000.0, 10_000.0).verdict,
        Verdict::Inconclusive
    );
    assert_eq!(
        judge_due_step(&plan, 3, &nothing).verdict,
        Verdict::Inconclusive
    );
}

/// The totals of an arm with runs: (bucket, runs, slow runs).
fn arm_with_runs(runs: &[(u8, u64, u64)], units: u64) -> ArmTotals {
    let totals = |(bucket, runs, slow): &(u8, u64, u64)| {
        let totals = RunTotals {
            runs: *runs,
            slow: *slow,
            ..RunTotals::default()
        };
        (*bucket, totals)
    };
    ArmTotals {
        units,
        runs: runs.iter().map(totals).collect(),
        ..ArmTotals::default()
    }
}

#[test]
fn only_runs_of_the_same_size_are_compared() {
    let runs = arm_with_runs;
    // The large runs of the stable version are slow. They must not affect the candidate's small
    // runs.
    let judgement = judge_due_step(
        &plan(),
        1,
        &evidence(
            runs(&[(0, 2000, 100)], 5000),
            runs(&[(0, 5000, 250), (6, 5000, 5000)], 95_000),
        ),
    );
    assert_eq!(
        (
            judgement.verdict,
            state(&judgement, GuardMetric::EngineTime)
        ),
        (Verdict::Advance, &GuardState::Clear)
    );
    // The candidate is twice as slow for every size.
    let judgement = judge_due_step(
        &plan(),
        1,
        &evidence(
            runs(&[(0, 60, 30), (3, 60, 30)], 400),
            runs(&[(0, 900, 45), (3, 900, 45)], 4000),
        ),
    );
    assert_eq!(
        (judgement.verdict, judgement.guard),
        (Verdict::Abort, Some(GuardMetric::EngineTime))
    );
    assert!(judgement.text.starts_with(
        "aborted at step 2 (5 %) after 120 runs: slow runs 50 % against 5 % (e-value"
    ));
    // The arms have no size in common: the guard is not judged and does not delay the step.
    let judgement = judge_due_step(
        &plan(),
        1,
        &evidence(
            runs(&[(0, 5000, 250)], 5000),
            runs(&[(0, 2, 0), (6, 1500, 75)], 95_000),
        ),
    );
    assert_eq!(judgement.verdict, Verdict::Advance);
    assert_eq!(
        state(&judgement, GuardMetric::EngineTime),
        &GuardState::NotJudged("the arms have no size of run in common".into())
    );
    // No run is left, because the first runs after a load are not compared.
    let judgement = judge_due_step(
        &plan(),
        1,
        &evidence(runs(&[], 5000), runs(&[(0, 5000, 250)], 95_000)),
    );
    assert_eq!(
        state(&judgement, GuardMetric::EngineTime),
        &GuardState::NotJudged(NO_RUNS.into())
    );
    assert!(
        NO_RUNS.contains(&format!("the first {WARM_RUNS} runs")),
        "{NO_RUNS}"
    );
}

#[test]
fn a_failed_run_counts_once_whatever_the_number_of_its_units() {
    let failed = |runs: u64, failed: u64| ArmTotals {
        units: runs,
        runs: [(
            0,
            RunTotals {
                runs,
                failed,
                ..RunTotals::default()
            },
        )]
        .into(),
        ..ArmTotals::default()
    };
    let judgement = judge_due_step(&plan(), 1, &evidence(failed(400, 40), failed(8000, 16)));
    assert_eq!(
        (judgement.verdict, judgement.guard),
        (Verdict::Abort, Some(GuardMetric::Runs))
    );
}

#[test]
fn different_predictions_need_a_decision_of_an_operator() {
    let pairs = |pairs, differ| {
        let pairs = crate::rollout::evidence::PairTotals {
            pairs,
            differ,
            difference: 0.0,
        };
        evidence(
            ArmTotals {
                pairs,
                ..arm(5000, 5)
            },
            arm(5000, 5),
        )
    };
    let mut plan = plan();
    assert_eq!(
        judge_due_step(&plan, 0, &pairs(1000, 20)).verdict,
        Verdict::Advance
    );
    assert_eq!(
        judge_due_step(&plan, 0, &pairs(0, 0)).verdict,
        Verdict::Hold
    );
    assert_eq!(
        judge_due_step(&plan, 1, &pairs(0, 0)).verdict,
        Verdict::Advance
    );
    let judgement = judge_due_step(&plan, 0, &pairs(1000, 300));
    assert_eq!(
        (judgement.verdict, judgement.guard),
        (Verdict::Inconclusive, Some(GuardMetric::Disagreement))
    );
    assert!(judgement.text.starts_with(
        "inconclusive at step 1 (shadow 50 %) after 1000 pairs: pairs that differ 30 %, budget 10 \
         % (e"
    ));
    // An operator accepted the violation.
    let candidates = [CANDIDATE.to_owned()];
    let differs = pairs(1000, 300);
    let case = Case {
        plan: &plan,
        step: 0,
        stable: STABLE,
        candidates: &candidates,
        evidence: &differs,
        step_seconds: 700.0,
        rollout_seconds: 700.0,
        accepted: &[GuardMetric::Disagreement, GuardMetric::Errors],
    };
    assert_eq!(judge(&case).verdict, Verdict::Advance);
    assert_ne!(
        state(&judge(&case), GuardMetric::Errors),
        &GuardState::NotJudged("accepted by a person".into())
    );
    plan.guards.on_disagreement = OnDisagreement::Abort;
    assert_eq!(
        judge_due_step(&plan, 0, &pairs(1000, 300)).verdict,
        Verdict::Abort
    );
}

#[test]
fn another_distribution_of_predictions_aborts() {
    let mut plan = plan();
    plan.guards.on_disagreement = OnDisagreement::Abort;
    let classes = |yes, no| ArmTotals {
        predictions: [("no".to_owned(), no), ("yes".to_owned(), yes)].into(),
        ..arm(5000, 5)
    };
    let judgement = judge_due_step(
        &plan,
        1,
        &evidence(classes(2000, 3000), classes(2010, 2990)),
    );
    assert_eq!(
        (
            judgement.verdict,
            state(&judgement, GuardMetric::Distribution)
        ),
        (Verdict::Advance, &GuardState::Clear)
    );
    let judgement = judge_due_step(
        &plan,
        1,
        &evidence(classes(3000, 2000), classes(2010, 2990)),
    );
    assert_eq!(
        (judgement.verdict, judgement.guard),
        (Verdict::Abort, Some(GuardMetric::Distribution))
    );
    assert!(
        judgement.text.contains("predictions of \"") && judgement.text.contains(" % against "),
        "{}",
        judgement.text
    );
    // The candidate predicts one class less often, and also a new class.
    let mut fewer = classes(1000, 3000);
    fewer.predictions.insert("maybe".to_owned(), 1000);
    assert_eq!(
        judge_due_step(&plan, 1, &evidence(fewer, classes(2010, 2990))).guard,
        Some(GuardMetric::Distribution)
    );
}

#[test]
fn a_window_above_a_ceiling_aborts() {
    let windows = |totals: &[(u32, u64, u64, u64)], units| {
        let windows = totals.iter().map(|(window, units, failed, slow)| {
            (
                *window,
                WindowTotals {
                    units: *units,
                    failed: *failed,
                    slow: *slow,
                },
            )
        });
        evidence(
            ArmTotals {
                windows: windows.collect(),
                ..arm(units, units / 1000)
            },
            arm(95_000, 95),
        )
    };
    // Good windows do not compensate for a window in which half of the units fail.
    for step in [1, 2] {
        let judgement = judge_due_step(
            &plan(),
            step,
            &windows(&[(58, 100, 0, 0), (59, 100, 1, 0), (60, 80, 45, 0)], 8000),
        );
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Abort, Some(GuardMetric::ErrorCeiling))
        );
        let text = "after 8000 keys: error rate 56 % of 80 keys in 60 s, ceiling 10 % (e-value";
        assert!(judgement.text.contains(text), "{}", judgement.text);
    }
    let judgement = judge_due_step(&plan(), 1, &windows(&[(3, 200, 0, 26)], 8000));
    assert_eq!(
        (judgement.verdict, judgement.guard),
        (Verdict::Abort, Some(GuardMetric::P99Ceiling))
    );
    assert!(
        judgement
            .text
            .contains("later than 200 ms 13 % of 200 keys in 60 s, ceiling 1 %"),
        "{}",
        judgement.text
    );
    assert_eq!(
        judge_due_step(&plan(), 1, &windows(&[(3, 200, 20, 2)], 8000)).verdict,
        Verdict::Advance
    );
    // The first window that may abort is the one with the lowest limit.
    let limit_of = |window| {
        judge_due_step(&plan(), 1, &windows(&[(window, 200, 20, 2)], 8000)).guards[7].limit
    };
    assert!((limit_of(9) / limit_of(0) - 100.0).abs() < 1e-9);
}

#[test]
fn a_step_with_all_units_has_only_ceilings() {
    let plan = plan();
    let only_candidate = |units, failed| {
        let windows = [(
            0,
            WindowTotals {
                units,
                failed,
                slow: 0,
            },
        )]
        .into();
        Evidence {
            arms: [(
                CANDIDATE.to_owned(),
                ArmTotals {
                    windows,
                    ..arm(units, failed)
                },
            )]
            .into(),
        }
    };
    // The step has no stable arm, and the judge does not wait for one.
    let judgement = judge_due_step(&plan, 2, &only_candidate(600, 3));
    assert_eq!(judgement.verdict, Verdict::Advance);
    assert_eq!(
        state(&judgement, GuardMetric::Errors),
        &GuardState::NotJudged("the stable version answers nothing in this step".into())
    );
    assert_eq!(
        judge_due_step(&plan, 2, &only_candidate(600, 58)).verdict,
        Verdict::Hold
    );
    assert_eq!(
        judge_due_step(&plan, 2, &only_candidate(600, 200)).guard,
        Some(GuardMetric::ErrorCeiling)
    );
    assert_eq!(
        judge_due_step(&plan, 2, &Evidence::default()).verdict,
        Verdict::Hold
    );
}

#[test]
fn several_candidates_wait_for_an_operator() {
    let plan = RolloutPlan::builtin("ab").unwrap();
    let candidates = [CANDIDATE.to_owned(), "1.2.0".to_owned()];
    let mut evidence = evidence(arm(50_000, 50), arm(50_000, 50));
    let judge_due_step = |evidence: &Evidence| {
        let (step_seconds, rollout_seconds) = (90_000.0, 90_000.0);
        judge(&Case {
            plan: &plan,
            step: 0,
            stable: STABLE,
            candidates: &candidates,
            evidence,
            step_seconds,
            rollout_seconds,
            accepted: &[],
        })
    };
    evidence.arms.insert("1.2.0".to_owned(), arm(49_000, 49));
    check(
        &judge_due_step(&evidence),
        Verdict::Hold,
        "stays at step 1 (ab) after 49000 requests: a person decides",
    );
    evidence.arms.insert("1.2.0".to_owned(), arm(49_000, 700));
    let judgement = judge_due_step(&evidence);
    assert_eq!(
        (judgement.verdict, judgement.candidate.as_deref()),
        (Verdict::Abort, Some("1.2.0"))
    );
    assert!(judgement.text.starts_with(
        "aborted at step 1 (ab) after 49000 requests of 1.2.0: error rate 1.4 % against 0.1 %"
    ));
    assert_eq!(limit(&plan, 2), 2.0 * limit(&plan, 1));
}

#[test]
fn a_full_table_of_keys_is_inconclusive() {
    let full = |seconds| {
        let candidate = ArmTotals {
            full: true,
            ..arm(32_768, 200)
        };
        judge_at(
            &plan(),
            1,
            &evidence(candidate, arm(32_768, 33)),
            seconds,
            700.0,
        )
    };
    assert_eq!(full(599.0).verdict, Verdict::Hold);
    assert_eq!(full(600.0).verdict, Verdict::Inconclusive);
    assert!(full(600.0).text.starts_with(
        "inconclusive at step 2 (5 %): the limit of tracked keys is reached; not yet shown to be \
         as good: error rate 0.61 %"
    ));
}

#[test]
fn the_error_probability_is_split_among_all_tests() {
    // Number of tests: 8 in the shadow step (all guards but p99), 9 in the canary step, and 2 in the
    // step in which the candidate gets all units (the two ceilings).
    assert!((limit(&plan(), 1) - 19.0 / 0.01).abs() < 1e-9);
    for name in RolloutPlan::BUILTIN {
        let plan = RolloutPlan::builtin(name).unwrap();
        assert!(limit(&plan, 1) >= 1.0 / plan.alpha);
    }
}

#[test]
fn figures_are_rounded_for_messages() {
    assert_eq!(
        [0.0312, 0.002, 0.00023456, 0.5, 1.0, 0.0, 0.996].map(percent),
        ["3.1 %", "0.2 %", "0.023 %", "50 %", "100 %", "0 %", "100 %"]
    );
    assert_eq!(
        [671.4, 0.01234, 2.0, 1e6, 12345.0].map(number),
        ["671", "0.0123", "2", "1.0e6", "12345"]
    );
    assert_eq!(
        [90.0, 120.0, 7200.0, 604_800.0, 0.0].map(duration),
        ["90 s", "2 min", "2 h", "7 d", "0 s"]
    );
}

#[test]
fn a_report_is_valid_json() {
    let judgement = judge_due_step(&plan(), 2, &evidence(arm(412, 30), arm(8000, 16)));
    let json = serde_json::to_value(&judgement).unwrap();
    assert_eq!(json["verdict"], "hold");
    assert_eq!(json["guards"][0]["guard"], "errors");
    assert_eq!(json["guards"][0]["state"], "not_judged");
    assert_eq!(
        json["guards"][0]["reason"],
        "the stable version answers nothing in this step"
    );
    for guard in GuardMetric::ALL {
        assert_eq!(serde_json::to_value(guard).unwrap(), guard.name());
    }
    // Even extreme evidence stays a finite number.
    let strong = evidence(arm(1_000_000, 1_000_000), arm(1_000_000, 0));
    assert!(
        serde_json::to_value(judge_due_step(&plan(), 1, &strong)).unwrap()["guards"][0]["e_value"]
            .as_f64()
            .unwrap()
            > 1e200
    );
}
