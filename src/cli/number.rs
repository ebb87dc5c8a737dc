//! Numbers on the command line.

/// Why a text is not a number that an option takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NumberError {
    #[error("it must be a whole number of at least 1")]
    NotPositive,
    #[error("the number is too large")]
    TooLarge,
}

/// Parses a whole number of at least 1.
pub(super) fn positive<T: TryFrom<u64>>(text: &str) -> Result<T, NumberError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotPositive);
    }
    match text.parse::<u64>() {
        Ok(0) => Err(NumberError::NotPositive),
        Ok(number) => T::try_from(number).map_err(|_| NumberError::TooLarge),
        Err(_) => Err(NumberError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::number::{NumberError, positive};

    #[test]
    fn only_whole_numbers_from_1_are_accepted() {
        assert_eq!(positive::<usize>("17"), Ok(17));
        for text in ["0", "", "abc", "-1", "1.5", "+1", "000"] {
            assert_eq!(
                positive::<u64>(text),
                Err(NumberError::NotPositive),
                "{text}"
            );
        }
        for text in ["99999999999999999999999", "18446744073709551616"] {
            assert_eq!(positive::<u64>(text), Err(NumberError::TooLarge), "{text}");
        }
    }
}
