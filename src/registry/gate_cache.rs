//! `GateCache`: results of the load gate on disk, so that a restart is fast. The hashes of a
//! package are checked at every load anyway.

use std::path::PathBuf;

use crate::{digest::Digest, registry::trial::TrialResult};

/// The version of the gate's checks. Increase it when the checks change, so that old results are
/// not used.
const GATE_VERSION: u32 = 3;

/// A directory with one file per result. The name of a file is the hash of everything that
/// determines the result.
pub(crate) struct GateCache {
    directory: Option<PathBuf>,
    environment: String,
}

impl GateCache {
    /// Creates the cache in `directory`, which is the state directory of `state.url`. Without a
    /// directory nothing is cached.
    pub(crate) fn new(directory: Option<PathBuf>, runtime_version: &str) -> GateCache {
        let environment = format!(
            "{} {GATE_VERSION} {runtime_version} {}",
            env!("CARGO_PKG_VERSION"),
            processor()
        );
        GateCache {
            directory: directory.map(|directory| directory.join("gates")),
            environment,
        }
    }

    /// Returns a cached result. `extra` contains everything that determines the result and is not
    /// part of the digest.
    pub(crate) fn get(
        &self,
        digest: &str,
        max_batch_size: usize,
        extra: &str,
    ) -> Option<TrialResult> {
        let text = fs_err::read(self.path(digest, max_batch_size, extra)?).ok()?;
        serde_json::from_slice(&text)
            .ok()
            // A damaged file must not give a version the result of a different one.
            .filter(|result: &TrialResult| result.digest == digest)
    }

    /// Stores a result. A failure only makes the next start slower.
    pub(crate) fn put(
        &self,
        result: &TrialResult,
        max_batch_size: usize,
        extra: &str,
    ) -> std::io::Result<()> {
        let (Some(path), Some(directory)) = (
            self.path(&result.digest, max_batch_size, extra),
            &self.directory,
        ) else {
            return Ok(());
        };
        fs_err::create_dir_all(directory)?;
        // Another replica may write the same result. The rename ensures that each file appears
        // complete.
        let temporary = path.with_extension(format!("{}.part", std::process::id()));
        fs_err::write(&temporary, serde_json::to_vec(result)?)?;
        fs_err::rename(&temporary, &path)
    }

    fn path(&self, digest: &str, max_batch_size: usize, extra: &str) -> Option<PathBuf> {
        let name = Digest::of(
            format!("{digest} {max_batch_size} {} {extra}", self.environment).as_bytes(),
        );
        Some(self.directory.as_ref()?.join(format!("{name}.json")))
    }
}

/// The properties of the processor that determine which kernels ONNX Runtime selects.
fn processor() -> String {
    let info = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key: &str| {
        info.lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default()
            .to_owned()
    };
    format!(
        "{} {} {}",
        std::env::consts::ARCH,
        line("model name"),
        line("flags")
    )
}

#[cfg(test)]
mod tests {
    use crate::registry::{gate::Batching, gate_cache::GateCache, trial::TrialResult};

    #[test]
    fn a_result_holds_for_its_environment_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = GateCache::new(Some(directory.path().to_path_buf()), "1.31.1");
        let result = TrialResult {
            batching: Batching::Rows,
            digest: "sha256:aa".to_owned(),
            opset: [("ai.onnx".to_owned(), 17)].into(),
            warm: true,
            without_rows: [].into(),
            warning: None,
        };
        assert_eq!(cache.get("sha256:aa", 64, ""), None);
        cache.put(&result, 64, "").unwrap();
        assert_eq!(cache.get("sha256:aa", 64, ""), Some(result));
        assert_eq!(cache.get("sha256:bb", 64, ""), None);
        assert_eq!(cache.get("sha256:aa", 32, ""), None);
        assert_eq!(cache.get("sha256:aa", 64, "another configuration"), None);
        assert_eq!(
            GateCache::new(Some(directory.path().to_path_buf()), "1.32.0").get("sha256:aa", 64, ""),
            None
        );
        assert_eq!(
            GateCache::new(None, "1.31.1").get("sha256:aa", 64, ""),
            None
        );
    }
}
