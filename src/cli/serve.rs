//! `predictd serve`.

use std::path::PathBuf;

use crate::{
    app,
    cli::{ConfigArgs, Outcome, check},
    config::Listen,
};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Directory of packages, NAME/VERSION/ each (models.root)
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Address to listen on (server.listen)
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// Check all that would keep it from serving, and exit
    ///
    /// Configuration, listeners, library, state directory, and every package in its place.
    #[arg(long)]
    check: bool,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut config = args.config.load()?;
    if let Some(root) = args.models {
        config.models.root = root;
    }
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    if args.check {
        return check::run(&config);
    }
    app::serve(&config).map(|()| Outcome::Done)
}
