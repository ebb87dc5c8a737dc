//! Examples of command lines, for the end of `--help` and of the manual pages.

use clap::Command;

/// A command, an example command line, and the purpose of the example.
type Example = (&'static str, &'static str, &'static str);

const EXAMPLES: &[Example] = &[
    (
        "",
        "predictd init model.onnx --sample rows.jsonl",
        "draft a package from an ONNX file",
    ),
    (
        "",
        "predictd serve --models models",
        "serve the packages in models/",
    ),
    (
        "",
        "predictd rollout start churn --to 1.1.0",
        "move traffic to a new version step by step",
    ),
    (
        "",
        "predictd rollback churn --reason 'scores too high'",
        "end the rollout, or return to the previous version",
    ),
    (
        "serve",
        "predictd serve",
        "serve the packages in models/ on 127.0.0.1:8080",
    ),
    (
        "serve",
        "predictd serve --config predictd.toml --check",
        "check whether it would serve; exit 0 or 1",
    ),
    (
        "serve",
        "predictd serve --models /srv/models --state /var/lib/predictd --listen 0.0.0.0:8080",
        "serve in production",
    ),
    (
        "init",
        "predictd init churn.onnx --sample customers.csv",
        "draft models/churn/1.0.0",
    ),
    (
        "init",
        "predictd init churn.onnx --sample rows.jsonl --golden predictions.jsonl",
        "draft, and check the draft against predictions from training",
    ),
    (
        "init",
        "predictd init churn.onnx --sample rows.jsonl --encode plan=one_hot --output drafts/churn/1.0.0",
        "draft in a directory that is not served",
    ),
    (
        "import",
        "predictd import triton /srv/triton --output models",
        "import a whole repository",
    ),
    (
        "import",
        "predictd import mlflow mlruns/1/models/m-1/artifacts --name churn --output models/churn/1.0.0",
        "import one model",
    ),
    (
        "import triton",
        "predictd import triton /srv/triton --output models",
        "import each model of a repository as models/NAME/VERSION",
    ),
    (
        "import mlflow",
        "predictd import mlflow model --name churn --output models/churn/1.0.0",
        "import a directory that contains MLmodel",
    ),
    (
        "pack",
        "predictd pack models/churn/1.0.0",
        "run all checks and write manifest.json",
    ),
    (
        "pack",
        "predictd pack models/churn/1.0.0 --bump",
        "pack an edited copy under the next free version",
    ),
    (
        "verify",
        "predictd verify models",
        "check every package in a directory",
    ),
    (
        "verify",
        "predictd verify models/churn/1.1.0 --json",
        "check one package in a pipeline",
    ),
    (
        "inspect",
        "predictd inspect models/churn/1.0.0",
        "show the graph, the fields, provenance and files",
    ),
    (
        "compat",
        "predictd compat models/churn/1.0.0 models/churn/1.1.0",
        "check before a release; exit 1 if callers would break",
    ),
    (
        "predict",
        "predictd predict models/churn/1.0.0 --input rows.jsonl",
        "print one prediction per line",
    ),
    (
        "predict",
        "tail -n 1 rows.jsonl | predictd predict models/churn/1.0.0",
        "read instances from a pipe",
    ),
    (
        "models",
        "predictd models",
        "list versions with their states and roles",
    ),
    (
        "models",
        "predictd models --server http://10.0.0.7:8082 --json",
        "list the models of another server as JSON",
    ),
    (
        "rollout",
        "predictd rollout start churn --to 1.1.0 --plan canary",
        "start a rollout",
    ),
    (
        "rollout",
        "predictd rollout status churn --watch",
        "watch until it ends",
    ),
    (
        "rollout",
        "predictd rollout abort churn --reason 'too many refunds'",
        "end it; the stable version answers all requests",
    ),
    (
        "rollout start",
        "predictd rollout start churn --to 1.1.0",
        "start with the plan for the package's risk",
    ),
    (
        "rollout start",
        "predictd rollout start churn --to 1.1.0 --plan canary --dry-run",
        "show the plan and the differences for callers; start nothing",
    ),
    (
        "rollout start",
        "predictd rollout start churn --to 1.1.0 --to 1.2.0 --plan ab",
        "start an A/B test of two candidates",
    ),
    (
        "rollout status",
        "predictd rollout status",
        "show every model",
    ),
    (
        "rollout status",
        "predictd rollout status churn --watch",
        "watch until it ends; exit 1 if it was aborted or rolled back",
    ),
    (
        "rollout pause",
        "predictd rollout pause churn --reason 'a holiday'",
        "keep it at its step",
    ),
    (
        "rollout resume",
        "predictd rollout resume churn",
        "continue",
    ),
    (
        "rollout approve",
        "predictd rollout approve churn --reason 'reviewed'",
        "approve as the second operator",
    ),
    (
        "rollout abort",
        "predictd rollout abort churn --reason 'too many refunds'",
        "the stable version answers all requests",
    ),
    (
        "rollout promote",
        "predictd rollout promote churn",
        "promote before the last step has ended",
    ),
    (
        "rollout promote",
        "predictd rollout promote churn --to 1.2.0",
        "promote the winner of an A/B test",
    ),
    (
        "rollback",
        "predictd rollback churn",
        "end the rollout; without one, restore the previous version",
    ),
    (
        "rollback",
        "predictd rollback churn --to 1.0.0 --reason 'refunds'",
        "restore a version by its name",
    ),
    (
        "drift",
        "predictd drift churn",
        "the features that moved most in the last hour, first",
    ),
    (
        "drift",
        "predictd drift churn --version 1.1.0 --window 10m",
        "the last 10 minutes of a candidate",
    ),
    (
        "history",
        "predictd history churn",
        "show who changed what, when and why",
    ),
    (
        "history",
        "predictd history churn --verify",
        "check that no entry was altered or removed",
    ),
    (
        "history",
        "predictd history churn --state /var/lib/predictd",
        "read a state directory without a server",
    ),
    (
        "history",
        "predictd history churn --repair --reason 'power cut'",
        "make decisions possible again after damage",
    ),
    (
        "health",
        "predictd health",
        "health check of a container; exit 0 or 1",
    ),
    (
        "health",
        "predictd health --listen 127.0.0.1:9000 --live",
        "check whether it is live",
    ),
    (
        "completions",
        "predictd completions bash > /etc/bash_completion.d/predictd",
        "install completions for all users",
    ),
    ("man", "predictd man | man -l -", "read the manual page"),
    (
        "man",
        "predictd man rollout start > predictd-rollout-start.1",
        "save the manual page of one command",
    ),
];

/// Adds the examples to the help of each command.
pub(super) fn add(mut command: Command) -> Command {
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

    use crate::cli::{command_examples::EXAMPLES, command_line, visible};

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
    fn every_command_has_an_example() {
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
