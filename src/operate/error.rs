//! `OperateError`: the reason why an order was not carried out, with the text for operators.

use std::fmt;

use crate::{
    actor::Actor,
    document::DocumentError,
    error::ErrorCode,
    id::ModelName,
    journal::{JournalError, store::StoreError},
    load_state::LoadState,
    operate::{
        rehearsal_error::RehearsalError,
        trouble::{RefusedByTrouble, Trouble},
    },
    registry::VersionFault,
    rollout::{
        plan::{PlanError, RolloutPlan},
        state::{Contradiction, DecisionRecord},
    },
    suggestion::Suggestion,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum OperateError {
    #[error("there is no model \"{0}\"")]
    UnknownModel(String),
    #[error("there is no order \"{0}\"; use start, approve, pause, resume, promote or abort")]
    UnknownOrder(String),

    #[error("the request names no candidate")]
    NoCandidate,
    #[error("{0} is named twice")]
    DuplicateCandidate(String),
    #[error("there is no plan \"{0}\"; use {builtin}", builtin = RolloutPlan::BUILTIN.join(", "))]
    UnknownPlan(String),
    #[error("invalid plan")]
    Plan(#[source] PlanError),
    #[error("invalid body")]
    Body(#[source] DocumentError),
    /// The order requires a reason, but contains none.
    #[error("{0} requires a reason")]
    ReasonRequired(&'static str),

    #[error("plan \"{0}\" requires two verified operators, and this request is not verified")]
    NotVerified(String),
    #[error("a second verified operator must approve the rollout that {starter} started")]
    SecondOperatorRequired { starter: String },

    #[error("a rollout of {candidates} is in progress, started by {starter}; abort it first")]
    RolloutInProgress { candidates: String, starter: String },
    #[error(
        "another decision came first{}; nothing was changed, look at the status and decide again",
        last.as_ref().map(|last| format!(": {} by {} (entry {})", last.action.name(), last.actor, last.seq)).unwrap_or_default()
    )]
    Superseded { last: Option<Box<DecisionRecord>> },

    /// A problem with the journal prevents this decision.
    #[error(transparent)]
    Trouble(RefusedByTrouble),
    /// A problem with the journal prevents every decision.
    #[error("no decision about {model} is possible")]
    NoDecision {
        model: ModelName,
        #[source]
        trouble: Trouble,
        suggestion: Option<Suggestion>,
    },
    #[error("the decision could not be written, so nothing was changed")]
    NotWritten(#[source] JournalError),
    #[error("the journal can't be read")]
    JournalUnreadable(#[source] StoreError),
    #[error("the decision contradicts the journal")]
    Inconsistent(#[source] JournalError),

    #[error("\"{0}\" is not a version")]
    InvalidVersion(String),
    #[error("model {0} is not in the models directory")]
    NotServed(String),
    #[error("model {0} was unloaded by an operator; load it first")]
    Unloaded(String),
    #[error("{model} {version} can't answer: its files are missing")]
    FilesMissing { model: String, version: String },
    #[error("there is no version {version} of {model}")]
    UnknownVersion { model: String, version: String },
    #[error("{model} {version} was refused")]
    VersionRefused {
        model: String,
        version: String,
        #[source]
        fault: Box<VersionFault>,
    },
    #[error("{model} {version} is still {}", state.name())]
    LoadTimeout {
        model: String,
        version: String,
        state: LoadState,
        #[source]
        fault: Option<Box<VersionFault>>,
    },
    #[error("{0} is not loaded")]
    NotLoaded(String),
    #[error("{0} is not monitored: its package has no profile.json, or `monitor.windows` is empty")]
    NotMonitored(String),
    #[error("the stable version {0} is not loaded")]
    StableNotLoaded(String),
    #[error("there is no stable version to roll out from")]
    NoStable,
    #[error(
        "the files of {version} changed since an earlier decision; the journal has the digest {decided}"
    )]
    DigestChanged { version: String, decided: String },

    #[error("{0} is not an unproved difference, so there is nothing to accept")]
    NothingToAccept(String),
    #[error("callers of {stable} would break:\n{}", differences.join("\n"))]
    Breaking {
        stable: String,
        differences: Vec<String>,
    },
    #[error(
        "a rollback would break callers who use the new values; accept this explicitly when you start the rollout:\n{}",
        differences.join("\n")
    )]
    ForwardOnly { differences: Vec<String> },
    #[error(
        "plan \"{0}\" is for one candidate; several candidates need a plan of ab and shadow steps"
    )]
    PlanForOneCandidate(String),
    #[error("plan \"{plan}\" has {weights} weights for {candidates} candidates")]
    PlanWeights {
        plan: String,
        weights: usize,
        candidates: usize,
    },
    #[error(
        "plan \"{plan}\" assigns by the field \"{field}\", which the stable version does not have"
    )]
    PlanField { plan: String, field: String },

    #[error("there is no rollout of {0} in progress")]
    NoRollout(String),
    #[error("this rollout does not wait for an approval")]
    NotAwaitingApproval,
    #[error("the rollout has not begun: it waits for an approval")]
    AwaitsApproval,
    #[error("the rollout is paused already")]
    AlreadyPaused,
    #[error("the rollout is not paused")]
    NotPaused,
    #[error("there are several candidates: name the one to promote")]
    SeveralCandidates,
    #[error("{0} is not a candidate of this rollout")]
    NotACandidate(String),
    #[error("a rollback would not work after this promotion")]
    NoWayBack(#[source] Box<RehearsalError>),

    #[error("{0} is the stable version already")]
    AlreadyStable(String),
    /// A decision with the same effect was made earlier.
    #[error("{0}")]
    AlreadyDecided(Box<EarlierDecision>),
    #[error("{}there is no previous stable version{}", already.as_ref().map(|already| format!("{already}; ")).unwrap_or_default(), if suggestion.is_none() { no_other_version(withdrawn) } else { String::new() })]
    NoPrevious {
        already: Option<Box<EarlierDecision>>,
        /// The other loaded versions, which a rollback or an abort took out of use.
        withdrawn: Vec<String>,
        suggestion: Option<Suggestion>,
    },
    #[error("{0} was never stable; introduce it with a rollout")]
    NeverStable(String),
    #[error("{0} is of high risk: only a rollout with a second operator can introduce it")]
    HighRisk(String),
    #[error("the journal of {0} is intact: there is nothing to repair")]
    NothingToRepair(String),
    /// The decision is not possible after the decisions before it.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

fn no_other_version(withdrawn: &[String]) -> String {
    if withdrawn.is_empty() {
        return ", and no other version is loaded; put another version into the models directory, \
                and start a rollout to it"
            .to_owned();
    }
    format!(
        "; the other loaded versions were rolled back or aborted ({}); to return to one of them, \
         name it in the rollback",
        withdrawn.join(", ")
    )
}

impl OperateError {
    /// The error code of the refusal, which is the same in every front end.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            OperateError::UnknownModel(_) | OperateError::UnknownOrder(_) => ErrorCode::NotFound,
            OperateError::NoCandidate
            | OperateError::DuplicateCandidate(_)
            | OperateError::UnknownPlan(_)
            | OperateError::Plan(_)
            | OperateError::Body(_) => ErrorCode::Malformed,
            OperateError::NotVerified(_) | OperateError::SecondOperatorRequired { .. } => {
                ErrorCode::Forbidden
            }
            OperateError::RolloutInProgress { .. } | OperateError::Superseded { .. } => {
                ErrorCode::Conflict
            }
            OperateError::Trouble(_)
            | OperateError::NoDecision { .. }
            | OperateError::NotWritten(_)
            | OperateError::JournalUnreadable(_) => ErrorCode::NotReady,
            _ => ErrorCode::Invalid,
        }
    }

    /// The action that the operator can take. `None` if there is no suggestion.
    pub(crate) fn suggestion(&self) -> Option<Suggestion> {
        match self {
            OperateError::NoCandidate | OperateError::SeveralCandidates => {
                Some(Suggestion::NameCandidate)
            }
            OperateError::UnknownPlan(_) => Some(Suggestion::ChoosePlan),
            OperateError::ReasonRequired(_) => Some(Suggestion::GiveReason),
            OperateError::NotVerified(_) => Some(Suggestion::ConfigureOperators),
            OperateError::RolloutInProgress { .. } => Some(Suggestion::AbortRollout),
            OperateError::Unloaded(_) => Some(Suggestion::LoadModel),
            OperateError::FilesMissing { .. } => Some(Suggestion::RestoreFiles),
            OperateError::ForwardOnly { .. } => Some(Suggestion::AllowForwardOnly),
            OperateError::NoWayBack(_) => Some(Suggestion::PromoteWithoutWayBack),
            OperateError::NeverStable(to) => Some(Suggestion::RollOutOrBack { to: to.clone() }),
            OperateError::HighRisk(to) => Some(Suggestion::StartRollout { to: to.clone() }),
            OperateError::Trouble(RefusedByTrouble { suggestion, .. })
            | OperateError::NoDecision { suggestion, .. }
            | OperateError::NoPrevious { suggestion, .. } => suggestion.clone(),
            _ => None,
        }
    }
}

/// The rollback or abort since which the current version answers.
#[derive(Debug)]
pub(crate) struct EarlierDecision {
    pub stable: String,
    pub ended: EndedUse,
    /// The time since the decision, like `5 min`.
    pub ago: String,
    pub actor: Actor,
    /// The number of the decision's entry.
    pub seq: u64,
}

/// What a decision took out of use.
#[derive(Debug)]
pub(crate) enum EndedUse {
    /// The version that was stable before.
    RolledBack(String),
    /// The candidate of the rollout.
    Aborted(String),
}

impl fmt::Display for EarlierDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is already stable: ", self.stable)?;
        match &self.ended {
            EndedUse::RolledBack(version) => write!(f, "{version} was rolled back")?,
            EndedUse::Aborted(version) => write!(f, "the rollout of {version} was aborted")?,
        }
        write!(
            f,
            " {} ago by {} (entry {})",
            self.ago, self.actor, self.seq
        )
    }
}
