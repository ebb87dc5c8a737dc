//! `models.promote = "newest"`: a version that is newer than all versions in the journal becomes
//! stable automatically.

use crate::{
    actor::Actor,
    config::PromotePolicy,
    error::text_with_sources,
    id::Version,
    journal::{
        DecisionDraft,
        entry::{Action, VersionRef},
    },
    operate::{
        OperateError, Operator, compatibility::CallerCompatibility, decide::draft,
        model::ModelControl,
    },
    package::serving::Risk,
    registry::VersionState,
};

impl Operator {
    pub(super) fn promote_newest(&self, model: &mut ModelControl) {
        let Some(stable) = model.state.stable.clone() else {
            return;
        };
        if self.settings.models.promote != PromotePolicy::Newest
            || model.state.rollout.is_some()
            || self.settings.pinned.contains_key(model.name.as_str())
        {
            return;
        }
        let newest = self
            .newest(model)
            .filter(|to| !model.incompatible.contains(to));
        let Some(to) = newest else {
            return;
        };
        let (Some(old), Some(new)) = (
            self.decided(&model.name, &stable),
            self.decided(&model.name, &to),
        ) else {
            return;
        };
        let compatibility = CallerCompatibility::of(&old, &new, &[]);
        let high = new.package().and_then(|package| package.parts.serving.risk) == Some(Risk::High);
        if compatibility.is_breaking() || compatibility.is_forward_only() || high {
            let detail = if high {
                "its package declares a high risk".to_owned()
            } else {
                compatibility.lines().join("; ")
            };
            tracing::error!(
                model = %model.name,
                version = %to,
                detail,
                "the newest version is not promoted automatically; start a rollout"
            );
            model.incompatible.push(to);
            return;
        }
        let draft = DecisionDraft {
            from: Some(stable),
            reason: Some("models.promote = \"newest\"".to_owned()),
            evidence: serde_json::to_value(compatibility.into_report()).ok(),
            ..draft(Action::Promote, Actor::Configuration, Some(to))
        };
        match self.append(model, draft) {
            // Another replica decided first, or the state directory can't be written now. The next
            // tick tries again.
            Ok(_) | Err(OperateError::Superseded { .. }) => {}
            Err(error) => {
                tracing::debug!(
                    model = %model.name,
                    error = %text_with_sources(&error),
                    "the newest version can't be promoted"
                )
            }
        }
    }

    /// The newest loaded version, if it is newer than every version in the journal.
    fn newest(&self, model: &ModelControl) -> Option<VersionRef> {
        let snapshot = self.registry.snapshot();
        let versions = &snapshot.models.get(&model.name)?.versions;
        // A version that is still loading may be newer than the loaded versions.
        if versions
            .values()
            .any(|status| matches!(status.state, VersionState::Loading))
        {
            return None;
        }
        let known = model
            .state
            .digests
            .keys()
            .filter_map(|version| Version::parse(version))
            .max();
        let newest = versions
            .iter()
            .rev()
            .find_map(|(version, status)| match &status.state {
                VersionState::Available(servable) => Some((version, servable)),
                _ => None,
            });
        let (version, servable) = newest.filter(|(version, _)| Some(*version) > known.as_ref())?;
        Some(VersionRef {
            version: version.to_string(),
            digest: servable.digest().to_owned(),
        })
    }
}
