//! `predictd serve`.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    app,
    cli::{ConfigArgs, Outcome, verify},
    config::Config,
    engine::infer::Runtime,
    registry, telemetry,
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
    let with_bare = !config.models.require_manifest;
    let ignored = registry::ignored(&config.models.root);
    for ignored in &ignored {
        say!("FAILED  {ignored}");
    }
    let directories = verify::packages_below(&config.models.root, with_bare).unwrap_or_default();
    if directories.is_empty() {
        say!("FAILED  {} holds no package; the server would not be ready", config.models.root.display());
        return Ok(Outcome::Failed);
    }
    let missing = missing_names(config, &directories);
    for line in &missing {
        say!("FAILED  {line}");
    }
    let outcome = verify::verify_all(&directories, config, &library, with_bare, false)?;
    Ok(if missing.is_empty() && ignored.is_empty() { outcome } else { Outcome::Failed })
}

/// What the configuration names, but the directory does not hold.
fn missing_names(config: &Config, directories: &[PathBuf]) -> Vec<String> {
    let root = &config.models.root;
    let holds = |path: PathBuf| directories.iter().any(|directory| directory.starts_with(&path));
    let named = config.models.required.iter().map(|name| ("models.required", name));
    let named = named.chain((!config.models.default.is_empty()).then_some(("models.default", &config.models.default)));
    let absent = named.filter(|(_, name)| !holds(root.join(name)));
    let mut missing: Vec<String> =
        absent.map(|(key, name)| format!("{key} names {name}, which {} does not hold", root.display())).collect();
    for (name, model) in &config.model {
        if let Some(version) = model.version.as_ref().filter(|version| !holds(root.join(name).join(version))) {
            missing.push(format!("model.{name}.version names {version}, which {} does not hold", root.join(name).display()));
        }
    }
    missing
}
