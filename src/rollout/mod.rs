//! Rollouts: the plan of a rollout, the assignment of requests to versions, the evidence about the
//! versions, and the judge. Pure: no function waits, reads or writes.

pub mod evidence;
pub(crate) mod figures;
pub mod judge;
pub mod plan;
pub(crate) mod role;
pub mod sequential;
mod slots;
pub mod split;
pub(crate) mod state;
pub(crate) mod tally;
