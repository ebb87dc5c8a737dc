//! Reconcile: from what lies in the directory and what is loaded to what must be done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{config::Promote, id::Version};

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

/// Which versions of a model are kept loaded, beside the stable and the pinned one.
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
    pub pinned: Option<Version>,
    pub stable: Option<Version>,
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
    let special: BTreeSet<&Version> = model.pinned.iter().chain(&model.stable).collect();
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
        let wanted = special.contains(version) || to_load.contains(version);
        match (view.phase, view.present) {
            (Phase::Available, false) => actions.push(Action::Unload(version.clone())),
            (Phase::Available, true) if !special.contains(version) && !to_keep.contains(version) => {
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

/// Which version answers the unversioned routes.
///
/// Once chosen it stays: a version that appears later does not take over (a promotion is a decision), unless `promote`
/// says so. When it is removed, the newest older one takes its place, never a newer one.
pub fn stable(model: &ModelView, promote: Promote) -> Option<Version> {
    let available = |version: &Version| model.versions.get(version).is_some_and(|view| view.phase == Phase::Available);
    let newest = || model.versions.iter().rev().find(|(_, view)| view.phase == Phase::Available).map(|(version, _)| version.clone());
    if let Some(pinned) = &model.pinned {
        return available(pinned).then(|| pinned.clone());
    }
    match &model.stable {
        _ if promote == Promote::Newest => newest(),
        Some(current) if available(current) => Some(current.clone()),
        Some(current) => {
            model.versions.range(..current).rev().find(|(_, view)| view.phase == Phase::Available).map(|(version, _)| version.clone())
        }
        // The first choice waits for every attempt, so that a slow load of the highest version is not passed over.
        None if model.versions.values().any(|view| view.phase == Phase::Loading) => None,
        None => newest(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{
        config::Promote,
        id::Version,
        registry::reconcile::{Action, Keep, ModelView, Phase, VersionView, plan, stable},
    };

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn view(versions: &[(&str, Phase)]) -> ModelView {
        let versions =
            versions.iter().map(|(text, phase)| (version(text), VersionView { present: true, changed: false, phase: *phase })).collect();
        ModelView { versions, pinned: None, stable: None }
    }

    #[test]
    fn start_loads_the_pinned_and_the_newest() {
        let mut model = view(&[("1.0.0", Phase::Idle), ("1.1.0", Phase::Idle), ("1.2.0", Phase::Idle), ("2.0.0", Phase::Idle)]);
        assert_eq!(plan(&model, &Keep::Newest(2)), [Action::Load(version("1.2.0")), Action::Load(version("2.0.0"))]);
        model.pinned = Some(version("1.0.0"));
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
    fn the_stable_version_is_kept_and_the_surplus_unloaded() {
        let mut model = view(&[("1.0.0", Phase::Available), ("1.1.0", Phase::Available), ("1.2.0", Phase::Available)]);
        model.stable = Some(version("1.0.0"));
        assert_eq!(plan(&model, &Keep::Newest(1)), [Action::Unload(version("1.1.0"))]);
        model.versions.get_mut(&version("1.2.0")).unwrap().present = false;
        assert_eq!(plan(&model, &Keep::Newest(1)), [Action::Unload(version("1.2.0"))]);
    }

    #[test]
    fn a_new_version_does_not_take_over_by_itself() {
        let mut model = view(&[("1.0.0", Phase::Available), ("1.1.0", Phase::Available)]);
        assert_eq!(stable(&model, Promote::Never), Some(version("1.1.0")));
        model.stable = Some(version("1.0.0"));
        assert_eq!(stable(&model, Promote::Never), Some(version("1.0.0")));
        assert_eq!(stable(&model, Promote::Newest), Some(version("1.1.0")));
        model.pinned = Some(version("9.0.0"));
        assert_eq!(stable(&model, Promote::Newest), None);
    }

    #[test]
    fn a_removed_stable_version_is_followed_by_an_older_one_only() {
        let mut model = view(&[("1.0.0", Phase::Available), ("2.0.0", Phase::Available)]);
        model.stable = Some(version("1.5.0"));
        assert_eq!(stable(&model, Promote::Never), Some(version("1.0.0")));
        model.stable = Some(version("0.5.0"));
        assert_eq!(stable(&model, Promote::Never), None);
    }

    #[test]
    fn the_first_choice_waits_for_loads() {
        let model = view(&[("1.0.0", Phase::Available), ("1.1.0", Phase::Loading)]);
        assert_eq!(stable(&model, Promote::Never), None);
    }

    proptest! {
        #[test]
        fn doing_the_plan_leaves_nothing_to_do(
            states in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..5), 0..6), keep in prop_oneof![(1usize..4).prop_map(Keep::Newest), Just(Keep::All), prop::collection::btree_set((0usize..6).prop_map(|index| version(&format!("1.{index}.0"))), 0..4).prop_map(Keep::Only)], pinned in prop::option::of(0usize..6), chosen in prop::option::of(0usize..6)
        ) {
            let phases = [Phase::Idle, Phase::Incomplete, Phase::Loading, Phase::Available, Phase::Refused];
            let name = |index: usize| version(&format!("1.{index}.0"));
            let versions = states.iter().enumerate().map(|(index, (present, changed, phase))| (name(index), VersionView { present: *present, changed: *changed, phase: phases[*phase] })).collect();
            let mut model = ModelView { versions, pinned: pinned.map(name), stable: chosen.map(name) };
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
