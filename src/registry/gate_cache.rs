//! Remembered verdicts of the gate, so that a restart is fast. Hashes are checked every time all the same.

use std::path::PathBuf;

use crate::{digest::Digest, registry::trial::TrialResult};

/// Which checks a verdict passed: a gate that asks more has its own number.
const GATE: u32 = 3;

/// A directory of verdicts, one file each, named after everything that a verdict depends on.
pub struct GateCache {
    directory: Option<PathBuf>,
    circumstances: String,
}

impl GateCache {
    /// `directory` is `state.url`'s; `None` remembers nothing.
    pub fn new(directory: Option<PathBuf>, runtime_version: &str) -> GateCache {
        let circumstances = format!(
            "{} {GATE} {runtime_version} {}",
            env!("CARGO_PKG_VERSION"),
            processor()
        );
        GateCache {
            directory: directory.map(|directory| directory.join("gates")),
            circumstances,
        }
    }

    /// `beside` is what the verdict depends on and the digest does not cover.
    pub fn get(&self, digest: &str, max_batch_size: usize, beside: &str) -> Option<TrialResult> {
        let text = fs_err::read(self.path(digest, max_batch_size, beside)?).ok()?;
        serde_json::from_slice(&text)
            .ok()
            .filter(|verdict: &TrialResult| verdict.digest == digest)
    }

    /// Keeps a verdict; where that fails the next start is only slower.
    pub fn put(
        &self,
        verdict: &TrialResult,
        max_batch_size: usize,
        beside: &str,
    ) -> std::io::Result<()> {
        let (Some(path), Some(directory)) = (
            self.path(&verdict.digest, max_batch_size, beside),
            &self.directory,
        ) else {
            return Ok(());
        };
        fs_err::create_dir_all(directory)?;
        let temporary = path.with_extension(format!("{}.part", std::process::id()));
        fs_err::write(&temporary, serde_json::to_vec(verdict)?)?;
        fs_err::rename(&temporary, &path)
    }

    fn path(&self, digest: &str, max_batch_size: usize, beside: &str) -> Option<PathBuf> {
        let name = Digest::of(
            format!("{digest} {max_batch_size} {} {beside}", self.circumstances).as_bytes(),
        );
        Some(self.directory.as_ref()?.join(format!("{name}.json")))
    }
}

/// What the library chooses its kernels by.
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
    fn a_verdict_holds_for_its_circumstances_only() {
        let directory = tempfile::tempdir().unwrap();
        let remembered = GateCache::new(Some(directory.path().to_path_buf()), "1.31.1");
        let verdict = TrialResult {
            batching: Batching::Rows,
            digest: "sha256:aa".to_owned(),
            opset: [("ai.onnx".to_owned(), 17)].into(),
            warm: true,
            without_rows: [].into(),
            warning: None,
        };
        assert_eq!(remembered.get("sha256:aa", 64, ""), None);
        remembered.put(&verdict, 64, "").unwrap();
        assert_eq!(remembered.get("sha256:aa", 64, ""), Some(verdict));
        assert_eq!(remembered.get("sha256:bb", 64, ""), None);
        assert_eq!(remembered.get("sha256:aa", 32, ""), None);
        assert_eq!(
            remembered.get("sha256:aa", 64, "another configuration"),
            None
        );
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
