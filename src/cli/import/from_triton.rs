//! `predictd import triton`: imports a model repository of Triton, or one model in it.

use std::path::PathBuf;

use anyhow::bail;

use crate::{
    cli::{
        CommandOutcome,
        import::{
            ToArgs,
            importer::{Importer, Place},
            own_directory::OwnDirectory,
        },
    },
    package::{MODEL_FILE, import::triton},
};

#[derive(clap::Args)]
pub(super) struct TritonArgs {
    /// The repository, or one model's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    to: ToArgs,
}

pub(super) fn run(args: &TritonArgs) -> anyhow::Result<CommandOutcome> {
    let candidates = triton::find_versions(&args.directory)?;
    if candidates.is_empty() {
        bail!(
            "{} contains no model; expected NAME/config.pbtxt and NAME/VERSION/{MODEL_FILE}",
            args.directory.display()
        );
    }
    let mut ids = candidates
        .iter()
        .filter_map(|(_, source)| source.as_ref().ok())
        .map(|source| &source.id);
    let models = match ids.find_map(|id| OwnDirectory::read(&args.to.output, id.name.as_str())) {
        None => args.to.output.clone(),
        Some(own) if candidates.len() > 1 => bail!(
            "--output {} is the directory of one package, {}, but {} versions would be imported; give the models directory, {}",
            args.to.output.display(),
            own.id,
            candidates.len(),
            own.models.display()
        ),
        Some(own) => {
            if let Some(Ok(source)) = candidates.first().map(|(_, source)| source) {
                own.check(&args.to.output, &source.id.name, &source.id.version)?;
            }
            own.models
        }
    };
    let mut importer = Importer::new(&args.to, models)?;
    for (label, source) in candidates {
        let made = source.map_err(anyhow::Error::new).and_then(|source| {
            let place = Place {
                id: &source.id,
                graph: &source.graph,
                root: &source.root,
            };
            importer.make(&place, |signature, external| {
                triton::import(&source, signature, external)
            })
        });
        importer.report(&label, made);
    }
    Ok(importer.end())
}
