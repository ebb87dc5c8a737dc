//! `predictd init`: drafts a package from a graph and sample rows.

mod draft_check;
mod draft_files;
mod draft_inputs;
mod graph_file;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::{
    cli::{
        CommandOutcome, ConfigArgs,
        init::{
            draft_check::{check_golden, remaining_guesses, try_draft},
            draft_files::{card, write_draft},
            draft_inputs::{DraftInputs, golden_lines, read_inputs},
            graph_file::{DraftGraph, read_graph},
        },
        pack::Packer,
        staging::Staging,
        typed,
    },
    id::{ModelId, ModelName, Version},
    package::{
        GOLDEN_FILE, MODEL_FILE, PREPROCESSING_FILE, bare,
        draft::{Draft, DraftSources, draft},
        guess::{self, Guess},
        import::copy_graph,
    },
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The ONNX file; its external data files are copied too
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Sample instances (.jsonl, .json or .csv)
    ///
    /// The fields of the schema get their names, order and types from the sample.
    #[arg(long, value_name = "ROWS")]
    sample: Option<PathBuf>,
    /// Instances with predictions from training
    ///
    /// Lines {"input": ..., "output": ...}, or rows with a member `prediction`. They become
    /// golden.jsonl, and the draft is checked against them.
    #[arg(long, value_name = "PREDICTIONS")]
    golden: Option<PathBuf>,
    /// Preprocessing of a field, as in training
    ///
    /// A column in the form of preprocessing.json: {"field": "plan", "steps": [...]}. May be
    /// repeated.
    #[arg(long, value_name = "LINE")]
    column: Vec<String>,
    /// Encode a field: FIELD=one_hot or FIELD=ordinal
    ///
    /// The categories are taken from the sample, which is a guess. May be repeated.
    #[arg(long, value_name = "FIELD=ENCODING")]
    encode: Vec<String>,
    /// Directory of the new package [default: models/NAME/1.0.0]
    ///
    /// Its form is MODELS/NAME/VERSION, where NAME is the model and VERSION its version.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Name of the model [default: the name of the file]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let (name, directory) = destination(args)?;
    let inputs = read_inputs(args)?;
    let packer = Packer::new(args.config.load()?)?;
    let staging = Staging::next_to(&directory, &format!("init-{name}"))?;
    copy_graph(&args.model, None, staging.path()).map_err(|mut error| {
        // The user knows only the name of the original.
        if error.file == MODEL_FILE {
            error.file = args.model.display().to_string();
        }
        error
    })?;
    // Errors must not mention the path of the copy, which the user does not know.
    let graph = read_graph(&packer, &staging.path().join(MODEL_FILE), |name| {
        inputs.rows.iter().any(|row| row.get(name).is_some())
    })
    .with_context(|| args.model.display().to_string())?;
    let mut drafted = draft_package(&graph, &inputs)?;
    let golden = golden_lines(args.golden.as_deref(), &inputs.examples, &drafted)?;
    // The draft is tried without its guess markers, because a package with guess markers is
    // rejected.
    let card = card(name.as_str(), &graph.signature, &graph.symbols);
    write_draft(staging.path(), &drafted, &golden, &card)?;
    let usable = try_draft(staging.path(), &graph, &inputs, &mut drafted)?;
    let passed = match (usable, &args.golden) {
        (true, Some(_)) => Some(check_golden(
            &packer,
            staging.path(),
            &identity(name.clone(), &directory)?,
        )?),
        _ => None,
    };
    let guesses = remaining_guesses(staging.path(), &mut drafted, passed == Some(true))?;
    staging.publish(&directory)?;
    for (title, specs) in ["in", "out"]
        .iter()
        .zip(graph.signature.sides(&graph.symbols))
    {
        for (spec, names) in specs {
            say!("  graph   {title} {} {}", spec.name, spec.named(names));
        }
    }
    say!(
        "{}",
        next_steps(&name, &directory, args, &drafted, &guesses).trim_end()
    );
    if args.golden.is_some() && passed != Some(true) {
        say!(
            "the draft was written, but it does not reproduce {GOLDEN_FILE}: its predictions differ from those of training"
        );
        return Ok(CommandOutcome::Failed);
    }
    Ok(CommandOutcome::Done)
}

