//! Parses a plan in TOML.

use toml::{Table, Value};

use crate::{
    document,
    rollout::plan::{PlanError, RolloutPlan},
};

pub(super) const PLAN_KEYS: [&str; 7] = [
    "name",
    "alpha",
    "max_seconds",
    "key",
    "approve",
    "guards",
    "steps",
];
pub(super) const GUARD_KEYS: [&str; 14] = [
    "error_margin",
    "nan_margin",
    "run_margin",
    "engine_time_quantile",
    "engine_time_floor_ms",
    "engine_time_margin",
    "cost_margin",
    "disagreement_tolerance",
    "disagreement_budget",
    "distribution_budget",
    "on_disagreement",
    "error_ceiling",
    "p99_ceiling_ms",
    "window_seconds",
];

/// The keys of a step of this kind. For an unknown kind, returns the keys of all kinds, so that the
/// error names the kind and not a key.
pub(super) fn step_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "shadow" => &["kind", "share", "min_seconds", "min_requests", "hold"],
        "canary" => &["kind", "weight", "min_seconds", "min_requests", "hold"],
        "ab" => &["kind", "weights", "min_seconds", "min_requests"],
        "blue-green" => &["kind", "min_seconds", "min_requests"],
        _ => &[
            "kind",
            "share",
            "weight",
            "weights",
            "min_seconds",
            "min_requests",
            "hold",
        ],
    }
}

impl RolloutPlan {
    /// Parses a plan in TOML and checks its values.
    pub fn parse(text: &str) -> Result<RolloutPlan, PlanError> {
        let table = document::parse_toml(text)?;
        check_keys(&table)?;
        let plan: RolloutPlan = document::read_table(&table)?;
        plan.check()?;
        Ok(plan)
    }
}

/// Rejects unknown keys, with a suggestion that the deserializer can't make.
fn check_keys(table: &Table) -> Result<(), PlanError> {
    check_known(table, "", &PLAN_KEYS)?;
    if let Some(Value::Table(guards)) = table.get("guards") {
        check_known(guards, "guards.", &GUARD_KEYS)?;
    }
    let Some(Value::Array(steps)) = table.get("steps") else {
        return Ok(());
    };
    for (index, step) in steps.iter().enumerate() {
        let Value::Table(step) = step else {
            return Err(PlanError::NotATable(index));
        };
        let kind = step.get("kind").and_then(Value::as_str).unwrap_or_default();
        check_known(step, &format!("steps[{index}]."), step_keys(kind))?;
    }
    Ok(())
}

fn check_known(table: &Table, prefix: &str, known: &[&str]) -> Result<(), PlanError> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, key);
    // A key that is more than half wrong is not a typo.
    let nearest = known
        .iter()
        .min_by_key(distance)
        .filter(|known| distance(known) <= key.len().div_ceil(2));
    Err(PlanError::UnknownKey {
        key: format!("{prefix}{key}"),
        nearest: nearest.map(|near| format!("{prefix}{near}")),
    })
}
