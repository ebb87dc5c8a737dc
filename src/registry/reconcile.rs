//! Reconcile: from what lies in the directory and what is loaded to what must be done. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::id::Version;

/// What is known of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionView {
    /// Its directory is there.
    pub present: bool,
    /// Its directory looks otherwise than when its phase was reached.
    pub changed: bool,
    pub phase: LoadPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPhase {
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
pub enum RetentionPolicy {
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
pub enum LoadAction {
    Load(Version),
    Unload(Version),
    /// The directory of a loaded version changed: is it still the same package?
    Compare(Version),
    /// Nothing of this version is left.
    Forget(Version),
}

/// What to do now, for a model of which `keep` is wanted. Doing it and asking again gives nothing to do.
pub fn plan(model: &ModelView, keep: &RetentionPolicy) -> Vec<LoadAction> {
    let newest = |wanted: &dyn Fn(&VersionView) -> bool| -> BTreeSet<&Version> {
        let wanted = model
            .versions
            .iter()
            .rev()
            .filter(|(_, view)| view.present && wanted(view))
            .map(|(version, _)| version);
        match keep {
            RetentionPolicy::Newest(count) => wanted.take(*count).collect(),
            RetentionPolicy::All => wanted.collect(),
            RetentionPolicy::Only(versions) => wanted
                .filter(|version| versions.contains(version))
                .collect(),
        }
    };
    // A refused version makes room for an older one, until its files change; so does a copy that is not complete yet.
    let counts = |view: &VersionView| {
        (view.phase != LoadPhase::Refused || view.changed) && view.phase != LoadPhase::Incomplete
    };
    let complete = newest(&counts);
    // All the same it is looked at again, where it would be among the newest.
    let lowest = complete
        .first()
        .copied()
        .filter(|_| matches!(keep, RetentionPolicy::Newest(count) if complete.len() >= *count));
    let is_copied = |version: &Version, view: &VersionView| {
        let kept = match keep {
            RetentionPolicy::Newest(0) => false,
            RetentionPolicy::Newest(_) | RetentionPolicy::All => {
                lowest.is_none_or(|lowest| version > lowest)
            }
            RetentionPolicy::Only(versions) => versions.contains(version),
        };
        view.phase == LoadPhase::Incomplete && kept
    };
    // An older version stays until a newer one is there.
    let to_keep = newest(&|view| view.phase == LoadPhase::Available);
    let mut actions = Vec::new();
    for (version, view) in &model.versions {
        let wanted = model.needed.contains(version)
            || complete.contains(version)
            || is_copied(version, view);
        match (view.phase, view.present) {
            // What is loaded and needed goes on, though its files are gone.
            (LoadPhase::Available, false) if !model.needed.contains(version) => {
                actions.push(LoadAction::Unload(version.clone()))
            }
            (LoadPhase::Available, true)
                if !model.needed.contains(version) && !to_keep.contains(version) =>
            {
                actions.push(LoadAction::Unload(version.clone()));
            }
            (LoadPhase::Available, true) if view.changed => {
                actions.push(LoadAction::Compare(version.clone()))
            }
            (LoadPhase::Idle | LoadPhase::Incomplete | LoadPhase::Refused, false) => {
                actions.push(LoadAction::Forget(version.clone()))
            }
            (LoadPhase::Idle | LoadPhase::Incomplete, true) if wanted => {
                actions.push(LoadAction::Load(version.clone()))
            }
            (LoadPhase::Refused, true) if view.changed && wanted => {
                actions.push(LoadAction::Load(version.clone()))
            }
            _ => {}
        }
    }
    actions
}

/// A copy under way: how it looked when it last changed, and when that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    fingerprint: u64,
    since: Instant,
}

impl CopyProgress {
    /// What is known of it after it was looked at `now`.
    #[must_use]
    pub fn seen(before: Option<CopyProgress>, fingerprint: u64, now: Instant) -> CopyProgress {
        before
            .filter(|before| before.fingerprint == fingerprint)
            .unwrap_or(CopyProgress {
                fingerprint,
                since: now,
            })
    }

    /// It has not grown for `limit`: whoever copied it has given up.
    pub fn has_stalled(&self, limit: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= limit
    }
}

/// The version that a model without any decision starts with: the pinned one, else the highest that passed.
pub fn first_choice(model: &ModelView, pinned: Option<&Version>) -> Option<Version> {
    let available = |view: &VersionView| view.phase == LoadPhase::Available;
    match pinned {
        Some(pinned) => model
            .versions
            .get(pinned)
            .filter(|view| available(view))
            .map(|_| pinned.clone()),
        // It waits for every attempt, so that a slow load of the highest version is not passed over.
        None if model
            .versions
            .values()
            .any(|view| view.phase == LoadPhase::Loading) =>
        {
            None
        }
        None => model
            .versions
            .iter()
            .rev()
            .find(|(_, view)| available(view))
            .map(|(version, _)| version.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use crate::{
        id::Version,
        registry::reconcile::{
            CopyProgress, LoadAction, LoadPhase, ModelView, RetentionPolicy, VersionView,
            first_choice, plan,
        },
    };

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn view(versions: &[(&str, LoadPhase)]) -> ModelView {
        let versions = versions
            .iter()
            .map(|(text, phase)| {
                (
                    version(text),
                    VersionView {
                        present: true,
                        changed: false,
                        phase: *phase,
                    },
                )
            })
            .collect();
        ModelView {
            versions,
            ..ModelView::default()
        }
    }

    #[test]
    fn start_loads_the_pinned_and_the_newest() {
        let mut model = view(&[
            ("1.0.0", LoadPhase::Idle),
            ("1.1.0", LoadPhase::Idle),
            ("1.2.0", LoadPhase::Idle),
            ("2.0.0", LoadPhase::Idle),
        ]);
        assert_eq!(
            plan(&model, &RetentionPolicy::Newest(2)),
            [
                LoadAction::Load(version("1.2.0")),
                LoadAction::Load(version("2.0.0"))
            ]
        );
        model.needed = [version("1.0.0")].into();
        assert_eq!(
            plan(&model, &RetentionPolicy::Newest(1)),
            [
                LoadAction::Load(version("1.0.0")),
                LoadAction::Load(version("2.0.0"))
            ]
        );
    }

    #[test]
    fn a_refused_version_makes_room_and_is_tried_again_when_it_changes() {
        let mut model = view(&[("1.0.0", LoadPhase::Idle), ("2.0.0", LoadPhase::Refused)]);
        assert_eq!(
            plan(&model, &RetentionPolicy::Newest(1)),
            [LoadAction::Load(version("1.0.0"))]
        );
        model.versions.get_mut(&version("2.0.0")).unwrap().changed = true;
        assert_eq!(
            plan(&model, &RetentionPolicy::Newest(1)),
            [LoadAction::Load(version("2.0.0"))]
        );
    }

    #[test]
    fn incomplete_versions_make_room_and_are_looked_at_again() {
        let half = LoadPhase::Incomplete;
        let names = ["1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0"];
        let with =
            |phases: [LoadPhase; 5]| view(&names.into_iter().zip(phases).collect::<Vec<_>>());
        let loads = |phases: [LoadPhase; 5]| {
            let actions = plan(&with(phases), &RetentionPolicy::Newest(2));
            actions
                .into_iter()
                .map(|action| {
                    if let LoadAction::Load(version) = action {
                        version.to_string()
                    } else {
                        format!("{action:?}")
                    }
                })
                .collect::<Vec<_>>()
        };
        let idle = LoadPhase::Idle;
        assert_eq!(loads([idle, idle, idle, idle, idle]), ["4.0.0", "5.0.0"]);
        assert_eq!(
            loads([idle, idle, idle, half, half]),
            ["2.0.0", "3.0.0", "4.0.0", "5.0.0"]
        );
        assert_eq!(
            loads([idle, idle, half, half, half]),
            names,
            "three half-copied ones hide no good one"
        );
        let up = LoadPhase::Available;
        assert_eq!(
            loads([up, up, half, half, half]),
            ["3.0.0", "4.0.0", "5.0.0"]
        );
        // Older than what is kept: it would not be loaded if it were complete.
        assert_eq!(
            loads([half, idle, up, up, LoadPhase::Refused]),
            [] as [&str; 0]
        );
        assert_eq!(plan(&with([half; 5]), &RetentionPolicy::Newest(0)), []);
    }

    #[test]
    fn a_copy_that_does_not_grow_is_given_up() {
        let (start, limit) = (Instant::now(), Duration::from_secs(60));
        let later = |seconds| start + Duration::from_secs(seconds);
        let first = CopyProgress::seen(None, 1, start);
        assert!(!first.has_stalled(limit, later(59)));
        let grown = CopyProgress::seen(Some(first), 2, later(59));
        assert!(!grown.has_stalled(limit, later(100)));
        let same = CopyProgress::seen(Some(grown), 2, later(100));
        assert!(!same.has_stalled(limit, later(118)) && same.has_stalled(limit, later(119)));
    }

    #[test]
    fn what_is_needed_is_kept_and_the_surplus_unloaded() {
        let mut model = view(&[
            ("1.0.0", LoadPhase::Available),
            ("1.1.0", LoadPhase::Available),
            ("1.2.0", LoadPhase::Available),
        ]);
        model.needed = [version("1.0.0")].into();
        assert_eq!(
            plan(&model, &RetentionPolicy::Newest(1)),
            [LoadAction::Unload(version("1.1.0"))]
        );
        for gone in ["1.0.0", "1.2.0"] {
            model.versions.get_mut(&version(gone)).unwrap().present = false;
        }
        assert_eq!(
            plan(&model, &RetentionPolicy::Newest(1)),
            [LoadAction::Unload(version("1.2.0"))]
        );
    }

    #[test]
    fn the_first_choice_waits_for_loads() {
        let mut model = view(&[
            ("1.0.0", LoadPhase::Available),
            ("1.1.0", LoadPhase::Loading),
        ]);
        assert_eq!(first_choice(&model, None), None);
        assert_eq!(
            first_choice(&model, Some(&version("1.0.0"))),
            Some(version("1.0.0"))
        );
        assert_eq!(first_choice(&model, Some(&version("9.0.0"))), None);
        model.versions.get_mut(&version("1.1.0")).unwrap().phase = LoadPhase::Available;
        assert_eq!(first_choice(&model, None), Some(version("1.1.0")));
    }

    proptest! {
        #[test]
        fn doing_the_plan_leaves_nothing_to_do(
            states in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..5), 0..6), keep in prop_oneof![(1usize..4).prop_map(RetentionPolicy::Newest), Just(RetentionPolicy::All), prop::collection::btree_set((0usize..6).prop_map(|index| version(&format!("1.{index}.0"))), 0..4).prop_map(RetentionPolicy::Only)], needed in prop::collection::btree_set(0usize..6, 0..3)
        ) {
            let phases = [LoadPhase::Idle, LoadPhase::Incomplete, LoadPhase::Loading, LoadPhase::Available, LoadPhase::Refused];
            let name = |index: usize| version(&format!("1.{index}.0"));
            let versions = states.iter().enumerate().map(|(index, (present, changed, phase))| (name(index), VersionView { present: *present, changed: *changed, phase: phases[*phase] })).collect();
            let mut model = ModelView { versions, needed: needed.into_iter().map(name).collect() };
            for _ in 0..3 {
                for action in plan(&model, &keep) {
                    match action {
                        LoadAction::Load(version) => { let view = model.versions.get_mut(&version).unwrap(); view.phase = LoadPhase::Available; view.changed = false; }
                        LoadAction::Compare(version) => model.versions.get_mut(&version).unwrap().changed = false,
                        LoadAction::Unload(version) => model.versions.get_mut(&version).unwrap().phase = LoadPhase::Idle,
                        LoadAction::Forget(version) => { model.versions.remove(&version); }
                    }
                }
            }
            prop_assert_eq!(plan(&model, &keep), []);
        }
    }
}
