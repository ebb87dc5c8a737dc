//! `Digest`: the SHA-256 of a file, or of a whole package.

use std::{fmt, io::Read, path::Path};

use sha2::{Digest as _, Sha256};

/// A SHA-256 value. As a string it is 64 hex digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Hashes a file without reading it into memory as a whole. Also returns its length in bytes.
    pub fn of_file(path: &Path) -> std::io::Result<(Digest, u64)> {
        Digest::of_reader(fs_err::File::open(path)?)
    }

    /// Hashes all bytes of a reader. Also returns the number of bytes.
    pub fn of_reader(mut reader: impl Read) -> std::io::Result<(Digest, u64)> {
        let mut hasher = Sha256::new();
        // 256 KiB is large enough to make the cost of system calls small compared with the cost of
        // hashing.
        let mut buffer = vec![0; 256 << 10];
        let mut length = 0;
        loop {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                return Ok((Digest(hasher.finalize().into()), length));
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            length += count as u64;
        }
    }

    /// The digest of a package: the hash of the lines that `sha256sum` prints for its files, sorted
    /// by path. Anybody can compute it with standard tools.
    pub fn of_listing<'a>(files: impl Iterator<Item = (&'a str, Digest)>) -> Digest {
        let mut files: Vec<(&str, Digest)> = files.collect();
        // Sort by bytes, like `LC_ALL=C sort`, so that the digest does not depend on the locale.
        files.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        let mut hasher = Sha256::new();
        for (path, digest) in files {
            hasher.update(format!("{digest}  {path}\n"));
        }
        Digest(hasher.finalize().into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 hex digits in lower case. Upper case is refused, so that each digest has only one
    /// string.
    pub fn parse(text: &str) -> Option<Digest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::digest::Digest;

    #[test]
    fn known_values() {
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(Digest::parse(&"A".repeat(64)).is_none());
        assert!(Digest::parse("ab").is_none());
    }

    proptest! {
        #[test]
        fn printed_digests_are_parsed(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let digest = Digest::of(&bytes);
            prop_assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        }
    }
}
