//! Adoption: the first choice of a stable version, when a server finds a model without a journal.

use crate::{
    actor::Actor,
    error::text_with_sources,
    id::ModelName,
    journal::entry::{Action, VersionRef},
    operate::{Operator, decide::draft, lock},
    registry::Adopter,
};

impl Adopter for Operator {
    fn adopt(&self, name: &ModelName, version: VersionRef) {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        self.follow(&mut model);
        let forbidden = model
            .trouble
            .as_ref()
            .is_some_and(|trouble| !trouble.allows_first_choice());
        // A journal that has entries but no stable version was repaired. The version that was
        // stable before may not be the highest one, so an operator chooses.
        if model.state.stable.is_some() || forbidden || model.lacks_stable() {
            return;
        }
        tracing::info!(model = %name, version = %version, "the first stable version is chosen");
        let mut draft = draft(Action::Adopt, Actor::Configuration, Some(version));
        draft.reason = Some("the first start with this model".to_owned());
        let trouble = model
            .trouble
            .as_ref()
            .map(|trouble| trouble.log_line(name, true));
        let outcome = match trouble {
            Some(trouble) => {
                self.apply_unwritten(&mut model, draft.into_entry(name.as_str()), &trouble)
            }
            None => self.append(&mut model, draft),
        };
        if let Err(error) = outcome {
            tracing::error!(
                model = %name,
                error = %text_with_sources(&error),
                "the first stable version could not be chosen"
            );
        }
    }
}
