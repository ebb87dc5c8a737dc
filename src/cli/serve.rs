//! `predictd serve`.

use std::path::PathBuf;

use crate::{
    app,
    cli::{ConfigArgs, Outcome, check},
    config::{AddressError, Listen, OptionalListen},
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
    /// Address for gRPC; empty: none (server.grpc_listen)
    #[arg(long, value_name = "ADDR", value_parser = optional)]
    grpc_listen: Option<OptionalListen>,
    /// Address for operators; empty: none (admin.listen)
    #[arg(long, value_name = "ADDR", value_parser = optional)]
    admin_listen: Option<OptionalListen>,
    /// Where decisions are kept (state.url)
    ///
    /// A directory or a file:// URL; empty: in memory only.
    #[arg(long, value_name = "URL")]
    state: Option<String>,
    /// Check all that would keep it from serving, and exit
    ///
    /// Configuration, listeners, library, state directory, and every package in its place.
    #[arg(long)]
    check: bool,
}

fn optional(text: &str) -> Result<OptionalListen, AddressError> {
    OptionalListen::try_from(text.to_owned())
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut config = args.config.load()?;
    if let Some(root) = args.models {
        config.models.root = root;
    }
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    if let Some(listen) = args.grpc_listen {
        config.server.grpc_listen = listen;
    }
    if let Some(listen) = args.admin_listen {
        config.admin.listen = listen;
    }
    if let Some(url) = args.state {
        config.state.url = url;
        config
            .check()
            .map_err(|detail| anyhow::anyhow!("--state: {detail}"))?;
    }
    if args.check {
        return check::run(&config);
    }
    app::serve(&config).map(|()| Outcome::Done)
}
