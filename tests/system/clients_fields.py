"""Triton's client with the packages of models/: fields as inputs and outputs, checked with every golden example."""
import base64
import json
import math

import ml_dtypes
import numpy as np

from clients_oip import sides
from harness import ask, golden

KINDS = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES"}
DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": bool, "BYTES": object}
MISSING = {"FP64": math.nan, "BYTES": b""}


def schema(name, version):
    with open(f"models/{name}/{version}/schema.json", encoding="utf-8") as file:
        return json.load(file)


def datatypes(name, version):
    """The datatype of each field, by the types of the schema."""
    found = {}
    for field, about in schema(name, version)["input"]["properties"].items():
        kind = about["type"] if isinstance(about["type"], str) else next(each for each in about["type"] if each != "null")
        found[field] = KINDS.get(kind, "FP64")
    return found


def columns(kinds, rows):
    """One input of shape [n, 1] for each field. A missing value is NaN or empty bytes. A missing boolean is false, its default."""
    def value(field, row):
        given = row.get(field)
        if given is None:
            return False if kinds[field] == "BOOL" else MISSING[kinds[field]]
        return given.encode() if isinstance(given, str) else given
    return {field: np.array([[value(field, row)] for row in rows], DTYPES[kind]) for field, kind in kinds.items()}


def close(got, wanted, tolerance, what):
    assert abs(float(got) - float(wanted)) <= tolerance, f"{what}: {got} where {wanted} was expected"


def held(result, examples, what):
    """A label and the probabilities of its classes."""
    label = next(name for name in examples[0]["output"] if name != "probabilities")
    labels, chances = result.as_numpy(label), result.as_numpy("probabilities")
    assert labels is not None and labels.shape == (len(examples), 1), f"{what}: {labels}"
    assert chances.shape == (len(examples), len(examples[0]["output"]["probabilities"])), f"{what}: {chances}"
    for row, example in enumerate(examples):
        got = labels[row, 0]
        got = got.decode() if isinstance(got, bytes) else str(got)
        assert got == example["output"][label], f"{what}, example {row}: {got} where {example['output'][label]} was expected"
        for place, (name, wanted) in enumerate(example["output"]["probabilities"].items()):
            close(chances[row, place], wanted, example["tolerance"], f"{what}, example {row}, {name}")


def check_metadata(side):
    for name, version in (("churn", "1.1.0"), ("diabetes", "1.0.0"), ("digits", "1.0.0"), ("digits-array", "1.0.0")):
        about = side.about("get_model_metadata", name)
        found = {each["name"]: (each["datatype"], [int(size) for size in each["shape"]]) for each in about["inputs"]}
        shape = [-1, 8, 8] if name == "digits-array" else [-1, 1]
        assert found == {field: (kind, shape) for field, kind in datatypes(name, version).items()}, found
        assert version in about["versions"], about
    outputs = {each["name"]: (each["datatype"], [int(size) for size in each["shape"]]) for each in side.about("get_model_metadata", "churn")["outputs"]}
    assert outputs == {"label": ("BYTES", [-1, 1]), "probabilities": ("FP32", [-1, 2])}, outputs
    outputs = {each["name"]: each["datatype"] for each in side.about("get_model_metadata", "digits")["outputs"]}
    assert outputs == {"digit": "BYTES", "probabilities": "FP32"}, outputs
    ready = side.client.is_model_ready
    assert ready("churn") and ready("churn", "1.0.0") and ready("churn", "1.1.0")
    return "the signatures are the schemas' fields"


def check_churn(side):
    examples, kinds = golden("churn", "1.1.0"), datatypes("churn", "1.1.0")
    everything = columns(kinds, [example["input"] for example in examples])
    held(side.infer("churn", everything), examples, "all in one batch")
    flat = {name: array.reshape(-1) for name, array in everything.items()}
    held(side.infer("churn", flat), examples, "all in one batch, [n]")
    for number, example in enumerate(examples):
        held(side.infer("churn", columns(kinds, [example["input"]])), [example], f"example {number}")
    old = golden("churn", "1.0.0")
    held(side.infer("churn", columns(datatypes("churn", "1.0.0"), [example["input"] for example in old]), model_version="1.0.0"), old, "version 1.0.0")
    some = [example for example in examples if example["input"].get("total_charges") is None]
    rows = columns(kinds, [example["input"] for example in some])
    assert some and rows.pop("total_charges").size == len(some)
    held(side.infer("churn", rows), some, "an input left out")
    got = side.infer("churn", everything, outputs=[side.want("probabilities", classes=1)]).as_numpy("probabilities")
    best = [each.decode().split(":") for each in got.ravel()]
    for example, (value, place, *label) in zip(examples, best, strict=True):
        names = list(example["output"]["probabilities"])
        assert names[int(place)] == example["output"]["label"] and label in ([], [example["output"]["label"]]), best
        close(value, example["output"]["probabilities"][names[int(place)]], max(example["tolerance"], 1e-5), "classification")
    return f"churn: {len(examples)} golden examples in one batch, one by one, and {len(old)} of version 1.0.0; missing values as NaN, empty, left out"


