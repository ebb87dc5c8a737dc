//! Examples: command lines as they are typed, for the end of a long help and of a manual page.

use clap::Command;

/// A command, an example of it, and its purpose.
type Example = (&'static str, &'static str, &'static str);

const EXAMPLES: &[Example] = &[
    (
        "",
        "predictd init model.onnx --sample rows.jsonl",
        "a package from a graph",
    ),
    ("", "predictd serve --models models", "serve what is packed"),
    (
        "",
        "predictd rollout start churn --to 1.1.0",
        "a new version, step by step",
    ),
    (
        "",
        "predictd rollback churn --reason 'scores too high'",
        "and back, at once",
    ),
    (
        "serve",
        "predictd serve",
        "the packages in models/, on 127.0.0.1:8080",
    ),
    (
        "serve",
        "predictd serve --config predictd.toml --check",
        "would it serve? exit 0 or 1",
    ),
    (
        "serve",
        "predictd serve --models /srv/models --state /var/lib/predictd --listen 0.0.0.0:8080",
        "in production",
    ),
    (
        "init",
        "predictd init churn.onnx --sample customers.csv",
        "drafts models/churn/1.0.0",
    ),
    (
        "init",
        "predictd init churn.onnx --sample rows.jsonl --golden predictions.jsonl",
        "checked against what training answered",
    ),
    (
        "init",
        "predictd init churn.onnx --sample rows.jsonl --encode plan=one_hot --output drafts/churn/1.0.0",
        "outside of what is served",
    ),
    (
        "import",
        "predictd import triton /srv/triton --output models",
        "a whole repository",
    ),
    (
        "import",
        "predictd import mlflow mlruns/1/models/m-1/artifacts --name churn --output models/churn/1.0.0",
        "one model",
    ),
    (
        "import triton",
        "predictd import triton /srv/triton --output models",
        "each model of a repository, as models/NAME/VERSION",
    ),
    (
        "import mlflow",
        "predictd import mlflow model --name churn --output models/churn/1.0.0",
        "a directory with MLmodel",
    ),
    (
        "pack",
        "predictd pack models/churn/1.0.0",
        "writes manifest.json after all checks",
    ),
    (
        "pack",
        "predictd pack models/churn/1.0.0 --bump",
        "an edited package under the next free version",
    ),
    (
        "verify",
        "predictd verify models",
        "every package in a directory",
    ),
    (
        "verify",
        "predictd verify models/churn/1.1.0 --json",
        "in a pipeline",
    ),
    (
        "inspect",
        "predictd inspect models/churn/1.0.0",
        "schema, steps, provenance, how rows are batched",
    ),
    (
        "compat",
        "predictd compat models/churn/1.0.0 models/churn/1.1.0",
        "before a release; exit 1 where callers would break",
    ),
    (
        "predict",
        "predictd predict models/churn/1.0.0 --input rows.jsonl",
        "an answer a line",
    ),
    (
        "predict",
        "tail -n 1 rows.jsonl | predictd predict models/churn/1.0.0",
        "from a pipe",
    ),
    (
        "models",
        "predictd models",
        "versions, their states and roles",
    ),
    (
        "models",
        "predictd models --server http://10.0.0.7:8082 --json",
        "of another server, for a program",
    ),
    (
        "rollout",
        "predictd rollout start churn --to 1.1.0 --plan canary",
        "begin",
    ),
    (
        "rollout",
        "predictd rollout status churn --watch",
        "look on until it ends",
    ),
    (
        "rollout",
        "predictd rollout abort churn --reason 'too many refunds'",
        "end it",
    ),
    (
        "rollout start",
        "predictd rollout start churn --to 1.1.0",
        "by the plan for the package's risk",
    ),
    (
        "rollout start",
        "predictd rollout start churn --to 1.1.0 --plan canary --dry-run",
        "what would happen",
    ),
    (
        "rollout start",
        "predictd rollout start churn --to 1.1.0 --to 1.2.0 --plan ab",
        "an A/B test of two",
    ),
    (
        "rollout status",
        "predictd rollout status",
        "of every model",
    ),
    (
        "rollout status",
        "predictd rollout status churn --watch",
        "until it ends; exit 1 if it was aborted or rolled back",
    ),
    (
        "rollout pause",
        "predictd rollout pause churn --reason 'a holiday'",
        "stays at its step",
    ),
    ("rollout resume", "predictd rollout resume churn", "goes on"),
    (
        "rollout approve",
        "predictd rollout approve churn --reason 'reviewed'",
        "as the second of two names",
    ),
    (
        "rollout abort",
        "predictd rollout abort churn --reason 'too many refunds'",
        "everybody gets the stable version",
    ),
    (
        "rollout promote",
        "predictd rollout promote churn",
        "before its last step",
    ),
    (
        "rollout promote",
        "predictd rollout promote churn --to 1.2.0",
        "the winner of an A/B test",
    ),
    (
        "rollback",
        "predictd rollback churn",
        "ends the rollout that runs; else one version back",
    ),
    (
        "rollback",
        "predictd rollback churn --to 1.0.0 --reason 'refunds'",
        "to a version by its name",
    ),
    (
        "history",
        "predictd history churn",
        "who changed what, when and why",
    ),
    (
        "history",
        "predictd history churn --verify",
        "nothing was altered or taken away",
    ),
    (
        "history",
        "predictd history churn --state /var/lib/predictd",
        "without a server",
    ),
    (
        "history",
        "predictd history churn --repair --reason 'power cut'",
        "decide again after damage",
    ),
    (
        "health",
        "predictd health",
        "ready? exit 0 or 1: a container's health check",
    ),
    (
        "health",
        "predictd health --listen 127.0.0.1:9000 --live",
        "alive?",
    ),
    (
        "completions",
        "predictd completions bash > /etc/bash_completion.d/predictd",
        "for everybody on this machine",
    ),
    ("man", "predictd man | man -l -", "read it"),
    (
        "man",
        "predictd man rollout start > predictd-rollout-start.1",
        "keep it",
    ),
];

/// The command line with its examples.
pub fn add(mut command: Command) -> Command {
    let mut paths: Vec<&str> = EXAMPLES.iter().map(|(path, ..)| *path).collect();
    paths.dedup();
    for path in paths {
        let names: Vec<&str> = path.split_whitespace().collect();
        command = at(command, &names, &text(path));
    }
    command
}

fn at(command: Command, names: &[&str], text: &str) -> Command {
    match names.split_first() {
        Some((name, rest)) => command.mut_subcommand(name, |inner| at(inner, rest, text)),
        None => command.after_long_help(text.to_owned()),
    }
}

fn text(path: &str) -> String {
    let lines = EXAMPLES
        .iter()
        .filter(|(of, ..)| *of == path)
        .map(|(_, line, what)| format!("  # {what}\n  {line}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use crate::cli::{command_line, examples::EXAMPLES, visible};

    #[test]
    fn examples_are_command_lines() {
        for (path, line, _) in EXAMPLES {
            let line = line.split_once(" | ").map_or(*line, |(before, after)| {
                if before.starts_with("predictd") {
                    before
                } else {
                    after
                }
            });
            let line = line.split_once(" > ").map_or(line, |(command, _)| command);
            let words = shlex::split(line).unwrap();
            let outcome = command_line().try_get_matches_from(&words);
            assert!(
                outcome.is_ok()
                    && words
                        .join(" ")
                        .starts_with(format!("predictd {path}").trim()),
                "{line}: {:?}",
                outcome.err()
            );
        }
    }

    #[test]
    fn every_command_has_one() {
        fn look(command: &Command, path: &str) {
            assert!(EXAMPLES.iter().any(|(of, ..)| *of == path), "{path}");
            for inner in command
                .get_subcommands()
                .filter(|inner| inner.get_name() != "help")
            {
                look(inner, format!("{path} {}", inner.get_name()).trim());
            }
        }
        look(&visible(), "");
    }
}
