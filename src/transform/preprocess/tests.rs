use serde_json::{Value, json};

use crate::{
    schema::columns::{Arrays, Column, ColumnKind, Columns, Spans},
    tensor::{
        Data, DataType, Dim, Shape,
        signature::{Signature, TensorSpec},
    },
    transform::{
        declaration::DeclarationError,
        field_plan::FieldSpec,
        preprocess::{Group, Preprocess, order},
        row_fault::RowFault,
    },
};

const FIELDS: [(&str, ColumnKind, bool); 4] = [
    ("a", ColumnKind::Number, false),
    ("b", ColumnKind::Integer, false),
    ("secret", ColumnKind::Number, true),
    ("day", ColumnKind::Text, false),
];

fn compile(columns: &Value) -> Result<Preprocess, DeclarationError> {
    let field = |(name, kind, pii): (&str, ColumnKind, bool)| FieldSpec {
        name: name.to_owned(),
        kind,
        nullable: true,
        array_shape: None,
        pii,
    };
    let spec = TensorSpec {
        name: "X".into(),
        datatype: DataType::Fp32,
        shape: Shape(vec![Dim::Any, Dim::Any]),
    };
    let section = json!({"X": {"dtype": "float32", "columns": columns}});
    Preprocess::compile(
        Some(&section),
        &FIELDS.map(field),
        &Signature {
            inputs: vec![spec],
            outputs: Vec::new(),
        },
    )
}

/// The faults of one row.
fn faults(columns: &Value, (a, b, secret): (f64, i64, f64), day: Option<&str>) -> Vec<RowFault> {
    let mut days = Spans::default();
    match day {
        Some(day) => days.push(day.as_bytes()),
        None => days.push_missing(),
    }
    let row = vec![
        Column::Number(vec![a]),
        Column::Integer(vec![Some(b)]),
        Column::Number(vec![secret]),
        Column::Text(days),
    ];
    compile(columns)
        .unwrap()
        .apply(&Columns {
            rows: 1,
            columns: row,
        })
        .map(|_| ())
        .unwrap_err()
}

#[test]
fn columns_are_checked() {
    let cases = [
        (
            json!([{"ratio": {"of": "a", "to": "x"}}]),
            "/X/columns/0/ratio/to",
            "no field \"x\"",
        ),
        (
            json!([{"field": "a"}, {"product": {"of": "x", "by": "a"}}]),
            "/X/columns/1/product/of",
            "no field \"x\"",
        ),
        (
            json!([{"difference": {"of": "a", "minus": "day"}}]),
            "/X/columns/0/difference/minus",
            "neither a number nor a boolean",
        ),
        (
            json!([{"difference": {"of": "a", "by": "b"}}]),
            "/X/columns/0/difference/by",
            "expected one of: of, minus",
        ),
        (
            json!([{"difference": {"of": "a"}}]),
            "/X/columns/0/difference/minus",
            "must name a field",
        ),
        (
            json!([{"product": {"of": "a", "by": "b", "zero": 1}}]),
            "/X/columns/0/product/zero",
            "expected one of: of, by",
        ),
        (
            json!([{"ratio": {"of": "a", "to": "b", "zero": "none"}}]),
            "/X/columns/0/ratio/zero",
            "a number, or null",
        ),
        (
            json!([{"ratio": {"of": "a", "to": "b"}, "field": "a"}]),
            "/X/columns/0",
            "exactly one of field, ratio, difference, product",
        ),
        (json!([{"steps": []}]), "/X/columns/0", "exactly one"),
        (
            json!([{"field": "a", "sum": {}}]),
            "/X/columns/0/sum",
            "unknown member",
        ),
        (
            json!([{"ratio": {"of": "a", "to": "b"}, "steps": [{"lowercase": {}}]}]),
            "/X/columns/0/steps/0",
            "does not take a number",
        ),
        (
            json!([{"field": "a", "steps": [{"date_parts": {"parts": ["year"], "unknown": 0}}]}]),
            "/X/columns/0/steps/0",
            "a string field",
        ),
        (
            json!([{"field": "day", "steps": [{"date_parts": {"parts": ["era"], "unknown": 0}}]}]),
            "/X/columns/0/steps/0/parts/0",
            "era",
        ),
        (
            json!([{"field": "day", "steps": [{"date_parts": {"parts": ["year"]}}]}]),
            "/X/columns/0/steps/0/date_parts",
            "the member \"unknown\" is missing",
        ),
    ];
    for (columns, pointer, detail) in cases {
        let error = compile(&columns).map(|_| ()).unwrap_err();
        assert_eq!(error.pointer, pointer, "{columns}: {error:?}");
        assert!(error.detail.contains(detail), "{columns}: {error:?}");
    }
}

