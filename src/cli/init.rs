//! `predictd init`: drafts a first package.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    cli::{
        ConfigArgs, Outcome,
        pack::{self, Packer},
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
pub struct Args {
    /// The model's graph; files that it names as its external data come along
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// A few instances (.jsonl, .json, .csv)
    ///
    /// They give the names, the order and the kinds of the fields.
    #[arg(long, value_name = "ROWS")]
    sample: Option<PathBuf>,
    /// Instances with what training answered
    ///
    /// {"input": ..., "output": ...}, or rows with a member `prediction`. Becomes golden.jsonl, and the draft is checked against it
    /// at once.
    #[arg(long, value_name = "PREDICTIONS")]
    golden: Option<PathBuf>,
    /// What the training did with a field
    ///
    /// As in preprocessing.json: {"field": "plan", "steps": [...]}.
    #[arg(long, value_name = "LINE")]
    column: Vec<String>,
    /// Encode a field: FIELD=one_hot or FIELD=ordinal
    ///
    /// With the sample's categories, which is a guess.
    #[arg(long, value_name = "FIELD=ENCODING")]
    encode: Vec<String>,
    /// The package's own directory; models/NAME/1.0.0 without this
    ///
    /// Its name is the version and that of the directory above it the model's: MODELS/NAME/VERSION.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Name of the model; the file's without this
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => default_name(&args.model),
    };
    let Some(model) = ModelName::parse(&name) else {
        bail!(
            "\"{name}\" is not a model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128); give --name"
        );
    };
    let directory = args
        .output
        .clone()
        .unwrap_or_else(|| Path::new("models").join(&name).join("1.0.0"));
    if fs_err::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} is not empty; nothing was changed. --output is the package's own directory, such as models/{name}/1.0.0",
            directory.display()
        );
    }
    let hints = field_hints(args)?;
    let answered = args
        .golden
        .as_deref()
        .map(read_answered)
        .transpose()?
        .unwrap_or_default();
    let rows = match &args.sample {
        Some(path) => read_rows(path)?,
        None => answered
            .iter()
            .map(|example| example.input.clone())
            .collect(),
    };
    let packer = Packer::new(args.config.load()?)?;

    let staging = Staging::beside(&directory, &format!("init-{name}"))?;
    copy_graph(&args.model, None, staging.path())?;
    // The copy has another name than the person knows.
    let read = read_graph(&packer, &staging.path().join(MODEL_FILE), |name| {
        rows.iter().any(|row| row.get(name).is_some())
    })
    .with_context(|| args.model.display().to_string())?;
    let Graph {
        signature,
        symbols,
        maps,
        labels,
    } = read;
    let known = DraftSources {
        rows: &rows,
        hints: &hints,
        maps: &maps,
        labels: &labels,
    };
    let mut drafted = draft(&signature, &known).map_err(|error| {
        anyhow::anyhow!("nothing was drafted: {}", error.to_string().trim_end())
    })?;
    for (output, _) in &maps {
        drafted
            .notes
            .push(format!("the ZipMap that made a map of \"{output}\" was cut off the graph: the numbers and their labels are the same"));
    }
    let golden = golden_lines(args.golden.as_deref(), &answered, &drafted)?;

    // The draft is tried as it is without its guesses' marks, with which nothing takes it.
    write(
        staging.path(),
        &drafted,
        &golden,
        &card(&name, &signature, &symbols),
    )?;
    let transform = bind(staging.path(), &signature);
    if let (Err(error), false) = (&transform, hints.is_empty()) {
        bail!("nothing was drafted: --column makes no preprocessing for this graph: {error}");
    }
    let tried = match transform {
        Ok((parts, transform)) => take_rows(&parts, &transform, &rows),
        Err(error) => Err(format!("`pack` will refuse the draft as it is: {error}")),
    };
    let tried = tried.map_err(|detail| drafted.notes.push(detail));
    let mut passed = None;
    if args.golden.is_some() && tried.is_ok() {
        let version = directory
            .file_name()
            .and_then(|version| Version::parse(&version.to_string_lossy()));
        let version = version
            .or_else(|| Version::parse("1.0.0"))
            .context("1.0.0 is a version")?;
        passed = Some(check_golden(
            &packer,
            staging.path(),
            &ModelId {
                name: model,
                version,
            },
        )?);
    }
    let guesses = standing(staging.path(), &mut drafted, passed == Some(true))?;
    staging.publish(&directory)?;
    for (title, specs) in ["in", "out"].iter().zip(signature.sides(&symbols)) {
        for (spec, names) in specs {
            say!("  graph   {title} {} {}", spec.name, spec.named(names));
        }
    }
    say!(
        "{}",
        next_steps(&directory, args, &drafted, &guesses).trim_end()
    );
    let failed = args.golden.is_some() && passed != Some(true);
    if failed {
        say!(
            "{GOLDEN_FILE} is not reproduced: the draft is there, and what it answers is not what training answered"
        );
    }
    Ok(if failed {
        Outcome::Failed
    } else {
        Outcome::Done
    })
}

