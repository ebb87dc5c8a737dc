//! Hints: suggestions as requests of the admin API.

use crate::suggestion::Suggestion;

/// Describes the request that a client of the API can send instead.
pub(super) fn hint(suggestion: &Suggestion) -> Option<String> {
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
        Suggestion::AbortRollout => "POST /admin/models/{name}/rollout/abort".to_owned(),
        Suggestion::StartRollout { to } => start(to),
        Suggestion::RollBack { to } => {
            format!("POST /admin/models/{{name}}/rollback with {{\"to\": \"{to}\"}}")
        }
        Suggestion::RollBackToNeverStable { to } => {
            never_stable(to.as_deref().unwrap_or("VERSION"))
        }
        Suggestion::RollOutOrBack { to } => format!("{}; or {}", start(to), never_stable(to)),
        Suggestion::RepairJournal => {
            "POST /admin/models/{name}/history/repair with a \"reason\" moves the damaged end aside"
                .to_owned()
        }
        Suggestion::ConfigureOperators => {
            "set admin.token_file on the server, and send a token".to_owned()
        }
        Suggestion::LoadModel => "POST /v2/repository/models/{name}/load".to_owned(),
        Suggestion::RestoreFiles => {
            "put the files of a version into the models directory".to_owned()
        }
        Suggestion::Other => return None,
    };
    Some(text)
}

fn start(to: &str) -> String {
    format!("POST /admin/models/{{name}}/rollout/start with {{\"to\": [\"{to}\"]}}")
}

fn never_stable(to: &str) -> String {
    format!(
        "POST /admin/models/{{name}}/rollback with {{\"to\": \"{to}\", \"never_stable\": true, \"reason\": TEXT}}"
    )
}
