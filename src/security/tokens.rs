//! Tokens: the operators that `admin.token_file` names, and who a token belongs to.

use std::path::Path;

use subtle::ConstantTimeEq;

use crate::{actor::Actor, digest::Digest};

/// A shorter token could be guessed.
const MIN_TOKEN: usize = 16;

/// The lines of `admin.token_file`.
#[derive(Default)]
pub struct Operators {
    /// Name, and digest of the token: so that comparing takes the same time whatever was sent.
    known: Vec<(String, Digest)>,
}

#[derive(Debug, thiserror::Error)]
pub enum OperatorsError {
    #[error("reading admin.token_file")]
    Read(#[source] std::io::Error),
    #[error("admin.token_file, line {line}: {detail}")]
    Line { line: usize, detail: &'static str },
    #[error("admin.token_file names nobody")]
    Empty,
}

impl Operators {
    pub fn read(path: &Path) -> Result<Operators, OperatorsError> {
        Operators::parse(&fs_err::read_to_string(path).map_err(OperatorsError::Read)?)
    }

    /// Lines of `NAME TOKEN`; empty ones and those that begin with # are passed over.
    pub(crate) fn parse(text: &str) -> Result<Operators, OperatorsError> {
        let mut known: Vec<(String, Digest)> = Vec::new();
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        {
            let wrong = |detail| OperatorsError::Line {
                line: index + 1,
                detail,
            };
            let mut words = line.split_whitespace();
            let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
                return Err(wrong("must be NAME TOKEN"));
            };
            if token.len() < MIN_TOKEN {
                return Err(wrong("the token has less than 16 characters"));
            }
            if Actor::is_reserved(name) {
                return Err(wrong("this name is the server's own"));
            }
            if known.iter().any(|(other, _)| other == name) {
                return Err(wrong("the name occurs twice"));
            }
            known.push((name.to_owned(), Digest::of(token.as_bytes())));
        }
        if known.is_empty() {
            Err(OperatorsError::Empty)
        } else {
            Ok(Operators { known })
        }
    }

    /// Whose token it is. Every token is compared, and compared whole.
    pub(crate) fn who(&self, token: &str) -> Option<&str> {
        let given = Digest::of(token.as_bytes());
        let mut found = None;
        for (name, digest) in &self.known {
            if bool::from(digest.as_bytes().ct_eq(given.as_bytes())) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::security::tokens::Operators;

    #[test]
    fn a_token_file_that_protects_nothing_is_refused() {
        for bad in [
            "",
            "# nobody\n",
            "ann\n",
            "ann short\n",
            "ann 0123456789abcdef x\n",
            "ann 0123456789abcdef\nann 0123456789abcdeg\n",
        ] {
            assert!(Operators::parse(bad).is_err(), "{bad:?}");
        }
    }
}
