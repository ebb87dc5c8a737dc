//! The built-in plans.

use crate::rollout::plan::RolloutPlan;

impl RolloutPlan {
    pub(crate) const BUILTIN: &[&str] = &[
        "shadow",
        "canary",
        "ab",
        "blue-green",
        "low",
        "medium",
        "high",
    ];

    /// The TOML of a built-in plan, including its comments.
    pub fn builtin_text(name: &str) -> Option<&'static str> {
        match name {
            "shadow" => Some(include_str!("../plans/shadow.toml")),
            "canary" => Some(include_str!("../plans/canary.toml")),
            "ab" => Some(include_str!("../plans/ab.toml")),
            "blue-green" => Some(include_str!("../plans/blue-green.toml")),
            "low" => Some(include_str!("../plans/low.toml")),
            "medium" => Some(include_str!("../plans/medium.toml")),
            "high" => Some(include_str!("../plans/high.toml")),
            _ => None,
        }
    }

    /// The built-in plan with this name. `None` for an unknown name.
    pub fn builtin(name: &str) -> Option<RolloutPlan> {
        RolloutPlan::parse(RolloutPlan::builtin_text(name)?).ok()
    }
}
