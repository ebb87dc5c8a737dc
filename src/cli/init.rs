//! `predictd init`: drafts a first package.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    app,
    cli::{ConfigArgs, Outcome},
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    id::ModelName,
    package::{
        MODEL_FILE, PREPROCESSING_FILE, SCHEMA_FILE,
        draft::{Draft, draft},
        signature::Signature,
    },
};

#[derive(clap::Args)]
pub struct Args {
    /// The model's graph
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// A few instances, one JSON object a line: names, types and order of the fields
    #[arg(long, value_name = "ROWS.jsonl")]
    sample: Option<PathBuf>,
    /// Where the package is made; models/NAME/1.0.0 without this
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
    if ModelName::parse(&name).is_none() {
        bail!("\"{name}\" is not a model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128); give --name");
    }
    let directory = args.output.clone().unwrap_or_else(|| Path::new("models").join(&name).join("1.0.0"));
    if fs_err::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; nothing was changed", directory.display());
    }
    let rows = match &args.sample {
        Some(path) => read_rows(path)?,
        None => Vec::new(),
    };
    let config = args.config.load()?;
    let runtime = Runtime::load(&app::find_library(&config)?)?;
    let (factory, _) = OnnxFactory::open(&runtime, &args.model, 1)?;
    let drafted = draft(factory.signature(), &rows).map_err(anyhow::Error::msg)?;

    fs_err::create_dir_all(&directory)?;
    fs_err::copy(&args.model, directory.join(MODEL_FILE))?;
    let pretty = |document: &Value| serde_json::to_string_pretty(document).map(|text| text + "\n");
    fs_err::write(directory.join(SCHEMA_FILE), pretty(&drafted.schema)?)?;
    if let Some(preprocessing) = &drafted.preprocessing {
        fs_err::write(directory.join(PREPROCESSING_FILE), pretty(preprocessing)?)?;
    }
    fs_err::write(directory.join("README.md"), card(&name, factory.signature()))?;
    say!("{}", next_steps(&directory, args.sample.as_deref(), &drafted).trim_end());
    Ok(Outcome::Done)
}

fn default_name(model: &Path) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let own = stem(model);
    // model.onnx is what everybody calls it; the folder says more.
    let absolute = std::path::absolute(model).unwrap_or_else(|_| model.to_path_buf());
    if own == "model" { absolute.parent().map(stem).unwrap_or(own) } else { own }
}

fn read_rows(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs_err::read_to_string(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(index, line)| serde_json::from_str(line).with_context(|| format!("{} line {}", path.display(), index + 1)));
    let rows = rows.collect::<anyhow::Result<Vec<Value>>>()?;
    if rows.is_empty() {
        bail!("{} holds no row", path.display());
    }
    Ok(rows)
}

fn card(name: &str, signature: &Signature) -> String {
    let mut text = format!("# {name}\n\nWhat it predicts, for whom, and what it must not be used for.\n\n## Graph\n\n");
    for (title, specs) in [("in", &signature.inputs), ("out", &signature.outputs)] {
        for spec in specs {
            // Writing to a String does not fail.
            let _ = writeln!(text, "- {title}: `{}` {spec}", spec.name);
        }
    }
    text + "\n## Data\n\nWhat it was trained and evaluated on, and when.\n\n## Limits\n\nWhere it is known to be wrong.\n"
}

fn next_steps(directory: &Path, sample: Option<&Path>, drafted: &Draft) -> String {
    let directory = directory.display();
    let mut text = format!("drafted {directory}\n");
    for note in &drafted.notes {
        let _ = writeln!(text, "  check   {note}");
    }
    let _ = writeln!(text, "next:");
    let _ = writeln!(text, "  predictd pack {directory}");
    if let Some(sample) = sample {
        let _ = writeln!(text, "  predictd predict {directory} --input {}", sample.display());
    }
    let _ = writeln!(
        text,
        "  write {directory}/golden.jsonl: lines of {{\"input\": ..., \"output\": ...}} with the answers that training saw; pack again"
    );
    text
}
