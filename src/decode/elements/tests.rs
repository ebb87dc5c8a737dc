use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    decode::elements::{
        Elements, TensorError, WireTensor, declared::check_numbers, from_raw, json::read_json,
        split_texts, to_raw, write::numbers_to_json,
    },
    tensor::{Data, DataType, Dim, Shape, signature::TensorSpec},
};

fn read(text: &str, datatype: DataType) -> Result<(Data, Vec<usize>), TensorError> {
    read_json(text.as_bytes(), datatype)
}

#[test]
fn nested_and_flat_data_are_read() {
    assert_eq!(
        read("[1, 2.5, null]", DataType::Fp32)
            .map(|(data, shape)| (data.len(), shape))
            .unwrap(),
        (3, vec![3])
    );
    assert_eq!(
        read("[[1,2],[3,4],[5,6]]", DataType::Int8).unwrap(),
        (Data::Int8(vec![1, 2, 3, 4, 5, 6].into()), vec![3, 2])
    );
    assert_eq!(
        read("7", DataType::Uint64).unwrap(),
        (Data::Uint64(vec![7].into()), vec![])
    );
    assert_eq!(
        read("[]", DataType::Bool).unwrap(),
        (Data::Bool(vec![]), vec![0])
    );
    assert_eq!(read("[[],[]]", DataType::Fp64).unwrap().1, vec![2, 0]);
    assert_eq!(
        read(r#"["a", {"b64": "w6k="}]"#, DataType::Bytes)
            .unwrap()
            .0,
        Data::Bytes(vec!["a".into(), "é".into()])
    );
    let exact = read("[18446744073709551615, 9007199254740993]", DataType::Uint64)
        .unwrap()
        .0;
    assert_eq!(
        exact,
        Data::Uint64(vec![u64::MAX, 9_007_199_254_740_993].into())
    );
    assert_eq!(
        read("[2.0, 1e2]", DataType::Int16).unwrap().0,
        Data::Int16(vec![2, 100].into())
    );
}

#[test]
fn data_that_is_not_a_tensor_is_refused() {
    let cases = [
        (
            "[[1,2],[3]]",
            DataType::Fp32,
            "ragged: row 1 has 1 values, and an earlier array has 2",
        ),
        (
            "[[[1],[2]],[[3],[4,5]]]",
            DataType::Fp32,
            "ragged: row 1 has 2 values, and an earlier array has 1",
        ),
        (
            "[1,[2]]",
            DataType::Fp32,
            "unevenly, or too deeply, in row 1",
        ),
        ("[[1],2]", DataType::Fp32, "unevenly"),
        ("[[],1]", DataType::Fp32, "unevenly"),
        ("[\"1\"]", DataType::Fp32, "a number"),
        (
            "[\"],\\\"[\", 1]",
            DataType::Bytes,
            "a string; element [1] is not",
        ),
        (
            "[[{\"b64\": \"YQ==\"}, 2]]",
            DataType::Bytes,
            "a string; element [0][1] is not",
        ),
        (
            "[1e39]",
            DataType::Fp32,
            "number at element [0] is out of range",
        ),
        ("[1e999]", DataType::Fp64, "too large"),
        ("[65505e10]", DataType::Fp16, "out of range"),
        ("[128]", DataType::Int8, "out of range"),
        ("[-1]", DataType::Uint8, "out of range"),
        ("[1.5]", DataType::Int64, "whole"),
        ("[null]", DataType::Int64, "whole"),
        ("[1]", DataType::Bool, "true or false"),
        ("[1]", DataType::Bytes, "a string"),
        (
            "[0, NaN]",
            DataType::Fp32,
            "element [1]: NaN and Infinity do not exist in JSON (send null for",
        ),
        ("[[1,2],[\n3", DataType::Fp32, "element [1][0]: "),
        ("[1] 2", DataType::Fp32, "not JSON"),
    ];
    for (text, datatype, expected) in cases {
        let error = read(text, datatype).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(read(&"[".repeat(100_000), DataType::Fp32).is_err());
}

#[test]
fn numbers_must_fit_the_declared_datatype() {
    let check = |text, datatype| check_numbers(text, datatype);
    for (text, datatype) in [
        ("[3, -3, 1e2, 2.0, null]", DataType::Int64),
        (
            "[[9223372036854775807], [-9223372036854775808]]",
            DataType::Int64,
        ),
        ("[18446744073709551615]", DataType::Uint64),
        ("[127, -128]", DataType::Int8),
        (
            "[0.1, 1e38, -340282346638528859811704183484516925440]",
            DataType::Fp32,
        ),
        ("[65504, -0.5]", DataType::Fp16),
        ("[1e308]", DataType::Fp64),
        ("[\"3.5\", {\"b64\": \"3.5\"}, true]", DataType::Int64),
        ("[]", DataType::Int8),
    ] {
        assert_eq!(check(text, datatype), Ok(()), "{text}");
    }
    for (text, datatype, expected) in [
        (
            "[3, 3.5]",
            DataType::Int64,
            "every element must be a whole number; element [1] is not (datatype INT64)",
        ),
        (
            "[[1, 2], [3, 1e-1]]",
            DataType::Uint8,
            "element [1][1] is not (datatype UINT8)",
        ),
        (
            "[9223372036854775808]",
            DataType::Int64,
            "element [0] is out of range",
        ),
        ("[128]", DataType::Int8, "out of range"),
        (
            "[1, -129]",
            DataType::Int8,
            "element [1] is out of range (datatype INT8)",
        ),
        ("[-1]", DataType::Uint64, "out of range"),
        ("[4294967296]", DataType::Uint32, "out of range"),
        (
            "[\"],\", 1e39]",
            DataType::Fp32,
            "element [1] is out of range",
        ),
        ("[65536]", DataType::Fp16, "out of range"),
    ] {
        let error = check(text, datatype).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// The server reads a body into memory in which its data is aligned, so no byte of a binary input
/// is copied.
#[test]
fn binary_data_is_not_copied() {
    let whole = Bytes::from(vec![0u8; 4096]);
    let start = (64 - whole.as_ptr().addr() % 64) % 64;
    let data = whole.slice(start..start + 1024);
    let spec = TensorSpec {
        name: "x".into(),
        datatype: DataType::Fp32,
        shape: Shape(vec![Dim::Any, Dim::Fixed(4)]),
    };
    let given = WireTensor {
        name: "x".to_owned(),
        datatype: Some(DataType::Fp32),
        shape: Some(vec![64, 4]),
        elements: Elements::Raw(data.clone()),
    };
    let tensor = given.to_tensor(&spec).unwrap();
    let Data::Fp32(values) = tensor.data() else {
        panic!("not FP32")
    };
    assert_eq!(values.as_ptr().cast::<u8>(), data.as_ptr());
    // The output is not copied either.
    assert_eq!(to_raw(tensor.into_parts().1).as_ptr(), data.as_ptr());
}

#[test]
fn raw_elements_are_counted() {
    let four = Bytes::from_static(&[0, 0, 128, 63]);
    assert_eq!(
        from_raw(DataType::Fp32, &four, 1).unwrap(),
        Data::Fp32(vec![1.0].into())
    );
    assert!(from_raw(DataType::Fp32, &four, 2).is_err());
    assert!(from_raw(DataType::Fp64, &four, usize::MAX).is_err());
    assert!(
        from_raw(DataType::Bool, &four, 4)
            .unwrap_err()
            .to_string()
            .contains("0 or 1")
    );
    assert!(split_texts(&[2, 0, 0, 0, b'a'], 1).is_err());
    assert!(split_texts(&[0, 0, 0, 0, 0], 1).is_err());
    assert!(split_texts(&[], usize::MAX).is_err());
    assert!(
        from_raw(DataType::Bytes, &Bytes::from_static(&[1, 0, 0, 0, 0xff]), 1)
            .unwrap_err()
            .to_string()
            .contains("UTF-8")
    );
}

#[test]
fn rows_are_nested_like_their_field() {
    let data = Data::Fp64((0..8).map(f64::from).collect::<Vec<_>>().into());
    assert_eq!(
        numbers_to_json(&data, 2, &[2, 2]).unwrap(),
        "[[[0.0,1.0],[2.0,3.0]],[[4.0,5.0],[6.0,7.0]]]"
    );
    assert_eq!(
        numbers_to_json(&data, 2, &[4]).unwrap(),
        "[[0.0,1.0,2.0,3.0],[4.0,5.0,6.0,7.0]]"
    );
    let flags = Data::Bool(vec![true, false, false, true]);
    assert_eq!(
        numbers_to_json(&flags, 2, &[2]).unwrap(),
        "[[true,false],[false,true]]"
    );
    let none = Data::Fp32(Vec::new().into());
    assert_eq!(numbers_to_json(&none, 2, &[0, 4]).unwrap(), "[[],[]]");
    assert_eq!(
        numbers_to_json(&none, 2, &[2, 0]).unwrap(),
        "[[[],[]],[[],[]]]"
    );
    let missing = Data::Fp32(vec![f32::NAN, 1.5].into());
    assert_eq!(numbers_to_json(&missing, 2, &[]).unwrap(), "[null,1.5]");
    assert!(numbers_to_json(&Data::Fp32(vec![f32::INFINITY].into()), 1, &[]).is_err());
}

proptest! {
    #[test]
    fn raw_and_back(texts in prop::collection::vec(".{0,9}", 0..9), numbers in prop::collection::vec(any::<i32>(), 0..9)) {
        let data = Data::Bytes(texts.clone());
        prop_assert_eq!(&from_raw(DataType::Bytes, &to_raw(data.clone()), texts.len()).unwrap(), &data);
        let data = Data::Int32(numbers.clone().into());
        prop_assert_eq!(&from_raw(DataType::Int32, &to_raw(data.clone()), numbers.len()).unwrap(), &data);
    }

    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..64), elements in any::<usize>()) {
        for datatype in [DataType::Fp32, DataType::Int64, DataType::Bool, DataType::Bytes] {
            let _ = read_json(&bytes, datatype);
            let _ = from_raw(datatype, &Bytes::from(bytes.clone()), elements);
        }
    }
}
