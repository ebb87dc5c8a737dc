//! A plan as the server tells it, and as a person reads it. What a newer server says beyond that is passed over.

use std::fmt::Write;

use serde::Deserialize;

use crate::cli::paint::{Cell, Paint, Style, Table, count};
use crate::rollout::figures::{duration, percent};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Plan {
    pub name: String,
    pub alpha: f64,
    pub max_seconds: u64,
    pub key: Option<String>,
    pub approve: bool,
    pub steps: Vec<Step>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    pub kind: String,
    share: Option<f64>,
    weight: Option<f64>,
    weights: Option<Vec<f64>>,
    pub min_seconds: u64,
    pub min_requests: u64,
    hold: bool,
}

impl Plan {
    /// The name of what is assigned and counted.
    pub fn units(&self) -> &'static str {
        if self.key.is_some() {
            "keys"
        } else {
            "requests"
        }
    }

    /// The dry run of a start.
    pub fn print(&self, paint: Paint, text: &mut String) {
        let titles = ["least time", "least", "then"].map(Cell::left);
        let mut table = Table::new(
            [Cell::left("step"), Cell::left("")]
                .into_iter()
                .chain(titles),
        );
        for (index, step) in self.steps.iter().enumerate() {
            let then = if step.waits() {
                "a person decides"
            } else if index + 1 < self.steps.len() {
                "goes on by itself"
            } else {
                "is promoted by itself"
            };
            table.row([
                Cell::right((index + 1).to_string()),
                Cell::left(step.what()),
                Cell::left(duration(step.min_seconds as f64)),
                Cell::left(format!(
                    "{} {} of each arm",
                    count(step.min_requests),
                    self.units()
                )),
                Cell::left(then),
            ]);
        }
        table.print(paint, text);
        let least: u64 = self.steps.iter().map(|step| step.min_seconds).sum();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "  {} at the least; inconclusive after {}",
            duration(least as f64),
            duration(self.max_seconds as f64)
        );
        let _ = writeln!(
            text,
            "  a candidate that is no worse is aborted with a probability of at most {}",
            percent(self.alpha)
        );
        if let Some(key) = &self.key {
            let _ = writeln!(
                text,
                "  assigned by {key}: who has the same value stays with the same version"
            );
        }
        if self.approve {
            let _ = writeln!(
                text,
                "  {}",
                paint.paint(
                    Style::Doubtful,
                    "a second verified name must approve before it begins"
                )
            );
        }
    }
}

impl Step {
    /// `shadow 10 %`, `canary 5 %`, `ab 50 % 30 %`, `blue-green`.
    pub fn what(&self) -> String {
        let shares: Vec<String> = self
            .share
            .iter()
            .chain(&self.weight)
            .chain(self.weights.iter().flatten())
            .map(|share| percent(*share))
            .collect();
        format!("{} {}", self.kind, shares.join(" "))
            .trim_end()
            .to_owned()
    }

    pub fn waits(&self) -> bool {
        self.hold || self.kind == "ab"
    }

    /// Whether stable answers beside the candidates, and has its own least number.
    pub fn is_concurrent(&self) -> bool {
        match self.kind.as_str() {
            "canary" => self.weight.is_some_and(|weight| weight < 1.0),
            "blue-green" => false,
            _ => true,
        }
    }
}
