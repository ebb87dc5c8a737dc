//! `Measurement`: the evidence of one guard about one candidate.

use crate::rollout::sequential::Proportion;

pub(super) struct Measurement {
    pub unit: &'static str,
    pub candidate: Proportion,
    pub stable: Option<Proportion>,
    pub margin: f64,
    /// ln of the e-value of the claim that the candidate is worse by more than the margin.
    pub log_e_worse: f64,
    /// ln of the e-value of the claim that the candidate is not worse by more than the margin.
    pub log_e_fine: f64,
    /// The factor by which the limit is raised, for guards that consist of several tests.
    pub limit_factor: f64,
    pub detail: Option<String>,
}
