//! `predictd init`: drafts a package from a graph and sample rows.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    cli::{
        CommandOutcome, ConfigArgs,
        pack::{self, Packer, Sealed},
        sample::read_rows,
        staging::Staging,
        typed,
    },
    decode::{DecodeError, decode_instance},
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    graph::class_labels,
    id::{ModelId, ModelName, Version},
    package::{
        GOLDEN_FILE, MODEL_FILE, PREPROCESSING_FILE, PackageError, Parts, SCHEMA_FILE, Transform,
        draft::{CategoryEncoding, Draft, DraftSources, FieldHint, Preparation, draft},
        example_row::ExampleRow,
        guess::{self, Guess},
        import::copy_graph,
        manifest::{self, Manifest, Provenance},
    },
    registry::gate::OWN_LIMITS,
    tensor::signature::{Signature, Symbols},
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
    /// Lines {"input": ..., "output": ...}, or rows with a member `prediction`. They become golden.jsonl, and the draft is checked
    /// against them.
    #[arg(long, value_name = "PREDICTIONS")]
    golden: Option<PathBuf>,
    /// Preprocessing of a field, as in training
    ///
    /// A column in the form of preprocessing.json: {"field": "plan", "steps": [...]}. May be repeated.
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
    let staging = Staging::beside(&directory, &format!("init-{name}"))?;
    copy_graph(&args.model, None, staging.path())?;
    // The user does not know the name of the copy.
    let graph = read_graph(&packer, &staging.path().join(MODEL_FILE), |name| {
        inputs.rows.iter().any(|row| row.get(name).is_some())
    })
    .with_context(|| args.model.display().to_string())?;
    let mut drafted = draft_package(&graph, &inputs)?;
    let golden = golden_lines(args.golden.as_deref(), &inputs.examples, &drafted)?;
    // The draft is tried without the marks of its guesses, because a package with marks is rejected.
    let card = card(name.as_str(), &graph.signature, &graph.symbols);
    write(staging.path(), &drafted, &golden, &card)?;
    let usable = try_draft(staging.path(), &graph, &inputs, &mut drafted)?;
    let passed = match (usable, &args.golden) {
        (true, Some(_)) => Some(check_golden(
            &packer,
            staging.path(),
            &identity(name, &directory)?,
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
        next_steps(&directory, args, &drafted, &guesses).trim_end()
    );
    if args.golden.is_some() && passed != Some(true) {
        say!(
            "the draft was written, but it does not reproduce {GOLDEN_FILE}: its predictions differ from those of training"
        );
        return Ok(CommandOutcome::Failed);
    }
    Ok(CommandOutcome::Done)
}

/// The name of the model and the directory of the new package.
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

/// The identity for the load gate. If the directory's name is not a version, the version is 1.0.0.
fn identity(name: ModelName, directory: &Path) -> anyhow::Result<ModelId> {
    let version = directory
        .file_name()
        .and_then(|version| Version::parse(&version.to_string_lossy()))
        .or_else(|| Version::parse("1.0.0"))
        .context("1.0.0 is a version")?;
    Ok(ModelId { name, version })
}

/// The user's inputs besides the graph.
struct Inputs {
    hints: Vec<FieldHint>,
    /// Instances with predictions from training.
    examples: Vec<ExampleRow>,
    /// The rows of the sample. Without a sample, the instances of `examples`.
    rows: Vec<Value>,
}

fn read_inputs(args: &Args) -> anyhow::Result<Inputs> {
    let hints = field_hints(args)?;
    let examples = match &args.golden {
        Some(path) => read_examples(path)?,
        None => Vec::new(),
    };
    let rows = match &args.sample {
        Some(path) => read_rows(path)?,
        None => examples
            .iter()
            .map(|example| example.input.clone())
            .collect(),
    };
    Ok(Inputs {
        hints,
        examples,
        rows,
    })
}

fn draft_package(graph: &Graph, inputs: &Inputs) -> anyhow::Result<Draft> {
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
        format!("the ZipMap for the output \"{output}\" was removed from the graph; the numbers and their labels are the same")
    });
    drafted.notes.extend(removed);
    Ok(drafted)
}

