//! Reconcile: from what lies in the directory and what is loaded to what must be done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::Version;

/// What is known of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionView {
    /// Its directory is there.
    pub present: bool,
    /// Its directory looks otherwise than when its phase was reached.
    pub changed: bool,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Never tried, or unloaded.
    Idle,
    /// Files are still to come.
    Incomplete,
    Loading,
    Available,
    Refused,
}

/// Which versions of a model are kept loaded, beside those that are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    Newest(usize),
    All,
    Only(BTreeSet<Version>),
}

/// One model as the registry sees it.
#[derive(Clone, Debug, Default)]
pub struct ModelView {
    pub versions: BTreeMap<Version, VersionView>,
    /// The stable version, the one before it, candidates: loaded whatever else is.
    pub needed: BTreeSet<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Load(Version),
    Unload(Version),
    /// The directory of a loaded version changed: is it still the same package?
    Compare(Version),
    /// Nothing of this version is left.
    Forget(Version),
}

/// What to do now, for a model of which `keep` is wanted. Doing it and asking again gives nothing to do.
pub fn plan(model: &ModelView, keep: &Keep) -> Vec<Action> {
    let newest = |wanted: &dyn Fn(&VersionView) -> bool| -> BTreeSet<&Version> {
        let wanted = model.versions.iter().rev().filter(|(_, view)| view.present && wanted(view)).map(|(version, _)| version);
        match keep {
            Keep::Newest(count) => wanted.take(*count).collect(),
            Keep::All => wanted.collect(),
            Keep::Only(versions) => wanted.filter(|version| versions.contains(version)).collect(),
        }
    };
    // A refused version makes room for an older one, until its files change.
    let to_load = newest(&|view| view.phase != Phase::Refused || view.changed);
    // An older version stays until a newer one is there.
    let to_keep = newest(&|view| view.phase == Phase::Available);
    let mut actions = Vec::new();
    for (version, view) in &model.versions {
        let wanted = model.needed.contains(version) || to_load.contains(version);
        match (view.phase, view.present) {
            // What is loaded and needed goes on, though its files are gone.
            (Phase::Available, false) if !model.needed.contains(version) => actions.push(Action::Unload(version.clone())),
            (Phase::Available, true) if !model.needed.contains(version) && !to_keep.contains(version) => {
                actions.push(Action::Unload(version.clone()));
            }
            (Phase::Available, true) if view.changed => actions.push(Action::Compare(version.clone())),
            (Phase::Idle | Phase::Incomplete | Phase::Refused, false) => actions.push(Action::Forget(version.clone())),
            (Phase::Idle | Phase::Incomplete, true) if wanted => actions.push(Action::Load(version.clone())),
            (Phase::Refused, true) if view.changed && wanted => actions.push(Action::Load(version.clone())),
            _ => {}
        }
    }
    actions
}

/// The version that a model without any decision starts with: the pinned one, else the highest that passed.
pub fn first_choice(model: &ModelView, pinned: Option<&Version>) -> Option<Version> {
    let available = |view: &VersionView| view.phase == Phase::Available;
    match pinned {
        Some(pinned) => model.versions.get(pinned).filter(|view| available(view)).map(|_| pinned.clone()),
        // It waits for every attempt, so that a slow load of the highest version is not passed over.
        None if model.versions.values().any(|view| view.phase == Phase::Loading) => None,
        None => model.versions.iter().rev().find(|(_, view)| available(view)).map(|(version, _)| version.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{
        id::Version,
        registry::reconcile::{Action, Keep, ModelView, Phase, VersionView, first_choice, plan},
    };

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn view(versions: &[(&str, Phase)]) -> ModelView {
        let versions =
            versions.iter().map(|(text, phase)| (version(text), VersionView { present: true, changed: false, phase: *phase })).collect();
        ModelView { versions, ..ModelView::default() }
    }

    #[test]
    fn start_loads_the_pinned_and_the_newest() {
        let mut model = view(&[("1.0.0", Phase::Idle), ("1.1.0", Phase::Idle), ("1.2.0", Phase::Idle), ("2.0.0", Phase::Idle)]);
        assert_eq!(plan(&model, &Keep::Newest(2)), [Action::Load(version("1.2.0")), Action::Load(version("2.0.0"))]);
        model.needed = [version("1.0.0")].into();
        assert_eq!(plan(&model, &Keep::Newest(1)), [Action::Load(version("1.0.0")), Action::Load(version("2.0.0"))]);
    }

    #[test]
    fn a_refused_version_makes_room_and_is_tried_again_when_it_changes() {
        let mut model = view(&[("1.0.0", Phase::Idle), ("2.0.0", Phase::Refused)]);
        assert_eq!(plan(&model, &Keep::Newest(1)), [Action::Load(version("1.0.0"))]);
        model.versions.get_mut(&version("2.0.0")).unwrap().changed = true;
        assert_eq!(plan(&model, &Keep::Newest(1)), [Action::Load(version("2.0.0"))]);
    }

    #[test]
    fn what_is_needed_is_kept_and_the_surplus_unloaded() {
        let mut model = view(&[("1.0.0", Phase::Available), ("1.1.0", Phase::Available), ("1.2.0", Phase::Available)]);
        model.needed = [version("1.0.0")].into();
        assert_eq!(plan(&model, &Keep::Newest(1)), [Action::Unload(version("1.1.0"))]);
        for gone in ["1.0.0", "1.2.0"] {
            model.versions.get_mut(&version(gone)).unwrap().present = false;
        }
        assert_eq!(plan(&model, &Keep::Newest(1)), [Action::Unload(version("1.2.0"))]);
    }

    #[test]
    fn the_first_choice_waits_for_loads() {
        let mut model = view(&[("1.0.0", Phase::Available), ("1.1.0", Phase::Loading)]);
        assert_eq!(first_choice(&model, None), None);
        assert_eq!(first_choice(&model, Some(&version("1.0.0"))), Some(version("1.0.0")));
        assert_eq!(first_choice(&model, Some(&version("9.0.0"))), None);
        model.versions.get_mut(&version("1.1.0")).unwrap().phase = Phase::Available;
        assert_eq!(first_choice(&model, None), Some(version("1.1.0")));
    }

    proptest! {
        #[test]
        fn doing_the_plan_leaves_nothing_to_do(
            states in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..5), 0..6), keep in prop_oneof![(1usize..4).prop_map(Keep::Newest), Just(Keep::All), prop::collection::btree_set((0usize..6).prop_map(|index| version(&format!("1.{index}.0"))), 0..4).prop_map(Keep::Only)], needed in prop::collection::btree_set(0usize..6, 0..3)
        ) {
            let phases = [Phase::Idle, Phase::Incomplete, Phase::Loading, Phase::Available, Phase::Refused];
            let name = |index: usize| version(&format!("1.{index}.0"));
            let versions = states.iter().enumerate().map(|(index, (present, changed, phase))| (name(index), VersionView { present: *present, changed: *changed, phase: phases[*phase] })).collect();
            let mut model = ModelView { versions, needed: needed.into_iter().map(name).collect() };
            for _ in 0..3 {
                for action in plan(&model, &keep) {
                    match action {
                        Action::Load(version) => { let view = model.versions.get_mut(&version).unwrap(); view.phase = Phase::Available; view.changed = false; }
                        Action::Compare(version) => model.versions.get_mut(&version).unwrap().changed = false,
                        Action::Unload(version) => model.versions.get_mut(&version).unwrap().phase = Phase::Idle,
                        Action::Forget(version) => { model.versions.remove(&version); }
                    }
                }
            }
            prop_assert_eq!(plan(&model, &keep), []);
        }
    }
}
