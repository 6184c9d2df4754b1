//! Compiles `proto/` with protox (no protoc needed) and generates messages and services.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let protos = [
        "proto/raft.proto",
        "proto/kv.proto",
        "proto/ctrler.proto",
        "proto/shardkv.proto",
        "proto/admin.proto",
    ];
    let descriptors = protox::compile(protos, ["proto"])?;
    let path = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&path, descriptors.encode_to_vec())?;
    tonic_build::configure()
        .bytes(["."])
        .file_descriptor_set_path(&path)
        .skip_protoc_run()
        .compile_protos(&protos, &["proto"])?;
    Ok(())
}
