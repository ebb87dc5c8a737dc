//! `Plan`: the steps of a rollout, and what a candidate must not be worse in; read from TOML, or one of the built-in ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// How a candidate becomes the stable version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutPlan {
    pub name: String,
    /// The promised probability that a candidate which is no worse is aborted, over the whole rollout and all of its candidates.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// After so many seconds what is not decided is inconclusive.
    #[serde(default = "default_max_seconds")]
    pub max_seconds: u64,
    #[serde(default, skip_serializing_if = "AssignmentKey::is_prediction_id")]
    pub key: AssignmentKey,
    /// A second verified name must approve before the rollout starts.
    #[serde(default)]
    pub approve: bool,
    #[serde(default)]
    pub guards: Guards,
    pub steps: Vec<PlanStep>,
}

/// What is assigned to an arm, and so the unit that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum AssignmentKey {
    /// Every request for itself.
    #[default]
    PredictionId,
    /// `header:NAME`: all requests with the same value of a header, whose name is lowercase here.
    Header(String),
    /// `field:NAME`: all requests whose first instance has the same value of a field.
    Field(String),
}

/// What a candidate must not be worse in. A margin is a difference of shares: what lies within it is no harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guards {
    /// Share of units that were not answered.
    pub error_margin: f64,
    /// Share of units answered with a number that is none.
    pub nan_margin: f64,
    /// Share of engine runs that failed, among runs of the same bucket of rows.
    pub run_margin: f64,
    /// A run is slow above this quantile of stable's runs of its bucket before the step; dear likewise.
    pub engine_time_quantile: f64,
    /// But no run that is faster than this is slow, or dear: of a few microseconds half is the state of a cache.
    pub engine_time_floor_ms: f64,
    /// Share of slow runs.
    pub engine_time_margin: f64,
    /// Share of dear runs.
    pub cost_margin: f64,
    /// A pair of answers differs where its numbers do by more than this.
    pub disagreement_tolerance: f64,
    /// Share of pairs that may differ; absent: not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disagreement_budget: Option<f64>,
    /// By how much the share of a predicted class (or bin) may differ; absent: not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution_budget: Option<f64>,
    pub on_disagreement: OnDisagreement,
    /// Share of failed units in a window above which the candidate is aborted at once, whatever stable does.
    pub error_ceiling: f64,
    /// The 99th percentile of the time from request to answer in a window, likewise; absent: not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ceiling_ms: Option<f64>,
    pub window_seconds: u64,
}

/// What follows when a candidate's predictions differ by more than their budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDisagreement {
    /// A person looks: a better model predicts otherwise, too.
    #[default]
    Pause,
    Abort,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PlanStep {
    /// A share of the requests is answered by the candidate, too; its answers are compared and thrown away.
    Shadow {
        share: f64,
        #[serde(default)]
        min_seconds: u64,
        #[serde(default)]
        min_requests: u64,
        /// Stays here until a person decides.
        #[serde(default)]
        hold: bool,
    },
    /// A share of the units is answered by the candidate.
    Canary {
        weight: f64,
        #[serde(default)]
        min_seconds: u64,
        #[serde(default)]
        min_requests: u64,
        #[serde(default)]
        hold: bool,
    },
    /// Stable and one or more candidates beside each other, until a person decides.
    Ab {
        /// One a candidate; absent: an even split among stable and the candidates.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<Vec<f64>>,
        #[serde(default)]
        min_seconds: u64,
        #[serde(default)]
        min_requests: u64,
    },
    /// All units at once; stable stays loaded.
    BlueGreen {
        #[serde(default)]
        min_seconds: u64,
        #[serde(default)]
        min_requests: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("{0}")]
    Syntax(String),
    #[error("unknown key `{key}`{}", nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownKey {
        key: String,
        nearest: Option<String>,
    },
    #[error("{0}")]
    Invalid(String),
}