def check_numbers(side):
    """A number accepts every numeric datatype, because the schema checks the value and not its storage."""
    examples, kinds = golden("diabetes", "1.0.0"), datatypes("diabetes", "1.0.0")
    rows = columns(kinds, [example["input"] for example in examples])
    answer = side.infer("diabetes", rows).as_numpy("prediction")
    assert answer.shape == (len(examples), 1), answer
    for row, example in enumerate(examples):
        close(answer[row, 0], example["output"]["prediction"], example["tolerance"], f"diabetes, example {row}")
    whole = {name: np.array([[100]], np.float64) if kind == "FP64" else rows[name][:1] for name, kind in kinds.items()}
    wanted = side.infer("diabetes", whole).as_numpy("prediction")
    dtypes = [np.float16, ml_dtypes.bfloat16, np.float32, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
    for dtype in dtypes:
        given = {name: array if array.dtype == object else array.astype(dtype) for name, array in whole.items()}
        got = side.infer("diabetes", given).as_numpy("prediction")
        assert got.tobytes() == wanted.tobytes(), f"{dtype}: {got} where {wanted} was expected"
    return f"diabetes: {len(examples)} golden examples; 100 is the same number in {len(dtypes)} other datatypes"


def check_images(side):
    examples = golden("digits", "1.0.0")
    images = np.array([[base64.b64decode(example["input"]["image"])] for example in examples], object)
    held(side.infer("digits", {"image": images}), examples, "images as bytes")
    if side.http:
        text = np.array([[example["input"]["image"]] for example in examples], object)
        held(side.client.infer("digits", [side.put("image", text, False)]), examples, "images as base64 in JSON")
    examples = golden("digits-array", "1.0.0")
    pixels = np.array([example["input"]["pixels"] for example in examples], np.float64)
    held(side.infer("digits-array", {"pixels": pixels}), examples, "pixels")
    held(side.infer("digits-array", {"pixels": pixels.astype(np.uint8)}), examples, "pixels as UINT8")
    return "digits: PNG files as bytes" + (" and as base64 in JSON" if side.http else "") + ", arrays of FP64 and UINT8"


def check_graph(side):
    """The graph's own inputs, without preprocessing, are accepted under an explicit version only."""
    config = side.about("get_model_config", "churn", "1.1.0")
    config = config if side.http else config["config"]
    fields = set(datatypes("churn", "1.1.0"))
    tensors = {each["name"]: each for each in config["input"]}
    assert tensors and not fields & set(tensors), config
    given = {}
    for name, about in tensors.items():
        sizes = [int(size) for size in about["dims"]]
        assert about["data_type"] == "TYPE_FP32", about
        given[name] = np.zeros([2, *(sizes if int(config.get("max_batch_size", 0)) else sizes[1:])], np.float32)
    answer = side.infer("churn", given, model_version="1.1.0").get_response()
    outputs = [each["name"] for each in answer["outputs"]] if side.http else [each.name for each in answer.outputs]
    assert outputs == [each["name"] for each in config["output"]], (outputs, config)
    side.refused("400", [], side.infer, "churn", given)
    return f"churn's graph ({', '.join(tensors)}) answers under an explicit version and nowhere else"


def check_refusals(side):
    kinds = datatypes("churn", "1.1.0")
    row = columns(kinds, [golden("churn", "1.1.0")[0]["input"]])
    two = columns(kinds, [example["input"] for example in golden("churn", "1.1.0")[:2]])
    faults = {
        "age": np.array([[131.0]]), "contract": np.array([[b"three-year"]], object), "tenure_months": np.array([[math.nan]]), "plan": np.array([[b"\xff\xfe"]], object),
        "monthly_charges": np.array([[b"17.99"]], object), "paperless": np.array([[1.0]]), "late_payments_12m": np.array([[math.inf]]),
    }
    for field, array in faults.items():
        message = side.refused("400", [field], side.infer, "churn", {**row, field: array})
        assert "131" not in message, f"the message contains the value: {message}"
    side.refused("400", ["plan"], side.infer, "churn", {name: array for name, array in row.items() if name != "plan"})
    side.refused("400", ["colour"], side.infer, "churn", {**row, "colour": row["plan"]})
    side.refused("400", ["region"], side.infer, "churn", {**two, "region": row["region"]})
    return f"{len(faults) + 3} faults, each named by its field"


def check_json(url):
    """JSON with null for missing values, and numbers without a decimal point."""
    examples, kinds = golden("churn", "1.1.0"), datatypes("churn", "1.1.0")
    inputs = [{"name": name, "datatype": kind, "shape": [len(examples), 1], "data": [example["input"].get(name, False if kind == "BOOL" else None) for example in examples]} for name, kind in kinds.items()]
    answer = ask(f"{url}/v2/models/churn/infer", {"id": "all", "inputs": inputs}).ok()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("churn", "1.1.0", "all"), answer
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert outputs["label"]["data"] == [example["output"]["label"] for example in examples] and outputs["probabilities"]["shape"] == [len(examples), 2], outputs
    for place, wanted in enumerate(value for example in examples for value in example["output"]["probabilities"].values()):
        close(outputs["probabilities"]["data"][place], wanted, examples[0]["tolerance"], f"probability {place}")
    image = base64.b64decode(golden("digits", "1.0.0")[0]["input"]["image"])
    answer = ask(f"{url}/v2/models/digits/infer", image, {"inference-header-content-length": "0"})
    assert answer.status == 200, answer
    head = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])
    digit = next(each for each in head["outputs"] if each["name"] == "digit")
    assert digit["parameters"]["binary_data_size"] == 5, head  # a text of one digit, behind its length
    start = int(answer.headers["inference-header-content-length"]) + sum(each["parameters"]["binary_data_size"] for each in head["outputs"][: head["outputs"].index(digit)])
    assert answer.body[start + 4 : start + 5].decode() == golden("digits", "1.0.0")[0]["output"]["digit"], answer
    return f"{len(examples)} golden examples with null for missing; a PNG file as the whole body"


def checks(running):
    """(name of the client, check, its arguments), for a server over models/."""
    for side in sides(running):
        for each in (check_metadata, check_churn, check_numbers, check_images, check_graph, check_refusals):
            yield side.name, each, side
    yield "OIP over plain HTTP", check_json, running.url