/// What the graph's file says.
struct Graph {
    signature: Signature,
    symbols: Symbols,
    /// The outputs that were maps.
    maps: Vec<(String, Vec<Value>)>,
    labels: Vec<(String, Vec<Value>)>,
}

/// Reads the graph at `path`; where maps stand at its end, the file is the graph without them afterwards.
/// `takes` says which of the inputs that have a default are fields.
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

/// What the person said of fields.
fn field_hints(args: &Args) -> anyhow::Result<Vec<FieldHint>> {
    let mut hints = Vec::new();
    for line in &args.column {
        let told = || {
            format!(
                "--column: expected a line such as {{\"field\": \"plan\", \"steps\": [...]}}, given {line}; a column of two fields is written into the draft"
            )
        };
        let document: Value = serde_json::from_str(line).with_context(told)?;
        let field = document
            .get("field")
            .and_then(Value::as_str)
            .with_context(told)?
            .to_owned();
        let steps = document
            .get("steps")
            .and_then(Value::as_array)
            .with_context(told)?
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
                "--encode: expected FIELD=one_hot or FIELD=ordinal, given {text}; other steps go into --column"
            ),
        };
        hints.push(FieldHint {
            field: field.to_owned(),
            preparation: Preparation::Encode(encoding),
        });
    }
    Ok(hints)
}

fn read_answered(path: &Path) -> anyhow::Result<Vec<ExampleRow>> {
    let rows = read_rows(path)?.into_iter().enumerate();
    let read = |(index, row)| {
        ExampleRow::read(row)
            .map_err(|detail| anyhow::anyhow!("{} row {}: {detail}", path.display(), index + 1))
    };
    rows.map(read).collect()
}

fn golden_lines(
    path: Option<&Path>,
    answered: &[ExampleRow],
    drafted: &Draft,
) -> anyhow::Result<Vec<Value>> {
    let answers = drafted
        .schema
        .pointer("/output/properties")
        .and_then(Value::as_object)
        .context("the draft has answers")?;
    let line = |(index, example): (usize, &ExampleRow)| {
        let file = path
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        example
            .golden_line(answers)
            .map_err(|detail| anyhow::anyhow!("{file} row {}: {detail}", index + 1))
    };
    answered.iter().enumerate().map(line).collect()
}

/// The documents beside the graph, without the marks of guesses.
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

/// Whether the draft takes the rows that it was made of.
fn take_rows(parts: &Parts, transform: &Transform, rows: &[Value]) -> Result<(), String> {
    for (index, row) in rows.iter().enumerate() {
        let refused = |detail: String| {
            format!(
                "the draft refuses row {} of its sample: {detail}",
                index + 1
            )
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

/// The load gate on the draft, of which no manifest stays.
fn check_golden(packer: &Packer, directory: &Path, id: &ModelId) -> anyhow::Result<bool> {
    let manifest = Manifest::of_directory(directory, id, pack::created(), Provenance::default())?;
    let sealed = packer.seal(manifest, directory, &mut |check| pack::say_check(&check))?;
    fs_err::remove_file(directory.join(manifest::FILE))?;
    if let Err(error) = &sealed {
        pack::say_failure(error);
    }
    Ok(sealed.is_ok())
}

/// The guesses that still stand; where there is one, preprocessing.json gets the marks.
fn standing(directory: &Path, drafted: &mut Draft, passed: bool) -> anyhow::Result<Vec<Guess>> {
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
    // model.onnx is what everybody calls it; the folder says more.
    let absolute = std::path::absolute(model).unwrap_or_else(|_| model.to_path_buf());
    if own == "model" {
        absolute.parent().map(stem).unwrap_or(own)
    } else {
        own
    }
}

fn card(name: &str, signature: &Signature, symbols: &Symbols) -> String {
    let mut text = format!(
        "# {name}\n\nWhat it predicts, for whom, and what it must not be used for.\n\n## Graph\n\n"
    );
    for (title, specs) in ["in", "out"].iter().zip(signature.sides(symbols)) {
        for (spec, names) in specs {
            // Writing to a String does not fail.
            let _ = writeln!(text, "- {title}: `{}` {}", spec.name, spec.named(names));
        }
    }
    text + "\n## Data\n\nWhat it was trained and evaluated on, and when.\n\n## Limits\n\nWhere it is known to be wrong.\n"
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
            "  check each guess and delete its key \"{key}\", or give golden examples that show it: `pack` refuses it till then"
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
            "  write {shown}/{GOLDEN_FILE}: lines of {{\"input\": ..., \"output\": ...}} with the answers that training saw; pack again"
        );
    }
    text
}
