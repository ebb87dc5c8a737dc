//! Negotiation: selects the media type of a response by the `Accept` header (RFC 9110, 12.5.1).

use http::{HeaderMap, header};

use crate::{api::refusal::Refusal, error::ErrorCode};

/// One range of `Accept`, like `text/*;q=0.5`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: f32,
}

impl<'a> Range<'a> {
    /// Parses a media range. `None` if it is invalid. Parameters other than the weight are ignored.
    fn read(item: &'a str) -> Option<Range<'a>> {
        let mut parts = item.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(Some(1.0), |text| {
            // NaN is not a valid weight. The comparison with the range is false for NaN.
            text.parse()
                .ok()
                .filter(|weight| (0.0..=1.0).contains(weight))
        })?;
        Some(Range {
            kind,
            subtype,
            weight,
        })
    }

    /// How precisely the range matches the media type, from 0 for `*/*` to 2 for the type itself.
    /// `None` if it does not match.
    fn precision(&self, media_type: &str) -> Option<u8> {
        let (kind, subtype) = media_type.split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, name) if own.eq_ignore_ascii_case(kind) && name.eq_ignore_ascii_case(subtype) => {
                Some(2)
            }
            _ => None,
        }
    }
}

/// Selects the media type of `offered` with the largest weight. If weights are equal, the one whose
/// range comes first in `Accept`. Without `Accept`, the first one of `offered`.
pub(super) fn choose(
    headers: &HeaderMap,
    offered: &[&'static str],
) -> Result<&'static str, Refusal> {
    let values = headers.get_all(header::ACCEPT);
    let ranges: Vec<Range<'_>> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(Range::read)
        .collect();
    let refuse = || {
        let detail = format!(
            "the Accept header allows none of the available media types: {}; name one of them, or */*",
            offered.join(", ")
        );
        Refusal::new(ErrorCode::NotAcceptable, detail)
    };
    // An `Accept` header without a valid range excludes nothing.
    if ranges.is_empty() {
        return offered.first().copied().ok_or_else(refuse);
    }
    let mut best: Option<(f32, usize, &'static str)> = None;
    for media_type in offered.iter().copied() {
        let matching = ranges
            .iter()
            .enumerate()
            .filter_map(|(place, range)| Some((range.precision(media_type)?, place, range.weight)));
        // The most precise range applies. If several are equally precise, the first one applies.
        let Some((_, place, weight)) =
            matching.reduce(|first, other| if other.0 > first.0 { other } else { first })
        else {
            continue;
        };
        let is_better =
            best.is_none_or(|(most, first, _)| weight > most || (weight == most && place < first));
        // A weight of 0 excludes the media type.
        if weight > 0.0 && is_better {
            best = Some((weight, place, media_type));
        }
    }
    best.map(|(_, _, media_type)| media_type).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use crate::api::refusal::Refusal;
    use http::{HeaderMap, HeaderValue, header};

    use crate::{api::http::negotiation::choose, error::ErrorCode};

    #[test]
    fn weights_and_ranges_select_the_arm() {
        let offered = ["application/json", "text/csv", "text/plain"];
        let cases = [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            ("text/*", Some("text/csv")),
            ("text/plain, text/csv", Some("text/plain")),
            ("TEXT/Plain;charset=utf-8", Some("text/plain")),
            ("text/csv, */*", Some("text/csv")),
            ("*/*, text/csv", Some("application/json")),
            (
                "application/json;q=0.2, text/csv;q=0.5, text/plain;q=0.499",
                Some("text/csv"),
            ),
            (
                "text/html, application/xhtml+xml, */*;q=0.8",
                Some("application/json"),
            ),
            // The more precise range applies, whatever its weight.
            ("*/*, application/json;q=0", Some("text/csv")),
            (
                "text/*;q=0.3, text/plain;q=0.4, application/*;q=0.1",
                Some("text/plain"),
            ),
            ("image/png", None),
            ("application/json;q=0", None),
            ("*/*;q=0", None),
            // An invalid weight makes its range invalid, and invalid ranges are ignored.
            ("text/csv;q=2, text/plain", Some("text/plain")),
            ("json", Some("application/json")),
        ];
        for (accept, expected) in cases {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            match (choose(&headers, &offered), expected) {
                (Ok(chosen), Some(expected)) => assert_eq!(chosen, expected, "{accept}"),
                (Err(Refusal { code, detail }), None) => {
                    assert_eq!(code, ErrorCode::NotAcceptable, "{accept}");
                    assert!(
                        detail.contains("application/json, text/csv, text/plain"),
                        "{detail}"
                    );
                }
                (got, _) => panic!("{accept}: {got:?}"),
            }
        }
        assert_eq!(choose(&HeaderMap::new(), &offered), Ok("application/json"));
        let mut two =
            HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("image/png"))]);
        two.append(header::ACCEPT, HeaderValue::from_static("text/csv"));
        assert_eq!(choose(&two, &offered), Ok("text/csv"));
    }
}
