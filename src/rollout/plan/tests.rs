//! Tests of plans: built-in ones, keys, ranges and weights.

use toml::Table;

use crate::rollout::plan::{
    AssignmentKey, Guards, PlanStep, RolloutPlan,
    parse::{GUARD_KEYS, PLAN_KEYS, step_keys},
};

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
    assert!(error(&format!("alpha = nan\n{SMALL}")).starts_with("`alpha`: expected a number"));
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
    let key =
        |text: &str| RolloutPlan::parse(&format!("key = \"{text}\"\n{SMALL}")).map(|plan| plan.key);
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
