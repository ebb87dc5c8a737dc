//! `predictd drift`: how far the inputs and predictions of a version moved from its reference.

use anyhow::bail;

use crate::{
    admin::drift::{DriftBin, DriftReport, DriftWindow, DriftedFeature},
    cli::{
        CommandOutcome,
        client::{self, Client, ServerArgs},
        paint::{Cell, Paint, Style, Table, count},
    },
    config::WindowLength,
    id::ModelName,
    rollout::figures::duration,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Version [default: the stable version]
    #[arg(long, value_name = "VERSION", value_parser = client::version)]
    version: Option<String>,
    /// One of the windows in the server's monitor.windows
    #[arg(long, value_name = "WINDOW", default_value = "1h")]
    window: WindowLength,
    /// Print the server's JSON document, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let name = &args.model;
    let client = Client::new(&args.server, Some(name))?;
    let query = args
        .version
        .as_ref()
        .map_or_else(String::new, |version| format!("?version={version}"));
    let answer = client.get(&format!("/{name}/drift{query}"))?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(answer.value())?);
        return Ok(CommandOutcome::Done);
    }
    let report: DriftReport = answer.read()?;
    let chosen = report
        .windows
        .iter()
        .find(|window| window.seconds == args.window.seconds());
    let Some(window) = chosen else {
        let known: Vec<String> = report
            .windows
            .iter()
            .map(|window| duration(window.seconds as f64))
            .collect();
        bail!(
            "the server has no such window; it has: {}",
            known.join(", ")
        );
    };
    say!("{}", text(&report, window, Paint::stdout()).trim_end());
    Ok(CommandOutcome::Done)
}

fn text(report: &DriftReport, window: &DriftWindow, paint: Paint) -> String {
    let mut text = format!(
        "{} {}  last {} (counted for {}): {} rows, {} predictions; reference: profile.json\n",
        report.model,
        paint.paint(Style::Bold, &report.version),
        duration(window.seconds as f64),
        duration(window.covered_seconds),
        count(window.rows),
        count(window.predictions),
    );
    let titles = ["feature", "reference", "now"].map(Cell::left);
    let figures = ["psi", "js", "ks", "missing", "(ref.)", "unseen", "outside"].map(Cell::right);
    let mut table = Table::new(titles.into_iter().chain(figures));
    let mut features: Vec<&DriftedFeature> = window.features.iter().collect();
    let psi = |feature: &DriftedFeature| feature.psi.unwrap_or(-1.0);
    features.sort_by(|a, b| psi(b).total_cmp(&psi(a)));
    for feature in features {
        table.row(row(feature));
    }
    table.print(paint, &mut text);
    text
}

fn row(feature: &DriftedFeature) -> Vec<Cell> {
    let figure = |value: Option<f64>| {
        Cell::right(value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}")))
    };
    let share = |value: f64| Cell::right(format!("{:.1} %", value * 100.0));
    let name = match feature.section.as_str() {
        "predictions" => format!("-> {}", feature.name),
        _ => feature.name.clone(),
    };
    vec![
        Cell::left(name).style(Style::Bold),
        Cell::left(chart(&feature.bins, |bin| bin.reference)).style(Style::Dim),
        Cell::left(chart(&feature.bins, |bin| bin.observed)),
        figure(feature.psi),
        figure(feature.js),
        figure(feature.ks),
        share(feature.missing),
        share(feature.reference_missing),
        share(feature.unseen),
        share(feature.outside),
    ]
}

/// One bar for each bin. The height is relative to the largest share of both distributions.
fn chart(bins: &[DriftBin], share: impl Fn(&DriftBin) -> f64) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = bins
        .iter()
        .flat_map(|bin| [bin.reference, bin.observed])
        .fold(f64::MIN_POSITIVE, f64::max);
    bins.iter()
        .map(|bin| (share(bin) / largest * 8.0).ceil() as usize)
        .map(|height| BARS.get(height).copied().unwrap_or('█'))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::{admin::drift::DriftBin, cli::drift::chart};

    #[test]
    fn the_charts_of_both_distributions_have_one_scale() {
        let bin = |reference, observed| DriftBin {
            name: String::new(),
            reference,
            observed,
        };
        let bins = [bin(0.25, 0.0), bin(0.5, 1.0), bin(0.25, 0.0)];
        assert_eq!(chart(&bins, |bin| bin.reference), "▂▄▂");
        assert_eq!(chart(&bins, |bin| bin.observed), " █ ");
    }
}
