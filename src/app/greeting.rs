//! The greeting: prints how to reach the server once it has started.

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, Instant},
};

use crate::{
    api::http,
    app::listeners::Addresses,
    registry::{Registry, ServedModel, Snapshot, not_ready},
};

/// Maximum size of a printed example in bytes. An image would fill the terminal.
const MAX_EXAMPLE_BYTES: usize = 4096;

/// The interval at which the start checks whether the models are loaded.
const TICK: Duration = Duration::from_millis(5);

/// Prints the greeting once the first loads are done.
pub(super) async fn greet(registry: Registry, addresses: Addresses, started: Instant) {
    while !registry.snapshot().initial_loads_done {
        tokio::time::sleep(TICK).await;
    }
    let text = greeting(&registry.snapshot(), &addresses, started.elapsed());
    // Standard output may be closed. The log also contains the important facts.
    let _ = std::io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| std::io::stdout().flush());
}

// Writing to a String does not fail, so the results below are ignored.
fn greeting(snapshot: &Snapshot, addresses: &Addresses, elapsed: Duration) -> String {
    let url = format!("http://{}", addresses.data);
    let mut text = String::new();
    let reasons = not_ready(snapshot, Instant::now());
    let state = if reasons.is_empty() {
        "ready"
    } else {
        "NOT ready"
    };
    let _ = writeln!(
        text,
        "predictd {} is {state} on {url} after {} ms",
        env!("CARGO_PKG_VERSION"),
        elapsed.as_millis()
    );
    for (model, reason) in reasons {
        let subject = if model.is_empty() {
            String::new()
        } else {
            format!("{model}: ")
        };
        let _ = writeln!(text, "  {subject}{reason}");
    }
    for ignored in snapshot.ignored.iter() {
        let _ = writeln!(text, "  {}: {ignored}", ignored.reason.outcome());
    }
    for (name, model) in &snapshot.models {
        let _ = writeln!(text, "  {name:<16} {}", versions(model));
    }
    if let Some(example) = example(snapshot, &url) {
        let _ = writeln!(text, "try      {example}");
    }
    let _ = writeln!(text, "docs     {url}/docs");
    let _ = writeln!(text, "metrics  {url}/metrics");
    if let Some(address) = addresses.grpc {
        let _ = writeln!(text, "grpc     {address}");
    }
    if let Some(address) = addresses.admin {
        let _ = writeln!(text, "admin    http://{address}");
    }
    text
}

fn versions(model: &ServedModel) -> String {
    let versions: Vec<String> = model
        .versions
        .iter()
        .map(|(version, status)| format!("{version} {}", status.state.name()))
        .collect();
    let stable = model.stable.as_ref().map_or_else(
        || "none".to_owned(),
        |servable| servable.id().version.to_string(),
    );
    format!("stable {stable:<8} ({})", versions.join(", "))
}

/// An example request that works, for the model whose example is the shortest. `None` if no model
/// has an example.
fn example(snapshot: &Snapshot, url: &str) -> Option<String> {
    let stable = snapshot
        .models
        .values()
        .filter_map(|model| model.stable.as_ref());
    let examples = stable.filter_map(|servable| {
        let example = http::examples(servable).first()?.to_string();
        Some((&servable.id().name, example))
    });
    let (name, example) = examples.min_by_key(|(_, example)| example.len())?;
    if example.len() > MAX_EXAMPLE_BYTES {
        return Some(format!("{url}/docs#{name}"));
    }
    let example = example.replace('\'', "'\\''");
    Some(format!(
        "curl -s {url}/models/{name}/predict -H 'content-type: application/json' -d '{example}'"
    ))
}
