//! Hints: suggestions as requests of the admin API.

use crate::suggestion::Suggestion;

/// Describes the request that a client of the API can send instead. `name`: the model.
pub(super) fn hint(suggestion: &Suggestion, name: &str) -> Option<String> {
    let text = match suggestion {
        Suggestion::NameCandidate => "name the version in \"to\"".to_owned(),
        Suggestion::ChoosePlan => {
            "send \"plan\": {\"name\": NAME} with a built-in plan, or {\"text\": TOML}".to_owned()
        }
        Suggestion::GiveReason => "add a \"reason\"".to_owned(),
        Suggestion::AllowForwardOnly => {
            "to start anyway, send \"allow_forward_only\": true with a \"reason\"".to_owned()
        }
        Suggestion::PromoteWithoutWayBack => {
            "to promote anyway, send \"without_way_back\": true with a \"reason\"".to_owned()
        }
        Suggestion::AbortRollout => format!("POST /admin/models/{name}/rollout/abort"),
        Suggestion::StartRollout { to } => start(name, to),
        Suggestion::RollBack { to } => {
            format!("POST /admin/models/{name}/rollback with {{\"to\": \"{to}\"}}")
        }
        Suggestion::RollBackToNeverStable { to } => {
            never_stable(name, to.as_deref().unwrap_or("VERSION"))
        }
        Suggestion::RollOutOrBack { to } => {
            format!("{}; or {}", start(name, to), never_stable(name, to))
        }
        Suggestion::RepairJournal => {
            format!(
                "POST /admin/models/{name}/history/repair with a \"reason\" moves the damaged end aside"
            )
        }
        Suggestion::ConfigureOperators => {
            "set admin.token_file on the server, and send a token".to_owned()
        }
        Suggestion::LoadModel => format!("POST /v2/repository/models/{name}/load"),
        Suggestion::RestoreFiles => {
            "put the files of a version into the models directory".to_owned()
        }
        Suggestion::Other => return None,
    };
    Some(text)
}

fn start(name: &str, to: &str) -> String {
    format!("POST /admin/models/{name}/rollout/start with {{\"to\": [\"{to}\"]}}")
}

fn never_stable(name: &str, to: &str) -> String {
    format!(
        "POST /admin/models/{name}/rollback with {{\"to\": \"{to}\", \"never_stable\": true, \"reason\": TEXT}}"
    )
}
