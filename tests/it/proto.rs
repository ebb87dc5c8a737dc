//! The gRPC code that is checked in is what `proto/open_inference.proto` gives: no build needs a compiler of its own.

use std::path::Path;

use crate::harness::root;

const GENERATED: &str = "src/api/grpc/generated";
const FILES: [&str; 2] = ["inference.rs", "inference.bin"];

/// The calls that src/api/grpc/infer.rs takes apart itself.
const BY_HAND: [&str; 2] = ["ModelInfer", "ModelStreamInfer"];

/// Writes the code and the descriptors that reflection answers with.
fn generate(directory: &Path) {
    let proto = root().join("proto");
    let mut compiler = protox::Compiler::new([&proto]).unwrap();
    // No source information: comments are the .proto file's own, and reflection has no use for them.
    compiler
        .include_imports(true)
        .include_source_info(false)
        .open_file("open_inference.proto")
        .unwrap();
    fs_err::write(
        directory.join("inference.bin"),
        compiler.encode_file_descriptor_set(),
    )
    .unwrap();
    let mut described = compiler.file_descriptor_set();
    for service in described.file.iter_mut().flat_map(|file| &mut file.service) {
        service
            .method
            .retain(|method| !BY_HAND.contains(&method.name()));
    }
    let builder = tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .emit_rerun_if_changed(false);
    // Tensors stay where they arrived, and a map without entries costs nothing.
    builder
        .bytes(".")
        .btree_map(".")
        .out_dir(directory)
        .compile_fds(described)
        .unwrap();
}

#[test]
fn generated_code_is_up_to_date() {
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    for file in FILES {
        let (new, checked_in) = (fresh.path().join(file), root().join(GENERATED).join(file));
        let text = fs_err::read(&new).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            fs_err::write(&checked_in, text).unwrap();
            continue;
        }
        let is_same = fs_err::read(&checked_in).is_ok_and(|known| known == text);
        assert!(
            is_same,
            "{GENERATED}/{file} is not what proto/ gives now: run `UPDATE=1 cargo test --test it proto::`, and commit it"
        );
    }
}
