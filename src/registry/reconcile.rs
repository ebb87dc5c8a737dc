//! Compares the versions on disk with the loaded ones, and plans loads and unloads. All functions
//! are pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::id::Version;

/// The parts of a version's state that the plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VersionView {
    /// Whether the directory of the version exists.
    pub present: bool,
    /// Whether the files of the version changed since it reached its phase.
    pub changed: bool,
    pub phase: LoadPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadPhase {
    /// The version was never loaded, or was unloaded.
    Idle,
    /// Files of the version are missing.
    Incomplete,
    Loading,
    Available,
    Refused,
}

/// Which versions of a model stay loaded, in addition to the needed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RetentionPolicy {
    Newest(usize),
    All,
    Only(BTreeSet<Version>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct ModelView {
    pub versions: BTreeMap<Version, VersionView>,
    /// The stable version, the previous one and candidates. They are loaded regardless of the
    /// policy.
    pub needed: BTreeSet<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LoadAction {
    Load(Version),
    Unload(Version),
    /// The directory of a loaded version changed: compare its files with the loaded package.
    Compare(Version),
    /// The version is neither on disk nor loaded: remove it from the tracked versions.
    Forget(Version),
}

/// The next actions for a model. After they are done, the same call returns no action.
pub(super) fn plan(model: &ModelView, policy: &RetentionPolicy) -> Vec<LoadAction> {
    // An older version is loaded in place of a refused version until the files of the refused one
    // change. An incomplete version also makes room for an older one.
    let loadable = select(model, policy, &|view| {
        (view.phase != LoadPhase::Refused || view.changed) && view.phase != LoadPhase::Incomplete
    });
    // An older version stays loaded until a newer one is available.
    let to_keep = select(model, policy, &|view| view.phase == LoadPhase::Available);
    let mut actions = Vec::new();
    for (version, view) in &model.versions {
        let needed = model.needed.contains(version);
        let wanted = needed
            || loadable.contains(version)
            || may_become_loadable(policy, &loadable, version, view);
        let action = match (view.phase, view.present) {
            // A needed version stays loaded even if its files are gone.
            (LoadPhase::Available, false) if !needed => LoadAction::Unload,
            (LoadPhase::Available, true) if !needed && !to_keep.contains(version) => {
                LoadAction::Unload
            }
            // Only versions that stay are compared, because hashing takes time.
            (LoadPhase::Available, true) if view.changed => LoadAction::Compare,
            (LoadPhase::Idle | LoadPhase::Incomplete | LoadPhase::Refused, false) => {
                LoadAction::Forget
            }
            (LoadPhase::Idle | LoadPhase::Incomplete, true) if wanted => LoadAction::Load,
            (LoadPhase::Refused, true) if view.changed && wanted => LoadAction::Load,
            // A running load is not interrupted, and an available version needs no action.
            _ => continue,
        };
        actions.push(action(version.clone()));
    }
    actions
}

/// The versions on disk that `counts` accepts and the policy keeps.
fn select<'a>(
    model: &'a ModelView,
    policy: &RetentionPolicy,
    counts: &dyn Fn(&VersionView) -> bool,
) -> BTreeSet<&'a Version> {
    // A `BTreeMap` is sorted by version.
    let newest_first = model
        .versions
        .iter()
        .rev()
        .filter(|(_, view)| view.present && counts(view))
        .map(|(version, _)| version);
    match policy {
        RetentionPolicy::Newest(count) => newest_first.take(*count).collect(),
        RetentionPolicy::All => newest_first.collect(),
        RetentionPolicy::Only(versions) => newest_first
            .filter(|version| versions.contains(version))
            .collect(),
    }
}

/// Whether an incomplete version would be kept once its files are complete. If so, its load is
/// tried again, although an older version is loaded until then.
fn may_become_loadable(
    policy: &RetentionPolicy,
    loadable: &BTreeSet<&Version>,
    version: &Version,
    view: &VersionView,
) -> bool {
    if view.phase != LoadPhase::Incomplete {
        return false;
    }
    match policy {
        RetentionPolicy::Newest(0) => false,
        // It would be kept if the policy allows more versions, or if it is newer than the oldest
        // kept version.
        RetentionPolicy::Newest(count) => {
            loadable.len() < *count || loadable.first().is_none_or(|lowest| version > *lowest)
        }
        RetentionPolicy::All => true,
        RetentionPolicy::Only(versions) => versions.contains(version),
    }
}

/// The progress of a copy: the last state of the files, and the time when this state was first
/// observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CopyProgress {
    fingerprint: u64,
    since: Instant,
}

impl CopyProgress {
    /// The progress after the files were observed again.
    #[must_use]
    pub(super) fn observe(
        before: Option<CopyProgress>,
        fingerprint: u64,
        now: Instant,
    ) -> CopyProgress {
        before
            .filter(|before| before.fingerprint == fingerprint)
            .unwrap_or(CopyProgress {
                fingerprint,
                since: now,
            })
    }

    /// Whether the files have not changed for this duration.
    pub(super) fn is_unchanged_for(&self, time: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= time
    }

    /// Whether the files had this fingerprint for this duration.
    pub(super) fn is_same_for(&self, fingerprint: u64, time: Duration, now: Instant) -> bool {
        self.fingerprint == fingerprint && self.is_unchanged_for(time, now)
    }
}

/// The stable version of a model without decisions: the pinned version, or the highest available
/// version.
pub(super) fn first_choice(model: &ModelView, pinned: Option<&Version>) -> Option<Version> {
    let available = |view: &VersionView| view.phase == LoadPhase::Available;
    if let Some(pinned) = pinned {
        return model
            .versions
            .get(pinned)
            .filter(|view| available(view))
            .map(|_| pinned.clone());
    }
    // The choice waits for all loads, because the highest version may load most slowly.
    let mut views = model.versions.values();
    if views.any(|view| view.phase == LoadPhase::Loading) {
        return None;
    }
    model
        .versions
        .iter()
        .rev()
        .find(|(_, view)| available(view))
        .map(|(version, _)| version.clone())
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
    fn the_pinned_and_the_newest_versions_are_loaded_at_the_start() {
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
        // The version is older than the kept versions: it would not be loaded if it were complete.
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
        let first = CopyProgress::observe(None, 1, start);
        assert!(!first.is_unchanged_for(limit, later(59)));
        let grown = CopyProgress::observe(Some(first), 2, later(59));
        assert!(!grown.is_unchanged_for(limit, later(100)));
        let same = CopyProgress::observe(Some(grown), 2, later(100));
        assert!(
            !same.is_unchanged_for(limit, later(118)) && same.is_unchanged_for(limit, later(119))
        );
    }

    #[test]
    fn needed_versions_stay_loaded_and_others_are_unloaded() {
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

    fn any_policy() -> impl Strategy<Value = RetentionPolicy> {
        let versions = (0usize..6).prop_map(|index| version(&format!("1.{index}.0")));
        prop_oneof![
            (1usize..4).prop_map(RetentionPolicy::Newest),
            Just(RetentionPolicy::All),
            prop::collection::btree_set(versions, 0..4).prop_map(RetentionPolicy::Only)
        ]
    }

    proptest! {
        #[test]
        fn doing_the_plan_leaves_nothing_to_do(
            states in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..5), 0..6),
            keep in any_policy(),
            needed in prop::collection::btree_set(0usize..6, 0..3)
        ) {
            let phases = [
                LoadPhase::Idle,
                LoadPhase::Incomplete,
                LoadPhase::Loading,
                LoadPhase::Available,
                LoadPhase::Refused,
            ];
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
