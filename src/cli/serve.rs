//! `predictd serve`: runs the server.

use std::path::PathBuf;

use crate::{
    app,
    cli::{CommandOutcome, ConfigArgs, check},
    config::{AddressError, Listen, OptionalListen},
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Directory of the models, as NAME/VERSION/ (models.root)
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Address for HTTP (server.listen)
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// Address for gRPC; empty disables it (server.grpc_listen)
    #[arg(long, value_name = "ADDR", value_parser = optional)]
    grpc_listen: Option<OptionalListen>,
    /// Admin address; empty disables it (admin.listen)
    #[arg(long, value_name = "ADDR", value_parser = optional)]
    admin_listen: Option<OptionalListen>,
    /// Directory of the journal (state.url)
    ///
    /// A path or a file:// URL. If it is empty, decisions are kept in memory only.
    #[arg(long, value_name = "URL")]
    state: Option<String>,
    /// Check everything that would prevent serving, and exit
    ///
    /// Checks the configuration, the listeners, the ONNX Runtime library, the state directory and
    /// every package.
    #[arg(long)]
    check: bool,
}

fn optional(text: &str) -> Result<OptionalListen, AddressError> {
    OptionalListen::try_from(text.to_owned())
}

pub(super) fn run(args: Args) -> anyhow::Result<CommandOutcome> {
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
    app::serve(&config).map(|()| CommandOutcome::Done)
}
