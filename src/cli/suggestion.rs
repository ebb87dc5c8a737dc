//! Converts the server's suggestions to command lines.

use crate::suggestion::Suggestion;

/// The next command line for an operator of `model`.
pub(super) fn command(suggestion: &Suggestion, model: &str) -> Option<String> {
    let text = match suggestion {
        Suggestion::NameCandidate => "add --to VERSION".to_owned(),
        Suggestion::ChoosePlan => {
            "set --plan to a built-in plan, or to the path of a plan file".to_owned()
        }
        Suggestion::GiveReason => "add --reason TEXT".to_owned(),
        Suggestion::AllowForwardOnly => {
            "add --allow-forward-only --reason TEXT to start anyway".to_owned()
        }
        Suggestion::PromoteWithoutWayBack => {
            "add --without-way-back --reason TEXT to promote anyway".to_owned()
        }
        Suggestion::AbortRollout => format!("predictd rollout abort {model} --reason TEXT"),
        Suggestion::StartRollout { to } => format!("predictd rollout start {model} --to {to}"),
        Suggestion::RollBack { to } => format!("predictd rollback {model} --to {to}"),
        Suggestion::RollBackToNeverStable { to } => {
            never_stable(model, to.as_deref().unwrap_or("VERSION"))
        }
        Suggestion::RollOutOrBack { to } => format!(
            "predictd rollout start {model} --to {to}\n  or:   {}",
            never_stable(model, to)
        ),
        Suggestion::RepairJournal => format!("predictd history {model} --repair --reason TEXT"),
        Suggestion::ConfigureOperators => {
            "set admin.token_file on the server, and PREDICTD_TOKEN here".to_owned()
        }
        Suggestion::LoadModel => {
            format!("POST /v2/repository/models/{model}/load on the admin listener")
        }
        Suggestion::RestoreFiles => {
            "put the files of a version into the models directory".to_owned()
        }
        Suggestion::Other => return None,
    };
    Some(text)
}

fn never_stable(model: &str, to: &str) -> String {
    format!("predictd rollback {model} --to {to} --never-stable --reason TEXT")
}