const PLAN_KEYS: [&str; 7] = [
    "name",
    "alpha",
    "max_seconds",
    "key",
    "approve",
    "guards",
    "steps",
];
const GUARD_KEYS: [&str; 14] = [
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

/// What a step of a kind may hold; of no known kind: what any may hold.
fn step_keys(kind: &str) -> &'static [&'static str] {
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

fn default_alpha() -> f64 {
    0.01
}

fn default_max_seconds() -> u64 {
    7 * 86_400
}

impl Default for Guards {
    fn default() -> Guards {
        Guards {
            error_margin: 0.005,
            nan_margin: 0.005,
            run_margin: 0.005,
            engine_time_quantile: 0.95,
            engine_time_floor_ms: 0.2,
            engine_time_margin: 0.05,
            cost_margin: 0.05,
            disagreement_tolerance: 1e-3,
            disagreement_budget: None,
            distribution_budget: None,
            on_disagreement: OnDisagreement::Pause,
            error_ceiling: 0.10,
            p99_ceiling_ms: None,
            window_seconds: 60,
        }
    }
}

impl TryFrom<String> for AssignmentKey {
    type Error = String;

    fn try_from(text: String) -> Result<AssignmentKey, String> {
        match text.split_once(':') {
            // A header's name is a token (RFC 9110, 5.6.2), and the same in either case.
            Some(("header", name)) if !name.is_empty() && name.bytes().all(token) => {
                Ok(AssignmentKey::Header(name.to_ascii_lowercase()))
            }
            Some(("field", name)) if !name.is_empty() => Ok(AssignmentKey::Field(name.to_owned())),
            _ => Err(format!(
                "`key`: \"{text}\" is not \"header:NAME\" or \"field:NAME\""
            )),
        }
    }
}

fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl From<AssignmentKey> for String {
    fn from(key: AssignmentKey) -> String {
        match key {
            AssignmentKey::PredictionId => String::new(),
            AssignmentKey::Header(name) => format!("header:{name}"),
            AssignmentKey::Field(name) => format!("field:{name}"),
        }
    }
}

impl AssignmentKey {
    pub fn is_prediction_id(&self) -> bool {
        *self == AssignmentKey::PredictionId
    }

    /// The units' name in a text.
    pub fn units(&self) -> &'static str {
        if self.is_prediction_id() {
            "requests"
        } else {
            "keys"
        }
    }
}

impl RolloutPlan {
    pub const BUILTIN: &[&str] = &[
        "shadow",
        "canary",
        "ab",
        "blue-green",
        "low",
        "medium",
        "high",
    ];

    /// The text of a built-in plan, with its comments.
    pub fn builtin_text(name: &str) -> Option<&'static str> {
        match name {
            "shadow" => Some(include_str!("plans/shadow.toml")),
            "canary" => Some(include_str!("plans/canary.toml")),
            "ab" => Some(include_str!("plans/ab.toml")),
            "blue-green" => Some(include_str!("plans/blue-green.toml")),
            "low" => Some(include_str!("plans/low.toml")),
            "medium" => Some(include_str!("plans/medium.toml")),
            "high" => Some(include_str!("plans/high.toml")),
            _ => None,
        }
    }

    pub fn builtin(name: &str) -> Option<RolloutPlan> {
        RolloutPlan::parse(RolloutPlan::builtin_text(name)?).ok()
    }

    pub fn parse(text: &str) -> Result<RolloutPlan, PlanError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| PlanError::Syntax(error.to_string()))?;
        known(&table)?;
        // From the text once more: only so does an error show its line.
        let plan: RolloutPlan =
            toml::from_str(text).map_err(|error| PlanError::Invalid(error.to_string()))?;
        plan.check().map_err(PlanError::Invalid)?;
        Ok(plan)
    }

    /// Does the step wait for a person, whatever the judge sees?
    pub fn hold(&self, step: usize) -> bool {
        match self.steps.get(step) {
            Some(PlanStep::Ab { .. }) => true,
            Some(PlanStep::Shadow { hold, .. } | PlanStep::Canary { hold, .. }) => *hold,
            _ => false,
        }
    }

    /// The share of the units that each of `candidates` answers in a step; the rest is stable's.
    pub fn weights(&self, step: usize, candidates: usize) -> Vec<f64> {
        let each = |weight: f64| vec![weight; candidates];
        let number = candidates.max(1) as f64;
        match self.steps.get(step) {
            Some(PlanStep::Canary { weight, .. }) => each(weight / number),
            Some(PlanStep::Ab {
                weights: Some(weights),
                ..
            }) => weights.iter().copied().take(candidates).collect(),
            Some(PlanStep::Ab { weights: None, .. }) => each(1.0 / (number + 1.0)),
            Some(PlanStep::BlueGreen { .. }) => each(1.0 / number),
            Some(PlanStep::Shadow { .. }) | None => each(0.0),
        }
    }

    /// The share of the requests that the candidates answer for comparison only.
    pub fn shadow_share(&self, step: usize) -> f64 {
        match self.steps.get(step) {
            Some(PlanStep::Shadow { share, .. }) => *share,
            _ => 0.0,
        }
    }

    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("`name` must not be empty".to_owned());
        }
        within("alpha", self.alpha, 1e-9, 0.5)?;
        if !(1..=MAX_SECONDS).contains(&self.max_seconds) {
            return Err(format!("`max_seconds` must be from 1 to {MAX_SECONDS}"));
        }
        self.guards.check()?;
        if self.steps.is_empty() {
            return Err("`steps`: a plan has at least one step".to_owned());
        }
        let mut before = 0.0;
        let mut least_seconds: u64 = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let at = |key: &str| format!("steps[{index}].{key}");
            step.check(&at)?;
            least_seconds = least_seconds.saturating_add(step.min_seconds());
            // A weight that falls would take units away from a candidate that they were told is theirs.
            if let Some(weight) = step.weight() {
                if weight < before {
                    return Err(format!(
                        "`steps[{index}]`: a weight must not fall ({weight} after {before})"
                    ));
                }
                before = weight;
            }
        }
        if least_seconds > self.max_seconds {
            return Err(format!(
                "`max_seconds` must be at least the sum of the steps' `min_seconds` ({least_seconds})"
            ));
        }
        Ok(())
    }
}