/// Groups rows of two inputs with dynamic length, `ids` and `mask`. The rows have these lengths.
/// `None` is a missing value.
fn grouped(rows: &[(Option<usize>, usize)]) -> Result<Vec<Group>, Vec<RowFault>> {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Int64,
        shape: Shape(vec![Dim::Any, Dim::Any]),
    };
    let signature = Signature {
        inputs: vec![spec("ids"), spec("mask")],
        outputs: Vec::new(),
    };
    let fields = ["ids", "mask"].map(|name| FieldSpec {
        name: name.to_owned(),
        kind: ColumnKind::Array,
        nullable: true,
        array_shape: None,
        pii: false,
    });
    let (mut ids, mut mask) = (Arrays::default(), Arrays::default());
    let push = |arrays: &mut Arrays, row: usize, length: usize| {
        let start = arrays.values.len();
        arrays
            .values
            .extend(std::iter::repeat_n(row as f64, length));
        arrays.push_row(start, Some(&[length]));
    };
    for (row, (length, masked)) in rows.iter().enumerate() {
        match length {
            Some(length) => push(&mut ids, row, *length),
            None => ids.push_missing(),
        }
        push(&mut mask, row, *masked);
    }
    let columns = Columns {
        rows: rows.len(),
        columns: vec![Column::Array(ids), Column::Array(mask)],
    };
    Preprocess::compile(None, &fields, &signature)
        .unwrap()
        .apply(&columns)
}

#[test]
fn rows_are_grouped_by_the_shapes_of_all_their_arrays() {
    let rows = |rows: &[(Option<usize>, usize)]| {
        grouped(rows)
            .unwrap()
            .into_iter()
            .map(|group| group.rows)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&[(Some(2), 3), (Some(2), 3)]), [None]);
    assert_eq!(rows(&[(Some(2), 3)]), [None]);
    assert_eq!(
        rows(&[(Some(2), 3), (Some(1), 3), (Some(2), 4), (Some(1), 3)]),
        [Some(vec![0]), Some(vec![1, 3]), Some(vec![2])]
    );

    let groups = grouped(&[(Some(2), 1), (Some(3), 1), (Some(2), 1)]).unwrap();
    assert_eq!(order(&groups), Some(vec![0, 2, 1]));
    assert_eq!((groups[0].count(3), groups[1].count(3)), (2, 1));
    let ids = groups[0].tensors.get("ids").unwrap();
    assert_eq!(
        (ids.shape(), ids.data()),
        (&[2, 2][..], &Data::Int64(vec![0, 0, 2, 2].into()))
    );
    assert_eq!(order(&grouped(&[(Some(2), 1)]).unwrap()), None);
}

#[test]
fn a_fault_in_a_group_names_the_row_of_the_request() {
    let faults = grouped(&[
        (Some(2), 1),
        (Some(3), 1),
        (None, 1),
        (Some(3), 1),
        (None, 1),
    ])
    .unwrap_err();
    assert_eq!(
        faults
            .iter()
            .map(|fault| (fault.row, fault.keyword))
            .collect::<Vec<_>>(),
        [(2, "type"), (4, "type")]
    );
}

#[test]
fn personal_values_are_not_shown() {
    let found = faults(
        &json!([{"ratio": {"of": "a", "to": "b"}}]),
        (7.5, 0, 1.0),
        None,
    );
    assert_eq!((found[0].field.as_str(), found[0].keyword), ("a", "dtype"));
    assert_eq!(
        found[0].detail,
        "`a` / `b` does not fit float32 (its value after preprocessing is inf)"
    );
    for columns in [
        json!([{"product": {"of": "a", "by": "secret"}}]),
        json!([{"product": {"of": "secret", "by": "a"}}]),
    ] {
        assert!(
            faults(&columns, (1e30, 0, 1e30), None)[0]
                .detail
                .ends_with("does not fit float32")
        );
    }
}

#[test]
fn a_value_that_is_not_a_date_is_a_fault_of_its_format() {
    let columns = json!([{"field": "day", "steps": [{"date_parts": {"parts": ["year"], "unknown": "error"}}]}]);
    for day in [None, Some("soon")] {
        let found = faults(&columns, (0.0, 0, 0.0), day);
        assert_eq!(
            (found[0].keyword, found[0].detail.as_str()),
            ("format", "`day` must be a date or a date-time")
        );
    }
}
