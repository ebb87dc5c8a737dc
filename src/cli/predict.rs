//! `predictd predict`: answers instances without a server, through the same parts in the same order.

use std::{
    io::{BufWriter, Read, Write},
    path::PathBuf,
};

use anyhow::bail;

use crate::{
    app,
    cli::{ConfigArgs, Outcome, check_package_directory, sample::read_rows},
    decode::{DecodeError, DecodeLimits, DecodedRequest, decode_request},
    engine::{
        Engine, EngineFactory,
        infer::{OnnxEngine, OnnxFactory, Runtime},
        runtime_message,
    },
    package::{ModelPackage, Transform, locate},
    registry::gate::{Batching, declared_batching},
    schema::fault::Fault,
    tensor::batches,
    transform::{outputs::Outputs, preprocess},
};

/// A file is the caller's own: only nesting has a limit.
const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: usize::MAX,
    max_depth: 64,
    max_array_values: usize::MAX,
};

#[derive(clap::Args)]
pub struct Args {
    /// Directory of the package
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Instances: a request as JSON, or an instance a line; stdin without this
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    check_package_directory(&args.directory)?;
    let package = ModelPackage::open(&args.directory)?;
    let config = args.config.load()?;
    let runtime = Runtime::load(&app::find_library(&config)?)?;
    let (mut factory, engine) = OnnxFactory::open(
        &runtime,
        &package.model_path(),
        config.runtime.intra_op_threads.max(1),
    )?;
    factory.feed(|name| package.parts.feeds(name));
    let transform = package.parts.bind(factory.signature())?;
    let limit = config.batching_of(package.id.name.as_str()).max_batch_size;
    let limit = limit.min(
        package
            .parts
            .serving
            .batching
            .max_batch_size
            .unwrap_or(usize::MAX),
    );
    // Nobody tries hostile neighbours here: only what the graph proves counts, not what is said of it.
    let declared = package
        .parts
        .serving
        .batching
        .independent_rows
        .filter(|independent| !independent);
    let max_batch_size =
        match declared_batching(declared, &factory.about()?, factory.signature(), limit) {
            Batching::Rows => limit,
            Batching::None { .. } => 1,
        };
    let mut text = Vec::new();
    match &args.input {
        // A table is read as `init` reads it.
        Some(path)
            if path
                .extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) =>
        {
            text = read_rows(path)?
                .iter()
                .map(|row| format!("{row}\n"))
                .collect::<String>()
                .into_bytes();
        }
        Some(path) => text = fs_err::read(path)?,
        None => {
            std::io::stdin().lock().read_to_end(&mut text)?;
        }
    }
    let mut line = Line {
        package: &package,
        transform: &transform,
        engine,
        max_batch_size,
        output: BufWriter::new(std::io::stdout().lock()),
    };
    let outcome = line.all(&text);
    line.output.flush()?;
    outcome
}

/// The straight line, for one caller.
struct Line<'a, W: Write> {
    package: &'a ModelPackage,
    transform: &'a Transform,
    engine: OnnxEngine,
    max_batch_size: usize,
    output: W,
}

impl<W: Write> Line<'_, W> {
    fn all(&mut self, text: &[u8]) -> anyhow::Result<Outcome> {
        // One document, or an instance a line: what is no JSON as a whole is read by lines.
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
        let is_array = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if whole && is_array {
            let request = [b"{\"instances\":", text, b"}"].concat();
            return Ok(if self.document(&request, "")? {
                Outcome::Done
            } else {
                Outcome::Failed
            });
        }
        if whole {
            return Ok(if self.document(text, "")? {
                Outcome::Done
            } else {
                Outcome::Failed
            });
        }
        let mut outcome = Outcome::Done;
        let mut count = 0;
        for (index, line) in text
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.trim_ascii().is_empty())
        {
            count += 1;
            if !self.document(line, &format!("line {}: ", index + 1))? {
                outcome = Outcome::Failed;
                // So that answers stay beside their questions.
                writeln!(self.output, "null")?;
            }
        }
        if count == 0 {
            bail!("no instance was given");
        }
        Ok(outcome)
    }

    /// Answers one request; what does not fit is told on stderr.
    fn document(&mut self, text: &[u8], place: &str) -> anyhow::Result<bool> {
        let decoded = match decode_request(&self.package.parts.input, text, &LIMITS) {
            Ok(decoded) => decoded,
            Err(DecodeError::Malformed { detail }) => {
                eprintln!("{place}{detail}");
                return Ok(false);
            }
            Err(DecodeError::Invalid { faults, more }) => {
                tell(place, &faults, more);
                return Ok(false);
            }
        };
        self.answer(&decoded, place)
    }

    fn answer(&mut self, decoded: &DecodedRequest, place: &str) -> anyhow::Result<bool> {
        let groups = match self.transform.prepare_groups(&decoded.columns) {
            Ok(groups) => groups,
            Err(faults) => {
                let faults: Vec<Fault> = faults
                    .into_iter()
                    .map(|fault| locate(fault, decoded.single))
                    .collect();
                tell(place, &faults, 0);
                return Ok(false);
            }
        };
        let order = preprocess::order(&groups);
        let mut runs = Vec::new();
        for group in groups {
            let rows = group.count(decoded.columns.rows);
            let Some(parts) = batches(group.tensors, rows, self.max_batch_size) else {
                bail!("the rows can't be split into batches")
            };
            for (part, count) in parts {
                let outputs = match self.engine.run(&part) {
                    Ok(outputs) => outputs,
                    Err(error) => match runtime_message::rejected_input(&error.to_string()) {
                        Some(refusal) => {
                            let personal = self.package.parts.input.is_personal();
                            let refusal = if personal {
                                refusal.without_values()
                            } else {
                                refusal
                            };
                            eprintln!("{place}the model's graph refuses this input: {refusal}");
                            return Ok(false);
                        }
                        None => bail!("{place}{error}"),
                    },
                };
                runs.push(
                    self.transform
                        .interpret(&outputs, count)
                        .map_err(|fault| anyhow::anyhow!("{place}{fault}"))?,
                );
            }
        }
        let Some(outputs) = Outputs::gather(runs, order.as_deref()) else {
            bail!("there is no row")
        };
        let mut text = Vec::new();
        for row in 0..outputs.rows {
            outputs.write_json(row, &mut text);
            text.push(b'\n');
        }
        self.output.write_all(&text)?;
        Ok(true)
    }
}

fn tell(place: &str, faults: &[Fault], more: usize) {
    for fault in faults {
        eprintln!(
            "{place}{} {}: {}",
            fault.pointer, fault.keyword, fault.detail
        );
    }
    if more > 0 {
        eprintln!("{place}and {more} more");
    }
}
