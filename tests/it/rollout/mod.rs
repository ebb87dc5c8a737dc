//! Rollouts and rollbacks of a running server.

mod journal;
mod judge;
mod operators;
mod traffic;
