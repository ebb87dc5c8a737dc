//! Recovery: rollbacks under load, states that cannot be written, full disks, damaged journals,
//! lost files.

mod copies;
mod lost_files;
mod repair;
mod rollback;
mod state;
