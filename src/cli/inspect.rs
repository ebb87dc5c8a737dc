//! `predictd inspect`: shows the contents of a package.

use std::{fmt::Write, path::PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::{
    app,
    cli::{CommandOutcome, ConfigArgs, check_package_directory},
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    error::counted,
    package::{ModelPackage, manifest::Manifest, serving::Serving},
    schema::Pii,
    tensor::signature::TensorSpec,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the package
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    check_package_directory(&args.directory)?;
    let package = ModelPackage::open(&args.directory)?;
    let config = args.config.load()?;
    let runtime = Runtime::load(&app::find_library(&config.runtime.library)?)?;
    let (mut factory, _) = OnnxFactory::open(&runtime, &package.model_path(), 1)?;
    factory.feed(|name| package.parts.feeds(name));
    if args.json {
        let document = PackageDocument::new(&package, &factory);
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say!("{}", describe(&package, &factory).trim_end());
    }
    Ok(CommandOutcome::Done)
}

/// The JSON output.
#[derive(Serialize)]
struct PackageDocument<'a> {
    manifest: &'a Manifest,
    graph: GraphDocument<'a>,
    schema: &'a Value,
    preprocessing: Option<&'a Value>,
    serving: &'a Serving,
    golden_examples: usize,
    evaluation: Option<&'a Value>,
}

#[derive(Serialize)]
struct GraphDocument<'a> {
    inputs: Vec<TensorDocument<'a>>,
    outputs: Vec<TensorDocument<'a>>,
}

#[derive(Serialize)]
struct TensorDocument<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: String,
    /// The names of the dimensions. Empty for a dimension without a name.
    dimensions: &'a [String],
}

impl<'a> PackageDocument<'a> {
    fn new(package: &'a ModelPackage, factory: &'a OnnxFactory) -> PackageDocument<'a> {
        let side = |specs: Vec<(&'a TensorSpec, &'a [String])>| {
            let tensors = specs.into_iter().map(|(spec, dimensions)| TensorDocument {
                name: &spec.name,
                datatype: spec.datatype.numpy_name(),
                shape: spec.shape.to_string(),
                dimensions,
            });
            tensors.collect()
        };
        let [inputs, outputs] = factory.signature().sides(factory.symbols()).map(side);
        let parts = &package.parts;
        PackageDocument {
            manifest: &package.manifest,
            graph: GraphDocument { inputs, outputs },
            schema: &parts.schema_document,
            preprocessing: parts.preprocessing.as_ref(),
            serving: &parts.serving,
            golden_examples: parts.golden.len(),
            evaluation: parts
                .evaluation
                .as_ref()
                .map(|evaluation| &evaluation.document),
        }
    }
}

// Writing to a String does not fail, so the results below are ignored.
fn describe(package: &ModelPackage, factory: &OnnxFactory) -> String {
    let mut text = String::new();
    describe_origin(package, &mut text);
    describe_graph(factory, &mut text);
    describe_fields(package, &mut text);
    let _ = writeln!(
        text,
        "golden      {}",
        counted(package.parts.golden.len(), "example")
    );
    let metrics = package
        .parts
        .evaluation
        .as_ref()
        .map(|evaluation| &evaluation.members.metrics);
    let metrics = metrics.into_iter().flatten();
    for (name, value) in metrics.filter(|(_, value)| value.is_number()) {
        let _ = writeln!(text, "evaluation  {name:<24} {value}");
    }
    for (path, entry) in &package.manifest.files {
        let _ = writeln!(
            text,
            "file        {path:<24} {}",
            counted(entry.size, "byte")
        );
    }
    text
}

fn describe_origin(package: &ModelPackage, text: &mut String) {
    let manifest = &package.manifest;
    let _ = writeln!(text, "{}  {}", package.id, package.digest());
    let _ = writeln!(text, "created     {}", manifest.created);
    let provenance = &manifest.provenance;
    for (title, value) in [
        ("source", &provenance.source),
        ("trained on", &provenance.training_data),
        ("licence", &provenance.licence),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "{title:<11} {value}");
        }
    }
    let opsets: Vec<String> = manifest
        .runtime
        .opset
        .iter()
        .map(|(domain, version)| format!("{domain} {version}"))
        .collect();
    let _ = writeln!(text, "opset       {}", opsets.join(", "));
}

fn describe_graph(factory: &OnnxFactory, text: &mut String) {
    let sides = factory.signature().sides(factory.symbols());
    for (title, specs) in ["graph in", "graph out"].iter().zip(sides) {
        for (spec, names) in specs {
            let _ = writeln!(text, "{title:<11} {} {}", spec.name, spec.named(names));
        }
    }
    for (spec, names) in factory.optional() {
        let _ = writeln!(
            text,
            "graph in    {} {}, optional: the graph has a default",
            spec.name,
            spec.named(names)
        );
    }
}

fn describe_fields(package: &ModelPackage, text: &mut String) {
    for column in package.parts.input.columns() {
        let mut notes = Vec::new();
        notes.extend((!column.required).then_some("optional"));
        notes.extend(column.nullable.then_some("may be null"));
        notes.extend((column.pii != Pii::None).then_some("personal"));
        let _ = writeln!(
            text,
            "field       {:<24} {:<9} {}",
            column.name,
            format!("{:?}", column.kind).to_lowercase(),
            notes.join(", ")
        );
    }
    let output = package.parts.output.document();
    let properties = output.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let kind = property
            .get("type")
            .map(ToString::to_string)
            .unwrap_or_default();
        let _ = writeln!(text, "answer      {name:<24} {}", kind.trim_matches('"'));
    }
}
