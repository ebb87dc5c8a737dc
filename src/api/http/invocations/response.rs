//! Bodies of responses in JSON, CSV and JSON Lines.

use crate::{
    api::{
        http::{
            dialect::EncodedResponse,
            invocations::{BodyFormat, InvocationsResponseOptions},
            predictions::{
                cells, output_names, write_columns, write_prediction, write_predictions,
            },
            row_request::ResponseLayout,
            row_writer::{check_rows, write_fallback},
            v2,
        },
        refusal::Refusal,
    },
    decode::csv_table,
    predict::Prediction,
};

pub(super) fn write(
    options: &InvocationsResponseOptions,
    prediction: &mut Prediction,
) -> Result<EncodedResponse, Refusal> {
    if let ResponseLayout::Tensors(options) = &options.layout {
        return v2::response::write(options, prediction);
    }
    // The capacity for rows of the usual size. The limit prevents one huge allocation for a huge
    // batch.
    let mut text = Vec::with_capacity(64 + prediction.rows.min(65_536) * 64);
    match (options.format, &options.layout) {
        (BodyFormat::Json, ResponseLayout::Columns) => {
            text.extend_from_slice(b"{\"predictions\":");
            write_columns(prediction, &mut text)?;
            write_fallback(prediction, &mut text);
            text.push(b'}');
        }
        (BodyFormat::Json, _) => {
            text.extend_from_slice(b"{\"predictions\":");
            write_predictions(prediction, &mut text)?;
            write_fallback(prediction, &mut text);
            text.push(b'}');
        }
        (BodyFormat::JsonLines, _) => {
            check_rows(prediction)?;
            let names = output_names(&prediction.output);
            for row in 0..prediction.rows {
                write_prediction(&prediction.output, &names, row, &mut text);
                text.push(b'\n');
            }
        }
        (BodyFormat::Csv, _) => {
            check_rows(prediction)?;
            let names = output_names(&prediction.output);
            let rows = (0..prediction.rows).map(|row| cells(&prediction.output, &names, row));
            text = csv_table::write_lines(rows);
        }
    }
    let content_type = if options.format == BodyFormat::Csv {
        "text/csv; charset=utf-8"
    } else {
        options.media_type
    };
    Ok(EncodedResponse {
        content_type,
        ..EncodedResponse::json(text)
    })
}
