//! Rollouts by risk: what a plan says, which arm a request goes to, what the arms did, and what follows from that. Pure: nothing
//! here waits, reads or writes.

pub mod evidence;
pub mod figures;
pub mod judge;
pub mod plan;
pub mod sequential;
pub mod split;
pub mod state;
pub mod tally;
