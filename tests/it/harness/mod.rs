//! Helpers that the tests share, one file for each thing that they deal with. A helper asserts only
//! that its own step worked; what a test promises is asserted in the test.

mod admin;
mod assert;
mod command;
mod deployment;
mod files;
mod in_process;
mod package;
mod plan;
mod server;
mod server_client;
mod small_disk;
mod state;
mod wait;

pub use assert::assert_contains;
pub use command::{PREDICTD, check_configuration, pack, run_predictd};
pub use deployment::{Deployment, package_copies, wait_for_package_copies};
pub use files::{copy_directory, file_names, fixture_path, json_lines, root, workplace_with_files};
pub use in_process::{InProcessServer, runtime};
pub use package::{
    declare_independent_rows, example_input, golden_examples, install_graph, install_package,
    models_of_graphs, models_with, number_package, object_schema, package_path, write_manifest,
    write_unpacked_package,
};
pub use plan::{
    CANARY_ALL, CANARY_HALF, CANARY_HELD, CHURN, customer, plan_with_steps, start_churn,
};
pub use server::Server;
pub use server_client::ServerClient;
pub use small_disk::SmallDisk;
pub use wait::{PATIENCE, PATIENT, wait_for, wait_until};
