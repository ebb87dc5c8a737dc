//! Decoding: turns the data of a request into validated fields, or into tensors for the graph. It
//! is the same for every protocol.

use std::time::Instant;

use crate::{
    decode::{
        DecodeError, DecodeLimits, RowOptions,
        csv_table::{self, CsvTable},
        decode_request, decode_rows,
        json_rows::{self, JsonRows},
        row_origin::RowOrigin,
    },
    predict::{
        PredictError,
        error::MalformedInput,
        graph_tensors::{from_rows, from_tensors},
        input::Input,
        prepared::{Decoded, DecodedContext, DecodedFields, Prepared},
        tensor_names::{check_counts, check_wanted, name_tensors, names_the_graph},
    },
    registry::servable::{Contents, Packaged, Servable},
    schema::columns::Columns,
    transform::fields,
};

/// Options for decoding a request.
pub(super) struct DecodeOptions<'a> {
    /// The names of the outputs that the caller requests.
    pub wanted: &'a [String],
    /// Whether the caller named a version by its number.
    pub explicit: bool,
    pub limits: &'a DecodeLimits,
}

pub(super) fn decode(
    servable: &Servable,
    input: Input,
    options: &DecodeOptions<'_>,
) -> Result<Decoded, PredictError> {
    let DecodeOptions {
        wanted,
        explicit,
        limits,
    } = *options;
    let start = Instant::now();
    match (input, &servable.contents) {
        (Input::Instances(body), Contents::Package(packaged)) => {
            let decoded = decode_request(&packaged.package.parts.input, &body, limits)?;
            Ok(Decoded::Fields(DecodedFields {
                columns: decoded.columns,
                context: DecodedContext {
                    single: decoded.single,
                    origin: RowOrigin::Instances,
                    client_id: decoded.id,
                    took: start.elapsed(),
                },
            }))
        }
        (Input::Instances(body), Contents::Bare(_)) => {
            let (rows, id) = json_rows::read_envelope(body).map_err(malformed)?;
            let prepared = rows_to_tensors(servable, rows, start)?;
            Ok(Decoded::Tensors(Prepared {
                client_id: id,
                ..prepared
            }))
        }
        (Input::Rows(rows), Contents::Package(packaged)) => {
            let options = RowOptions {
                names: rows.names.as_deref(),
                ignore_unknown: rows.frame,
                null_is_missing: rows.frame,
                origin: Some(&rows.origin),
            };
            let columns = decode_rows(&packaged.package.parts.input, &rows.text, options, limits)?;
            Ok(fields_of(columns, rows.origin, start))
        }
        (Input::Table(table), Contents::Package(packaged)) => {
            decode_table(&table, packaged, limits, start)
        }
        (Input::Rows(rows), Contents::Bare(_)) => decode_bare_rows(servable, rows, start),
        (Input::Table(table), Contents::Bare(_)) => {
            let rows = csv_table::to_plain_rows(&table, &servable.graph).map_err(malformed)?;
            decode_bare_rows(servable, rows, start)
        }
        (Input::Tensors(tensors), _) => {
            let packaged = servable.fields().filter(|packaged| {
                !(explicit && names_the_graph(&tensors, packaged, &servable.graph))
            });
            let offered = packaged.map_or(&servable.graph, |packaged| &packaged.fields);
            check_counts(&tensors, wanted, offered).map_err(malformed)?;
            check_wanted(wanted, offered).map_err(malformed)?;
            let tensors = name_tensors(tensors, offered).map_err(malformed)?;
            match packaged {
                Some(packaged) => {
                    let columns = fields::decode(&packaged.package.parts.input, &tensors, limits)?;
                    Ok(fields_of(columns, RowOrigin::Instances, start))
                }
                None => from_tensors(servable, &tensors, start).map(Decoded::Tensors),
            }
        }
    }
}

fn fields_of(columns: Columns, origin: RowOrigin, start: Instant) -> Decoded {
    Decoded::Fields(DecodedFields {
        columns,
        context: DecodedContext {
            single: false,
            origin,
            client_id: None,
            took: start.elapsed(),
        },
    })
}

fn decode_table(
    table: &CsvTable,
    packaged: &Packaged,
    limits: &DecodeLimits,
    start: Instant,
) -> Result<Decoded, PredictError> {
    let schema = &packaged.package.parts.input;
    let rows = csv_table::to_rows(table, schema.columns()).map_err(malformed)?;
    let options = RowOptions {
        names: rows.names.as_deref(),
        // A table often has empty cells, and columns that the model does not use.
        ignore_unknown: true,
        null_is_missing: true,
        origin: Some(&rows.origin),
    };
    let columns = decode_rows(schema, &rows.text, options, limits)?;
    Ok(fields_of(columns, rows.origin, start))
}

fn decode_bare_rows(
    servable: &Servable,
    rows: JsonRows,
    start: Instant,
) -> Result<Decoded, PredictError> {
    rows_to_tensors(servable, rows, start).map(Decoded::Tensors)
}

fn rows_to_tensors(
    servable: &Servable,
    rows: JsonRows,
    start: Instant,
) -> Result<Prepared, PredictError> {
    let origin = rows.origin.clone();
    let tensors = json_rows::to_tensors(rows, &servable.graph).map_err(malformed)?;
    from_rows(servable, &tensors, &origin, start)
}

fn malformed(error: impl Into<MalformedInput>) -> PredictError {
    PredictError::Malformed(error.into())
}

impl From<DecodeError> for PredictError {
    fn from(error: DecodeError) -> PredictError {
        match error {
            DecodeError::Malformed { detail } => malformed(detail),
            DecodeError::Invalid { faults, more } => PredictError::Invalid { faults, more },
        }
    }
}