/// Whether the draft accepts the rows that it was made from. If it does not, the reason becomes a note.
fn try_draft(
    directory: &Path,
    graph: &Graph,
    inputs: &Inputs,
    drafted: &mut Draft,
) -> anyhow::Result<bool> {
    let tried = match bind(directory, &graph.signature) {
        Ok((parts, transform)) => take_rows(&parts, &transform, &inputs.rows),
        Err(error) if !inputs.hints.is_empty() => {
            bail!("nothing was drafted: --column does not fit this graph: {error}")
        }
        Err(error) => Err(DraftFault::NotAPackage(error)),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(fault) => {
            drafted.notes.push(fault.to_string());
            Ok(false)
        }
    }
}

/// Why a draft can't be used yet.
#[derive(Debug, thiserror::Error)]
enum DraftFault {
    #[error("`pack` will reject the draft as it is: {0}")]
    NotAPackage(#[source] PackageError),
    #[error("the draft rejects row {row} of its sample: {detail}")]
    Row { row: usize, detail: String },
}

/// The graph, as its file describes it.
struct Graph {
    signature: Signature,
    symbols: Symbols,
    /// The outputs that were maps, each with its keys.
    maps: Vec<(String, Vec<Value>)>,
    labels: Vec<(String, Vec<Value>)>,
}

/// Reads the graph at `path`. If its outputs are maps, they are removed from the file. `takes` says whether an input with a default
/// is a field.
fn read_graph(packer: &Packer, path: &Path, takes: impl Fn(&str) -> bool) -> anyhow::Result<Graph> {
    let runtime = Runtime::load(packer.library())?;
    let (mut factory, _) = OnnxFactory::open(&runtime, path, 1)?;
    factory.feed(takes);
    let about = factory.about()?;
    if let Some(time) = about.time_first {
        bail!("nothing was drafted: {time}");
    }
    let labels = class_labels::to_values(&about.labels);
    let cut = factory.edited().filter(|edited| !edited.maps.is_empty());
    if let Some(cut) = cut {
        fs_err::write(path, &cut.model)?;
    }
    let maps = cut
        .map(|cut| class_labels::to_values(&cut.maps))
        .unwrap_or_default();
    Ok(Graph {
        signature: factory.signature().clone(),
        symbols: factory.symbols().clone(),
        maps,
        labels,
    })
}

/// The user's hints about fields.
fn field_hints(args: &Args) -> anyhow::Result<Vec<FieldHint>> {
    let mut hints = Vec::new();
    for line in &args.column {
        let expected = || {
            format!(
                "--column: expected a line such as {{\"field\": \"plan\", \"steps\": [...]}}, got {line}; for a column of two fields, edit preprocessing.json in the draft"
            )
        };
        let document: Value = serde_json::from_str(line).with_context(expected)?;
        let field = document
            .get("field")
            .and_then(Value::as_str)
            .with_context(expected)?
            .to_owned();
        let steps = document
            .get("steps")
            .and_then(Value::as_array)
            .with_context(expected)?
            .clone();
        hints.push(FieldHint {
            field,
            preparation: Preparation::Steps(steps),
        });
    }
    for text in &args.encode {
        let (field, encoding) = match text.rsplit_once('=') {
            Some((field, "one_hot")) => (field, CategoryEncoding::OneHot),
            Some((field, "ordinal")) => (field, CategoryEncoding::Ordinal),
            _ => bail!(
                "--encode: expected FIELD=one_hot or FIELD=ordinal, got {text}; give other steps with --column"
            ),
        };
        hints.push(FieldHint {
            field: field.to_owned(),
            preparation: Preparation::Encode(encoding),
        });
    }
    Ok(hints)
}

fn read_examples(path: &Path) -> anyhow::Result<Vec<ExampleRow>> {
    let rows = read_rows(path)?.into_iter().enumerate();
    let read = |(index, row)| {
        ExampleRow::read(row)
            .map_err(|detail| anyhow::anyhow!("{} row {}: {detail}", path.display(), index + 1))
    };
    rows.map(read).collect()
}

fn golden_lines(
    path: Option<&Path>,
    examples: &[ExampleRow],
    drafted: &Draft,
) -> anyhow::Result<Vec<Value>> {
    let properties = drafted
        .schema
        .pointer("/output/properties")
        .and_then(Value::as_object)
        .context("the draft has output fields")?;
    let line = |(index, example): (usize, &ExampleRow)| {
        let file = path
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        example
            .golden_line(properties)
            .map_err(|detail| anyhow::anyhow!("{file} row {}: {detail}", index + 1))
    };
    examples.iter().enumerate().map(line).collect()
}

/// Writes the documents next to the graph, without the marks of guesses.
fn write(directory: &Path, drafted: &Draft, golden: &[Value], card: &str) -> anyhow::Result<()> {
    fs_err::write(directory.join(SCHEMA_FILE), pretty(&drafted.schema)?)?;
    if let Some(preprocessing) = &drafted.preprocessing {
        let mut plain = preprocessing.clone();
        guess::remove_marks(&mut plain);
        fs_err::write(directory.join(PREPROCESSING_FILE), pretty(&plain)?)?;
    }
    if !golden.is_empty() {
        fs_err::write(
            directory.join(GOLDEN_FILE),
            golden
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )?;
    }
    fs_err::write(directory.join("README.md"), card)?;
    Ok(())
}

fn pretty(document: &Value) -> serde_json::Result<String> {
    serde_json::to_string_pretty(document).map(|text| text + "\n")
}

fn bind(directory: &Path, signature: &Signature) -> Result<(Parts, Transform), PackageError> {
    let parts = Parts::read(directory)?;
    let transform = parts.bind(signature)?;
    Ok((parts, transform))
}

/// Decodes and preprocesses the rows that the draft was made from.
fn take_rows(parts: &Parts, transform: &Transform, rows: &[Value]) -> Result<(), DraftFault> {
    for (index, row) in rows.iter().enumerate() {
        let refused = |detail: String| DraftFault::Row {
            row: index + 1,
            detail,
        };
        let columns = decode_instance(&parts.input, row.to_string().as_bytes(), &OWN_LIMITS)
            .map_err(|error| match error {
                DecodeError::Malformed { detail } => refused(detail.to_string()),
                DecodeError::Invalid { faults, .. } => refused(
                    faults
                        .first()
                        .map(|fault| format!("{} {}", fault.pointer, fault.detail))
                        .unwrap_or_default(),
                ),
            })?;
        let prepared = transform.prepare(&columns);
        prepared.map_err(|faults| {
            refused(
                faults
                    .first()
                    .map(|fault| fault.detail.clone())
                    .unwrap_or_default(),
            )
        })?;
    }
    Ok(())
}

/// Runs the load gate on the draft. The manifest is removed afterwards, because `pack` writes the final one.
fn check_golden(packer: &Packer, directory: &Path, id: &ModelId) -> anyhow::Result<bool> {
    let manifest = Manifest::of_directory(directory, id, pack::created(), Provenance::default())?;
    let sealed = packer.seal(manifest, directory, &mut |check| pack::say_check(&check))?;
    fs_err::remove_file(directory.join(manifest::FILE))?;
    match sealed {
        Sealed::Passed(_) => Ok(true),
        Sealed::Refused(error) => {
            pack::say_failure(&error);
            Ok(false)
        }
    }
}

/// The guesses that no golden example proved. If there is one, the marks are written into preprocessing.json.
fn remaining_guesses(
    directory: &Path,
    drafted: &mut Draft,
    passed: bool,
) -> anyhow::Result<Vec<Guess>> {
    let Some(preprocessing) = &drafted.preprocessing else {
        return Ok(Vec::new());
    };
    let golden = if passed {
        Parts::read(directory)?.golden
    } else {
        Vec::new()
    };
    let mut guesses = guess::find(preprocessing, &golden);
    if passed {
        guesses.retain(|guess| guess.unproved.is_some());
    }
    if !guesses.is_empty() {
        fs_err::write(directory.join(PREPROCESSING_FILE), pretty(preprocessing)?)?;
    }
    Ok(guesses)
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

fn card(name: &str, signature: &Signature, symbols: &Symbols) -> String {
    let mut text = format!(
        "# {name}\n\nWhat the model predicts, for whom, and what it must not be used for.\n\n## Graph\n\n"
    );
    for (title, specs) in ["in", "out"].iter().zip(signature.sides(symbols)) {
        for (spec, names) in specs {
            // Writing to a String does not fail.
            let _ = writeln!(text, "- {title}: `{}` {}", spec.name, spec.named(names));
        }
    }
    text + "\n## Data\n\nThe data that the model was trained and evaluated on, and when.\n\n## Limits\n\nThe cases in which the model is known to be wrong.\n"
}

fn next_steps(directory: &Path, args: &Args, drafted: &Draft, guesses: &[Guess]) -> String {
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
    let _ = writeln!(text, "  predictd pack {}", typed(directory));
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