/// Returns the name of the model and the directory of the new package.
fn destination(args: &Args) -> anyhow::Result<(ModelName, PathBuf)> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => default_name(&args.model),
    };
    let Some(model) = ModelName::parse(&name) else {
        bail!(
            "\"{name}\" is not a model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128); give --name"
        );
    };
    let default = || Path::new("models").join(&name).join("1.0.0");
    let directory = args.output.clone().unwrap_or_else(default);
    if fs_err::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} is not empty; nothing was changed. --output takes the directory of one package, such as models/{name}/1.0.0",
            directory.display()
        );
    }
    Ok((model, directory))
}

/// Returns the identity for the load gate. If the directory's name is not a version, the version is
/// 1.0.0.
fn identity(name: ModelName, directory: &Path) -> anyhow::Result<ModelId> {
    let version = directory
        .file_name()
        .and_then(|version| Version::parse(&version.to_string_lossy()))
        .or_else(|| Version::parse("1.0.0"))
        .context("1.0.0 is a version")?;
    Ok(ModelId { name, version })
}

fn draft_package(graph: &DraftGraph, inputs: &DraftInputs) -> anyhow::Result<Draft> {
    let sources = DraftSources {
        rows: &inputs.rows,
        hints: &inputs.hints,
        maps: &graph.maps,
        labels: &graph.labels,
    };
    let mut drafted = draft(&graph.signature, &sources).map_err(|error| {
        anyhow::anyhow!("nothing was drafted: {}", error.to_string().trim_end())
    })?;
    let removed = graph.maps.iter().map(|(output, _)| {
        format!(
            "the ZipMap for the output \"{output}\" was removed from the graph; the numbers and \
             their labels are the same"
        )
    });
    drafted.notes.extend(removed);
    Ok(drafted)
}

fn default_name(model: &Path) -> String {
    let stem = |path: &Path| {
        path.file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let own = stem(model);
    // The name model.onnx is generic, so the directory's name is used.
    let absolute = std::path::absolute(model).unwrap_or_else(|_| model.to_path_buf());
    if own == "model" {
        absolute.parent().map(stem).unwrap_or(own)
    } else {
        own
    }
}

/// The options with which `pack` gets the identity that the path does not contain.
fn pack_options(name: &ModelName, directory: &Path) -> String {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
    let is_version = |path: &Path| {
        path.file_name()
            .is_some_and(|version| Version::parse(&version.to_string_lossy()).is_some())
    };
    match bare::id_of(&absolute) {
        Some(id) if id.name == *name => String::new(),
        _ if is_version(&absolute) => format!(" --name {name}"),
        _ => format!(" --name {name} --model-version 1.0.0"),
    }
}

fn next_steps(
    name: &ModelName,
    directory: &Path,
    args: &Args,
    drafted: &Draft,
    guesses: &[Guess],
) -> String {
    let shown = directory.display();
    let mut text = format!("drafted {shown}\n");
    for Guess {
        pointer,
        text: guess,
        ..
    } in guesses
    {
        let _ = writeln!(text, "  guess   {PREPROCESSING_FILE} {pointer}: {guess}");
    }
    for note in &drafted.notes {
        let _ = writeln!(text, "  check   {note}");
    }
    let _ = writeln!(text, "next:");
    if !guesses.is_empty() {
        let key = guess::KEY;
        let _ = writeln!(
            text,
            "  check each guess and delete its key \"{key}\", or give golden examples that prove it; `pack` rejects the package until then"
        );
    }
    let options = pack_options(name, directory);
    let _ = writeln!(text, "  predictd pack {}{options}", typed(directory));
    if let Some(sample) = &args.sample {
        let _ = writeln!(
            text,
            "  predictd predict {} --input {}",
            typed(directory),
            typed(sample)
        );
    }
    if args.golden.is_none() {
        let _ = writeln!(
            text,
            "  write {shown}/{GOLDEN_FILE}, with lines {{\"input\": ..., \"output\": ...}} of predictions from training, and pack again"
        );
    }
    text
}
