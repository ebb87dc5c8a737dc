//! `Operators`: the operators in `admin.token_file`, and their tokens.

use std::path::Path;

use subtle::ConstantTimeEq;

use crate::{actor::Actor, digest::Digest};

/// Minimum number of characters of a token. A shorter token could be guessed.
const MIN_TOKEN_LENGTH: usize = 16;

#[derive(Default)]
pub(crate) struct Operators {
    /// The names of operators, and the digests of their tokens. All digests have the same length,
    /// so the duration of a comparison reveals nothing about the length of a token.
    operators: Vec<(String, Digest)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorsError {
    #[error("reading admin.token_file")]
    Read(#[source] std::io::Error),
    #[error("admin.token_file, line {line}")]
    Line {
        line: usize,
        #[source]
        fault: LineFault,
    },
    /// The file is empty, so nobody could make any decision.
    #[error("admin.token_file lists no operators")]
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineFault {
    #[error("must be NAME TOKEN")]
    Form,
    #[error("the token has fewer than {MIN_TOKEN_LENGTH} characters")]
    ShortToken,
    #[error("this name is reserved for the server")]
    ReservedName,
    #[error("the name occurs twice")]
    DuplicateName,
}

impl Operators {
    pub(crate) fn read(path: &Path) -> Result<Operators, OperatorsError> {
        Operators::parse(&fs_err::read_to_string(path).map_err(OperatorsError::Read)?)
    }

    /// Parses lines of `NAME TOKEN`. Empty lines and lines that start with # are skipped.
    pub(crate) fn parse(text: &str) -> Result<Operators, OperatorsError> {
        let mut parsed = Operators::default();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            parsed.add(line).map_err(|fault| OperatorsError::Line {
                line: index + 1,
                fault,
            })?;
        }
        if parsed.operators.is_empty() {
            Err(OperatorsError::Empty)
        } else {
            Ok(parsed)
        }
    }

    fn add(&mut self, line: &str) -> Result<(), LineFault> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
            return Err(LineFault::Form);
        };
        if token.len() < MIN_TOKEN_LENGTH {
            return Err(LineFault::ShortToken);
        }
        // A journal entry by this operator would look like an entry by the server.
        if Actor::is_reserved(name) {
            return Err(LineFault::ReservedName);
        }
        if self.operators.iter().any(|(other, _)| other == name) {
            return Err(LineFault::DuplicateName);
        }
        self.operators
            .push((name.to_owned(), Digest::of(token.as_bytes())));
        Ok(())
    }

    /// The name of the operator with this token. `None` if no operator has it. Every token is
    /// compared in full, so the duration of a refusal does not reveal how close a guess was.
    pub(crate) fn name_of(&self, token: &str) -> Option<&str> {
        let given = Digest::of(token.as_bytes());
        let mut found = None;
        // There is no early return: the duration must not depend on the token.
        for (name, digest) in &self.operators {
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
