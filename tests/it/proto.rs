//! The gRPC code in the repository is generated from `proto/open_inference.proto`, so that builds
//! need no protobuf compiler.

use std::path::Path;

use crate::harness::root;

const GENERATED: &str = "src/api/grpc/generated";
const FILES: [&str; 2] = ["inference.rs", "inference.bin"];

/// The methods that `src/api/grpc/infer.rs` implements by hand.
const BY_HAND: [&str; 2] = ["ModelInfer", "ModelStreamInfer"];

/// Writes the code, and the descriptors for reflection.
fn generate(directory: &Path) {
    let proto = root().join("proto");
    let mut compiler = protox::Compiler::new([&proto]).unwrap();
    // The descriptors contain no source information: reflection does not need the comments of the
    // .proto file.
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
    // `Bytes` refers to the received buffer without a copy, and an empty `BTreeMap` allocates
    // nothing.
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
