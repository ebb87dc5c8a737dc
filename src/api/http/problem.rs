//! `Problem`: errors as RFC 9457 `application/problem+json`.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on a document that is created here as an object"
)]

use serde_json::{Value, json};

use crate::{
    api::{context::Context, error_report::ErrorReport, refusal::Refusal},
    error::ErrorCode,
    schema::fault::Fault,
};

pub(super) struct Problem<'a> {
    code: ErrorCode,
    detail: &'a str,
    faults: &'a [Fault],
}

impl<'a> From<&'a Refusal> for Problem<'a> {
    fn from(refusal: &'a Refusal) -> Problem<'a> {
        Problem {
            code: refusal.code,
            detail: &refusal.detail,
            faults: &[],
        }
    }
}

impl<'a> From<&'a ErrorReport<'_>> for Problem<'a> {
    fn from(report: &'a ErrorReport<'_>) -> Problem<'a> {
        Problem {
            code: report.code,
            detail: &report.detail,
            faults: report.faults,
        }
    }
}

impl Problem<'_> {
    fn document(&self, context: &Context) -> Value {
        let mut document = json!({
            "type": format!("urn:predictd:error:{}", self.code.slug()),
            "title": self.code.title(),
            "status": self.code.http_status(),
            "detail": self.detail,
            "request_id": context.request_id.to_text(),
        });
        if !self.faults.is_empty() {
            let errors =
                self.faults.iter().map(|fault| json!({"pointer": fault.pointer, "keyword": fault.keyword, "detail": fault.detail}));
            document["errors"] = errors.collect();
        }
        document
    }

    pub(super) fn to_json(&self, context: &Context) -> String {
        self.document(context).to_string()
    }
}
