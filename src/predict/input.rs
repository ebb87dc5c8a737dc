//! `Input`: the data of a request in the form of its protocol.

use bytes::Bytes;

use crate::{
    decode::{
        DecodeLimits,
        csv_table::CsvTable,
        elements::{Elements, WireTensor},
        json_rows::JsonRows,
    },
    registry::servable::Servable,
    tensor::DataType,
};

/// Limits for requests over the network. A request beyond them is refused before memory is
/// allocated for it. The limit on the size of the body bounds everything else.
pub(super) const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 65_536,
    max_depth: 64,
    max_array_values: 64 << 20,
};

#[derive(Debug)]
pub(crate) enum Input {
    /// The native form of predictd: `{"instances": [...], "id": ...}`, or one bare instance.
    Instances(Bytes),
    /// Inputs by name. An empty name means the only input.
    Tensors(Vec<WireTensor>),
    Rows(JsonRows),
    Table(CsvTable),
}

impl Input {
    /// The number of bytes that must be read one by one. The time of decoding is proportional to
    /// it.
    pub(crate) fn weight(&self, servable: &Servable) -> usize {
        let are_fields = servable.fields().is_some();
        match self {
            Input::Instances(body) => body.len(),
            Input::Tensors(tensors) => tensors
                .iter()
                .map(|tensor| weight(tensor, are_fields))
                .sum(),
            Input::Rows(rows) => rows.text.len(),
            Input::Table(table) => table.text.len(),
        }
    }
}

fn weight(tensor: &WireTensor, is_field: bool) -> usize {
    /// Minimum weight of a string: each string is a separate allocation, however short it is.
    const TEXT: usize = 8;
    /// Maximum number of strings whose lengths are added up. More strings are heavy because of
    /// their number.
    const COUNTED: usize = 1 << 16;
    match &tensor.elements {
        Elements::Json(text) => text.len(),
        Elements::Raw(bytes) if is_field || tensor.datatype == Some(DataType::Bytes) => bytes.len(),
        Elements::Raw(_) => 0,
        Elements::Values(data) if is_field => data.len() * 8,
        // Values are copied several bytes at a time.
        Elements::Values(data) => data.len(),
        Elements::Texts(texts) => {
            texts.len() * TEXT + texts.iter().take(COUNTED).map(Bytes::len).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{
        decode::elements::{Elements, WireTensor},
        predict::{HEAVY_BODY_BYTES, input::weight},
        tensor::{Data, DataType},
    };

    #[test]
    fn an_input_that_takes_long_is_heavy() {
        let of = |datatype, elements| WireTensor {
            name: "x".to_owned(),
            datatype: Some(datatype),
            shape: None,
            elements,
        };
        let raw = |datatype| of(datatype, Elements::Raw(Bytes::from(vec![0; 1 << 20])));
        let values = |count| {
            of(
                DataType::Int64,
                Elements::Values(Data::Int64(vec![0; count].into())),
            )
        };
        let texts = |count, length| {
            of(
                DataType::Bytes,
                Elements::Texts(vec![Bytes::from(vec![0; length]); count]),
            )
        };
        let cases = [
            // Raw bytes are shared, not read.
            (raw(DataType::Fp32), false, false),
            (raw(DataType::Fp32), true, true),
            (raw(DataType::Bytes), false, true),
            (values(1 << 10), false, false),
            (values(1 << 14), true, true),
            (values(1 << 20), false, true),
            (texts(100, 10), false, false),
            (texts(1 << 20, 0), false, true),
            (texts(1, 1 << 20), false, true),
        ];
        for (index, (tensor, is_field, heavy)) in cases.iter().enumerate() {
            assert_eq!(
                weight(tensor, *is_field) > HEAVY_BODY_BYTES,
                *heavy,
                "{index}"
            );
        }
    }
}
