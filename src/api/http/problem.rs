//! `Problem`: errors as RFC 9457 `application/problem+json`.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

use serde_json::{Value, json};

use crate::{api::context::Context, error::ErrorCode, schema::fault::Fault};

pub struct Problem<'a> {
    code: ErrorCode,
    detail: String,
    faults: &'a [Fault],
}

impl<'a> Problem<'a> {
    pub fn new(code: ErrorCode, detail: String) -> Problem<'a> {
        Problem {
            code,
            detail,
            faults: &[],
        }
    }

    pub fn with_faults(code: ErrorCode, detail: String, faults: &'a [Fault]) -> Problem<'a> {
        Problem {
            code,
            detail,
            faults,
        }
    }

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

    pub fn to_json(&self, context: &Context) -> String {
        self.document(context).to_string()
    }
}
