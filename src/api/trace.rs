//! `Trace`: the W3C trace context of a request (<https://www.w3.org/TR/trace-context/>).

/// The caller's trace, with a new span for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl Trace {
    /// Parses a `traceparent` of version 00, or of a later version that begins with the same four
    /// fields. The id of the new span is derived from `seed`.
    pub(super) fn parse(text: &str, seed: u64) -> Option<Trace> {
        let mut parts = text.split('-');
        let (version, trace_id, parent_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(version, 2)
            || version == "ff"
            || !is_hex(trace_id, 32)
            || !is_hex(parent_id, 16)
            || !is_hex(flags, 2)
        {
            return None;
        }
        // Version 00 has exactly four fields; later versions may append more.
        if version == "00" && parts.next().is_some() {
            return None;
        }
        // An id of zeros is invalid. In this case the trace is not continued.
        let trace_id = u128::from_str_radix(trace_id, 16)
            .ok()
            .filter(|id| *id != 0)?;
        let parent_id = u64::from_str_radix(parent_id, 16)
            .ok()
            .filter(|id| *id != 0)?;
        // The id is never 0, which would be invalid.
        let span_id = (seed ^ parent_id.rotate_left(32)).max(1);
        Some(Trace {
            trace_id,
            span_id,
            flags: u8::from_str_radix(flags, 16).ok()?,
        })
    }

    /// The `traceparent` of the response.
    pub(super) fn to_text(self) -> String {
        format!(
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }

    pub(super) fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The id of the trace as 32 hex digits.
    pub(super) fn trace_id_text(self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

#[cfg(test)]
mod tests {
    use crate::api::trace::Trace;

    #[test]
    fn traces_are_continued() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let continued = Trace::parse(parent, 7).unwrap().to_text();
        assert!(
            continued.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
                && continued.ends_with("-01")
        );
        assert_ne!(continued, parent);
        let bad = [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ];
        for bad in bad {
            assert_eq!(Trace::parse(bad, 1), None, "{bad}");
        }
    }
}
