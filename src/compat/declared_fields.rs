//! `DeclaredFields`: which fields a new schema keeps, adds, removes or renames.

use serde_json::Value;

use crate::schema::fault::token;

/// The JSON pointer and the schema of a declared field.
pub(super) type DeclaredField<'a> = (String, &'a Value);

/// The fields at every depth that two schemas declare.
#[derive(Default)]
pub(super) struct DeclaredFields<'a> {
    /// The fields that only the old schema declares.
    pub gone: Vec<DeclaredField<'a>>,
    /// The fields that only the new schema declares.
    pub new: Vec<DeclaredField<'a>>,
    /// The fields that both schemas declare, with both schemas of the field.
    pub kept: Vec<(String, &'a Value, &'a Value)>,
}

impl<'a> DeclaredFields<'a> {
    pub(super) fn new(old: &'a Value, new: &'a Value) -> DeclaredFields<'a> {
        let mut fields = DeclaredFields::default();
        fields.walk(old, new, "");
        fields
    }

    fn walk(&mut self, old: &'a Value, new: &'a Value, pointer: &str) {
        fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
            schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
        }
        fn find<'b>(schema: &'b Value, name: &str) -> Option<&'b Value> {
            schema.get("properties")?.get(name)
        }
        for (name, before) in properties(old) {
            let at = format!("{pointer}/{}", token(name));
            match find(new, name) {
                Some(after) => {
                    self.kept.push((at.clone(), before, after));
                    self.walk(before, after, &at);
                }
                None => self.gone.push((at, before)),
            }
        }
        for (name, after) in properties(new).filter(|(name, _)| find(old, name).is_none()) {
            self.new.push((format!("{pointer}/{}", token(name)), after));
        }
        // `*` is the pointer of every element of an array.
        if let (Some(before), Some(after)) = (old.get("items"), new.get("items")) {
            self.walk(before, after, &format!("{pointer}/*"));
        }
        let prefix = |schema: &'a Value| {
            schema
                .get("prefixItems")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        for (index, (before, after)) in prefix(old).zip(prefix(new)).enumerate() {
            self.walk(before, after, &format!("{pointer}/{index}"));
        }
    }

    /// Removes and returns the pairs that look like one renamed field, the most similar first.
    pub(super) fn take_renamed(&mut self) -> Vec<(DeclaredField<'a>, DeclaredField<'a>)> {
        let mut pairs = Vec::new();
        loop {
            let similarity = |(a, gone): &DeclaredField<'a>, (b, new): &DeclaredField<'a>| {
                similarity((a, gone), (b, new))
            };
            let all = self.gone.iter().enumerate().flat_map(|(i, gone)| {
                self.new
                    .iter()
                    .enumerate()
                    .map(move |(j, new)| (i, j, gone, new))
            });
            let scored = all.filter_map(|(i, j, gone, new)| Some((i, j, similarity(gone, new)?)));
            // The most similar pair is taken first, so that `age` is not paired with a name that
            // fits another field better.
            let Some((i, j, _)) = scored.max_by(|a, b| a.2.total_cmp(&b.2)) else {
                return pairs;
            };
            pairs.push((self.gone.remove(i), self.new.remove(j)));
        }
    }
}

/// Minimum similarity of the names of a renamed field. `monthly_charges` and `monthly_charge_usd`
/// have 0.72. Less similar names share a few letters by accident.
const MIN_SIMILARITY: f64 = 0.6;

/// How similar two names are, from 0 to 1. `None` means that this is not a renamed field: the
/// parents, types or units of the two differ, or their names have too little in common.
fn similarity((a, gone): (&str, &Value), (b, new): (&str, &Value)) -> Option<f64> {
    let (before, after) = (a.rsplit_once('/')?, b.rsplit_once('/')?);
    let kind = |schema: &Value| match schema.get("type") {
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter(|kind| *kind != "null")
            .cloned()
            .collect(),
        Some(kind) => vec![kind.clone()],
        None => Vec::new(),
    };
    if before.0 != after.0 || kind(gone) != kind(new) || gone.get("x-unit") != new.get("x-unit") {
        return None;
    }
    let score = strsim::normalized_damerau_levenshtein(before.1, after.1);
    // One name extends the other, like `age` and `age_years`. A name of fewer than 3 letters is
    // part of too many names.
    let extended = before.1.len().min(after.1.len()) >= 3
        && (before.1.contains(after.1) || after.1.contains(before.1));
    (score >= MIN_SIMILARITY || extended).then_some(score)
}