/// A hundred days: longer, and a rollout is a second service.
const MAX_SECONDS: u64 = 8_640_000;

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("`{key}` must be from {least} to {most}"))
    }
}

impl Guards {
    fn check(&self) -> Result<(), String> {
        let shares = [
            ("error_margin", Some(self.error_margin), 0.0, 1.0),
            ("nan_margin", Some(self.nan_margin), 0.0, 1.0),
            ("run_margin", Some(self.run_margin), 0.0, 1.0),
            (
                "engine_time_quantile",
                Some(self.engine_time_quantile),
                0.5,
                0.999,
            ),
            (
                "engine_time_floor_ms",
                Some(self.engine_time_floor_ms),
                0.0,
                60_000.0,
            ),
            (
                "engine_time_margin",
                Some(self.engine_time_margin),
                0.0,
                1.0,
            ),
            ("cost_margin", Some(self.cost_margin), 0.0, 1.0),
            (
                "disagreement_tolerance",
                Some(self.disagreement_tolerance),
                0.0,
                f64::MAX,
            ),
            ("disagreement_budget", self.disagreement_budget, 0.0, 1.0),
            ("distribution_budget", self.distribution_budget, 0.001, 1.0),
            ("error_ceiling", Some(self.error_ceiling), 0.0, 1.0),
            ("p99_ceiling_ms", self.p99_ceiling_ms, 0.001, 86_400_000.0),
        ];
        for (key, value, least, most) in shares {
            if let Some(value) = value {
                within(&format!("guards.{key}"), value, least, most)?;
            }
        }
        if !(1..=86_400).contains(&self.window_seconds) {
            return Err("`guards.window_seconds` must be from 1 to 86400".to_owned());
        }
        Ok(())
    }
}

impl PlanStep {
    pub fn kind(&self) -> &'static str {
        match self {
            PlanStep::Shadow { .. } => "shadow",
            PlanStep::Canary { .. } => "canary",
            PlanStep::Ab { .. } => "ab",
            PlanStep::BlueGreen { .. } => "blue-green",
        }
    }

    pub fn min_seconds(&self) -> u64 {
        match self {
            PlanStep::Shadow { min_seconds, .. }
            | PlanStep::Canary { min_seconds, .. }
            | PlanStep::Ab { min_seconds, .. }
            | PlanStep::BlueGreen { min_seconds, .. } => *min_seconds,
        }
    }

    pub fn min_requests(&self) -> u64 {
        match self {
            PlanStep::Shadow { min_requests, .. }
            | PlanStep::Canary { min_requests, .. }
            | PlanStep::Ab { min_requests, .. }
            | PlanStep::BlueGreen { min_requests, .. } => *min_requests,
        }
    }

    /// Does stable answer units of the same time, so that the two can be compared?
    pub fn concurrent(&self) -> bool {
        match self {
            PlanStep::Shadow { .. } | PlanStep::Ab { .. } => true,
            PlanStep::Canary { weight, .. } => *weight < 1.0,
            PlanStep::BlueGreen { .. } => false,
        }
    }

    /// The largest share of one candidate; `None` where it depends on their number.
    fn weight(&self) -> Option<f64> {
        match self {
            PlanStep::Shadow { .. } => Some(0.0),
            PlanStep::Canary { weight, .. } => Some(*weight),
            PlanStep::Ab { weights, .. } => weights
                .as_ref()
                .map(|weights| weights.iter().copied().fold(0.0, f64::max)),
            PlanStep::BlueGreen { .. } => Some(1.0),
        }
    }

    fn check(&self, at: &impl Fn(&str) -> String) -> Result<(), String> {
        match self {
            PlanStep::Shadow { share, .. } => within(&at("share"), *share, SMALLEST_WEIGHT, 1.0),
            PlanStep::Canary { weight, .. } => within(&at("weight"), *weight, SMALLEST_WEIGHT, 1.0),
            PlanStep::Ab {
                weights: Some(weights),
                ..
            } => {
                for weight in weights {
                    within(&at("weights"), *weight, SMALLEST_WEIGHT, 1.0)?;
                }
                if weights.is_empty() || weights.iter().sum::<f64>() >= 1.0 {
                    return Err(format!(
                        "`{}` must hold one a candidate, and leave a share to stable",
                        at("weights")
                    ));
                }
                Ok(())
            }
            PlanStep::Ab { weights: None, .. } | PlanStep::BlueGreen { .. } => Ok(()),
        }
    }
}

