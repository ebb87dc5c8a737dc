//! `ErrorReport`: an error as its caller sees it. Each protocol writes it in its own format.

use std::borrow::Cow;

use crate::{api::refusal::Refusal, error::ErrorCode, schema::fault::Fault};

/// Maximum number of faults in a one-line report. More faults would hide the first one, which
/// callers repair first.
const LINE_FAULTS: usize = 3;

pub(crate) struct ErrorReport<'a> {
    pub code: ErrorCode,
    pub detail: Cow<'a, str>,
    /// Violations of the model's schema.
    pub faults: &'a [Fault],
    /// The number of violations that are not in `faults`.
    pub more: usize,
}

impl<'a> From<&'a Refusal> for ErrorReport<'a> {
    fn from(refusal: &'a Refusal) -> ErrorReport<'a> {
        ErrorReport {
            code: refusal.code,
            detail: Cow::Borrowed(&refusal.detail),
            faults: &[],
            more: 0,
        }
    }
}

impl ErrorReport<'_> {
    /// The report in one line, for protocols whose errors consist of one string.
    pub(crate) fn line(&self) -> String {
        if self.faults.is_empty() {
            return self.detail.clone().into_owned();
        }
        let one = |fault: &Fault| match fault.keyword {
            // The detail of a fault of an input tensor names the tensor. It has no pointer.
            "inputs" => fault.detail.clone(),
            _ => format!("{} {}", fault.pointer, fault.detail),
        };
        let shown: Vec<String> = self.faults.iter().take(LINE_FAULTS).map(one).collect();
        let more = self.faults.len().saturating_sub(LINE_FAULTS) + self.more;
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        format!("{}{more}", shown.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use crate::{
        api::error_report::ErrorReport,
        error::ErrorCode,
        schema::fault::{Fault, FaultSubject},
    };

    #[test]
    fn an_error_with_many_faults_is_one_line() {
        let fault = |keyword| Fault {
            pointer: "/instances/0/age".to_owned(),
            keyword,
            subject: FaultSubject::Row,
            detail: "must be an integer".to_owned(),
        };
        let faults = [fault("type"), fault("inputs"), fault("type"), fault("type")];
        let line = |faults, more| {
            ErrorReport {
                code: ErrorCode::Invalid,
                detail: Cow::Borrowed("the detail"),
                faults,
                more,
            }
            .line()
        };
        assert_eq!(line(&[], 0), "the detail");
        assert_eq!(line(&faults[..1], 0), "/instances/0/age must be an integer");
        assert_eq!(
            line(&faults, 5),
            "/instances/0/age must be an integer; must be an integer; /instances/0/age must be an integer; and 6 more"
        );
    }
}
