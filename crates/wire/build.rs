//! Compiles the .proto files without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/records.proto"], ["proto"])?;
    let mut config = prost_build::Config::new();
    config.compile_fds(files)?;
    Ok(())
}
