//! Replays the fuzzer's corpus: inputs of former findings, and valid requests.

use crate::harness::root;

#[path = "../fuzz/targets.rs"]
mod targets;

#[test]
fn the_corpus_of_the_fuzzer_passes() {
    for (name, target) in targets::TARGETS {
        let directory = root().join("tests/fuzz/corpus").join(name);
        let mut count = 0;
        for entry in fs_err::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            target(&fs_err::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{} holds {count} inputs", directory.display());
    }
}
