//! If no gap between two schemas is found, the wider one accepts every document that the narrower
//! one accepts. Pairs are made by changes of a schema, so that many are contained. Documents have
//! values at the edges of both schemas.
//!
//! `PREDICTD_SEED=N` repeats a run, `PREDICTD_CASES=N` sets the number of pairs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic: that is how it fails"
)]

mod documents;
#[path = "../support/random.rs"]
mod random;
mod schemas;
mod special_pairs;

use predictd::{
    compat::containment::{GapKind, contains},
    decode::{DecodeLimits, decode_instance},
    schema::Schema,
};

use documents::document;
use random::{Random, seed_and_cases};
use schemas::{change, object};

const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: usize::MAX,
    max_depth: 64,
    max_array_values: usize::MAX,
};
const DOCUMENTS_PER_PAIR: usize = 60;

#[test]
fn if_no_gap_is_found_the_wider_schema_accepts_every_document_of_the_narrower() {
    let (seed, wanted) = seed_and_cases(3_000);
    println!("seed {seed}");
    let mut random = Random(seed);
    let (mut pairs, mut contained, mut proofs, mut broken, mut shown) = (0, 0, 0, 0, 0);
    while pairs < wanted {
        let narrower_document = object(&mut random, 3);
        let mut wider_document = narrower_document.clone();
        for _ in 0..=random.below(3) {
            change(&mut random, &mut wider_document, 2);
        }
        let (Ok(narrower), Ok(wider)) = (
            Schema::compile(&narrower_document),
            Schema::compile(&wider_document),
        ) else {
            continue;
        };
        if wider_document == narrower_document {
            continue;
        }
        pairs += 1;
        // In both directions, because a change that accepts more in one direction accepts less in
        // the other.
        for (wide, narrow, wide_document, narrow_document) in [
            (&wider, &narrower, &wider_document, &narrower_document),
            (&narrower, &wider, &narrower_document, &wider_document),
        ] {
            let gaps = contains(wide, narrow);
            contained += usize::from(gaps.is_empty());
            let is_broken = gaps.iter().any(|gap| gap.kind == GapKind::Broken);
            broken += usize::from(is_broken);
            let mut found = false;
            for _ in 0..DOCUMENTS_PER_PAIR {
                let text = document(&mut random, narrow_document, wide_document);
                if decode_instance(narrow, text.as_bytes(), &LIMITS).is_err() {
                    continue;
                }
                let outcome = decode_instance(wide, text.as_bytes(), &LIMITS);
                proofs += usize::from(gaps.is_empty());
                found |= outcome.is_err();
                assert!(
                    outcome.is_ok() || !gaps.is_empty(),
                    "seed {seed}, pair {pairs}\nwider {wide_document}\nnarrower {narrow_document}\ndocument {text}\n{outcome:?}"
                );
            }
            shown += usize::from(found && is_broken);
        }
    }
    println!(
        "{pairs} pairs in both directions, {contained} contained, checked by {proofs} documents; {broken} broken, {shown} of them shown by a document"
    );
    assert!(
        contained * 5 > pairs * 2 && proofs > pairs * 4,
        "the generator makes too few contained pairs: {contained} of {pairs}, {proofs} documents"
    );
    assert!(
        shown * 4 > broken,
        "too few broken pairs are shown by a document: {shown} of {broken}"
    );
}
