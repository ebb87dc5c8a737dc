//! Metrics of decisions, rollouts and shadow copies.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec};

use crate::metrics::series::series;

series! {
    pub(crate) struct RolloutMetrics {
        shadow_requests: IntCounterVec = "predictd_shadow_requests_total",
            "Copies of requests that a candidate answered.", labels: &["model", "version", "candidate"];
        shadow_disagreements: IntCounterVec = "predictd_shadow_disagreements_total",
            "Copies whose answer differs from the stable version's.",
            labels: &["model", "version", "candidate"];
        shadow_dropped: IntCounterVec = "predictd_shadow_dropped_total",
            "Copies that were dropped: too large, or too many in the queue.",
            labels: &["model", "version", "candidate"];
        weight: GaugeVec = "predictd_rollout_weight",
            "Share of the unversioned traffic that a version answers, from 0 to 1.",
            labels: &["model", "version"];
        rollback_ready: IntGaugeVec = "predictd_rollback_ready",
            "1 while the previous stable version is loaded and answers its golden examples and requests of live traffic.",
            labels: &["model", "version"];
        journal_pending: IntGaugeVec = "predictd_journal_pending",
            "Decisions in force on this server that could not be written to the journal yet.",
            labels: &["model"];
        transitions: IntCounterVec = "predictd_rollout_transitions_total",
            "Decisions in the journal, by action and by who caused them.",
            labels: &["model", "version", "action", "cause"];
        e_value: GaugeVec = "predictd_rollout_e_value",
            "Evidence that a candidate is worse by more than the guard's margin, as a share of the limit: 1 aborts.",
            labels: &["model", "version", "guard"];
        pub webhook_failures: IntCounter = "predictd_webhook_failures_total",
            "Decisions that could not be posted to the webhook.";
    }
}

/// The shadow copies that one candidate answers.
#[derive(Clone)]
pub(crate) struct ShadowMetrics {
    pub requests: IntCounter,
    pub disagreements: IntCounter,
    pub dropped: IntCounter,
}

impl RolloutMetrics {
    /// The shadow copies of requests to `version` that `candidate` answers.
    pub(crate) fn shadow(&self, model: &str, version: &str, candidate: &str) -> ShadowMetrics {
        let labels = [model, version, candidate];
        ShadowMetrics {
            requests: self.shadow_requests.with_label_values(&labels),
            disagreements: self.shadow_disagreements.with_label_values(&labels),
            dropped: self.shadow_dropped.with_label_values(&labels),
        }
    }

    /// Sets the share of the unversioned traffic that a version answers. `None` means that the
    /// version no longer takes part.
    pub(crate) fn set_weight(&self, model: &str, version: &str, weight: Option<f64>) {
        let labels = [model, version];
        match weight {
            Some(weight) => self.weight.with_label_values(&labels).set(weight),
            None => drop(self.weight.remove_label_values(&labels)),
        }
    }

    /// Sets whether a rollback to `version` would work. `None` means that `version` is no longer
    /// the target of a rollback.
    pub(crate) fn set_rollback_ready(&self, model: &str, version: &str, ready: Option<bool>) {
        let labels = [model, version];
        match ready {
            Some(ready) => self
                .rollback_ready
                .with_label_values(&labels)
                .set(i64::from(ready)),
            None => drop(self.rollback_ready.remove_label_values(&labels)),
        }
    }

    pub(crate) fn set_journal_pending(&self, model: &str, decisions: usize) {
        let decisions = i64::try_from(decisions).unwrap_or(i64::MAX);
        self.journal_pending
            .with_label_values(&[model])
            .set(decisions);
    }

    pub(crate) fn count_transition(&self, model: &str, version: &str, action: &str, cause: &str) {
        self.transitions
            .with_label_values(&[model, version, action, cause])
            .inc();
    }

    /// Sets how close a guard is to aborting `version`. `None` means that the guard is no longer
    /// judged.
    pub(crate) fn set_e_value(&self, model: &str, version: &str, guard: &str, share: Option<f64>) {
        let labels = [model, version, guard];
        match share {
            Some(share) => self.e_value.with_label_values(&labels).set(share),
            None => drop(self.e_value.remove_label_values(&labels)),
        }
    }
}