/// One unit in a hundred thousand: below that no step ends.
const SMALLEST_WEIGHT: f64 = 1e-5;

fn known(table: &Table) -> Result<(), PlanError> {
    among(table, "", &PLAN_KEYS)?;
    if let Some(Value::Table(guards)) = table.get("guards") {
        among(guards, "guards.", &GUARD_KEYS)?;
    }
    if let Some(Value::Array(steps)) = table.get("steps") {
        for (index, step) in steps.iter().enumerate() {
            if let Value::Table(step) = step {
                let kind = step.get("kind").and_then(Value::as_str).unwrap_or_default();
                among(step, &format!("steps[{index}]."), step_keys(kind))?;
            }
        }
    }
    Ok(())
}

fn among(table: &Table, prefix: &str, known: &[&str]) -> Result<(), PlanError> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, key);
    let nearest = known
        .iter()
        .min_by_key(distance)
        .filter(|known| distance(known) <= key.len().div_ceil(2));
    Err(PlanError::UnknownKey {
        key: format!("{prefix}{key}"),
        nearest: nearest.map(|near| format!("{prefix}{near}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"mine\"\n[[steps]]\nkind = \"canary\"\nweight = 0.05\n";

    fn error(text: &str) -> String {
        RolloutPlan::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn built_in_plans() {
        for name in RolloutPlan::BUILTIN {
            let plan = RolloutPlan::parse(RolloutPlan::builtin_text(name).unwrap())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(&plan.name, name);
            assert_eq!(RolloutPlan::builtin(name).as_ref(), Some(&plan));
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<RolloutPlan>(&json).unwrap(), plan);
            assert_eq!(
                RolloutPlan::parse(&toml::to_string(&plan).unwrap()).unwrap(),
                plan
            );
        }
        assert_eq!(RolloutPlan::builtin("unknown"), None);
        assert!(RolloutPlan::builtin("high").unwrap().approve);
        assert!(
            RolloutPlan::builtin("ab").unwrap().hold(0)
                && RolloutPlan::builtin("shadow").unwrap().hold(0)
        );
        assert!(!RolloutPlan::builtin("canary").unwrap().hold(0));
    }

    #[test]
    fn every_key_is_known() {
        let guards = Guards {
            disagreement_budget: Some(0.1),
            distribution_budget: Some(0.1),
            p99_ceiling_ms: Some(1000.0),
            ..Guards::default()
        };
        let steps = vec![
            PlanStep::Shadow {
                share: 0.1,
                min_seconds: 1,
                min_requests: 1,
                hold: true,
            },
            PlanStep::Canary {
                weight: 0.1,
                min_seconds: 1,
                min_requests: 1,
                hold: true,
            },
            PlanStep::Ab {
                weights: Some(vec![0.5, 0.3]),
                min_seconds: 1,
                min_requests: 1,
            },
            PlanStep::BlueGreen {
                min_seconds: 1,
                min_requests: 1,
            },
        ];
        let key = AssignmentKey::Header("x-user-id".to_owned());
        let plan = RolloutPlan {
            name: "all".to_owned(),
            alpha: 0.01,
            max_seconds: 100,
            key,
            approve: true,
            guards,
            steps,
        };
        let text = toml::to_string(&plan).unwrap();
        assert_eq!(RolloutPlan::parse(&text).unwrap(), plan);
        let table: Table = text.parse().unwrap();
        assert_eq!(table.len(), PLAN_KEYS.len());
        assert_eq!(table["guards"].as_table().unwrap().len(), GUARD_KEYS.len());
        for step in table["steps"].as_array().unwrap() {
            assert_eq!(
                step.as_table().unwrap().len(),
                step_keys(step["kind"].as_str().unwrap()).len()
            );
        }
    }

    #[test]
    fn defaults() {
        let plan = RolloutPlan::parse(SMALL).unwrap();
        assert_eq!(
            (plan.alpha, plan.max_seconds, &plan.key, plan.approve),
            (0.01, 604_800, &AssignmentKey::PredictionId, false)
        );
        assert_eq!(plan.guards, Guards::default());
        assert_eq!(plan.key.units(), "requests");
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        assert_eq!(
            error(&format!("aplha = 0.1\n{SMALL}")),
            "unknown key `aplha`; did you mean `alpha`?"
        );
        assert_eq!(
            error(&format!("{SMALL}[guards]\neror_margin = 0.1\n")),
            "unknown key `guards.eror_margin`; did you mean `guards.error_margin`?"
        );
        assert_eq!(
            error(&format!("{SMALL}wieght = 1\n")),
            "unknown key `steps[0].wieght`; did you mean `steps[0].weight`?"
        );
        assert_eq!(
            error(&format!("{SMALL}share = 1\n")),
            "unknown key `steps[0].share`"
        );
        assert_eq!(
            error(&format!("zzzzzz = 0.1\n{SMALL}")),
            "unknown key `zzzzzz`"
        );
    }

    #[test]
    fn numbers_out_of_range_name_their_key() {
        assert!(error(&format!("alpha = 0\n{SMALL}")).starts_with("`alpha` must be"));
        assert!(error(&format!("alpha = nan\n{SMALL}")).starts_with("`alpha` must be"));
        assert!(error(&format!("max_seconds = 0\n{SMALL}")).starts_with("`max_seconds` must be"));
        for key in GUARD_KEYS.iter().filter(|key| **key != "on_disagreement") {
            let value = if *key == "window_seconds" {
                "0"
            } else {
                "-1.0"
            };
            let text = error(&format!("{SMALL}[guards]\n{key} = {value}\n"));
            assert!(
                text.starts_with(&format!("`guards.{key}` must be")),
                "{text}"
            );
        }
        assert!(error(&SMALL.replace("0.05", "1.5")).starts_with("`steps[0].weight` must be"));
        assert!(error(&SMALL.replace("weight = 0.05", "")).contains("weight"));
        assert!(error("name = \"x\"\nsteps = []").starts_with("`steps`"));
        assert!(
            error(&format!("max_seconds = 10\n{SMALL}min_seconds = 11\n"))
                .starts_with("`max_seconds` must be")
        );
        let fall = format!("{SMALL}[[steps]]\nkind = \"canary\"\nweight = 0.04\n");
        assert!(error(&fall).contains("`steps[1]`: a weight must not fall (0.04 after 0.05)"));
        let shadow = format!("{SMALL}[[steps]]\nkind = \"shadow\"\nshare = 0.5\n");
        assert!(error(&shadow).contains("`steps[1]`: a weight must not fall"));
        let ab = "name = \"x\"\n[[steps]]\nkind = \"ab\"\nweights = [0.5, 0.5]\n";
        assert!(error(ab).contains("steps[0].weights"));
    }

    #[test]
    fn keys() {
        let key = |text: &str| {
            RolloutPlan::parse(&format!("key = \"{text}\"\n{SMALL}")).map(|plan| plan.key)
        };
        assert_eq!(
            key("header:X-User-Id").unwrap(),
            AssignmentKey::Header("x-user-id".to_owned())
        );
        assert_eq!(
            key("field:customer_id").unwrap(),
            AssignmentKey::Field("customer_id".to_owned())
        );
        for wrong in ["header:", "header:a b", "field:", "cookie:a", ""] {
            assert!(
                key(wrong).unwrap_err().to_string().contains("`key`"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn weights() {
        let plan = RolloutPlan::builtin("medium").unwrap();
        assert_eq!(plan.weights(0, 1), [0.0]);
        assert_eq!(plan.weights(1, 1), [0.01]);
        assert!(plan.shadow_share(0) > 0.0 && plan.shadow_share(1) == 0.0);
        let last = plan.steps.len() - 1;
        assert_eq!(plan.weights(last, 1), [1.0]);
        assert!(!plan.steps[last].concurrent());
        assert_eq!(RolloutPlan::builtin("ab").unwrap().weights(0, 3), [0.25; 3]);
        assert_eq!(
            RolloutPlan::builtin("blue-green").unwrap().weights(0, 1),
            [1.0]
        );
    }
}
