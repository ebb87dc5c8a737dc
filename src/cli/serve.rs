//! `predictd serve`.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    app,
    cli::{ConfigArgs, Outcome, verify},
    config::Config,
    engine::infer::Runtime,
    telemetry,
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
    listen: Option<SocketAddr>,
    /// Check configuration, library and every package, and exit
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
        return check(&config);
    }
    app::serve(&config).map(|()| Outcome::Done)
}

fn check(config: &Config) -> anyhow::Result<Outcome> {
    telemetry::check_level(&config.telemetry.log_level).map_err(anyhow::Error::msg)?;
    say!("ok      configuration");
    let library = app::find_library(config)?;
    let runtime = Runtime::load(&library)?;
    say!("ok      ONNX Runtime {} at {}", runtime.version(), library.display());
    let directories = verify::packages_below(&config.models.root)?;
    if directories.is_empty() {
        say!("FAILED  {} holds no package; the server would not be ready", config.models.root.display());
        return Ok(Outcome::Failed);
    }
    verify::verify_all(&directories, config, &library, false)
}
