"""Triton's client over HTTP and over gRPC with a repository of bare graphs: every call that predictd offers, every datatype."""
import gzip
import json
import struct
import zlib

import ml_dtypes
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

from harness import DATATYPES, LABELS, ask, until

EXTENSIONS = {"binary_tensor_data", "classification", "model_configuration", "model_repository", "schedule_policy", "statistics"}
NOT_HERE = {"sequence", "system_shared_memory", "cuda_shared_memory", "trace", "logging", "generate"}


class Side:
    """One of Triton's two clients behind one interface."""

    def __init__(self, module, address):
        self.module, self.http = module, module is tritonclient.http
        self.name = "tritonclient.http" if self.http else "tritonclient.grpc"
        self.address, self.client = address, module.InferenceServerClient(address)

    def put(self, name, array, binary=True):
        """An input with the datatype and the shape of the array."""
        given = self.module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        return given.set_data_from_numpy(array, **({"binary_data": binary} if self.http else {}))

    def want(self, name, binary=True, classes=0):
        return self.module.InferRequestedOutput(name, class_count=classes, **({"binary_data": binary} if self.http else {}))

    def infer(self, model, inputs, **more):
        """`inputs` are arrays by name."""
        return self.client.infer(model, [self.put(name, array) for name, array in inputs.items()], **more)

    def about(self, call, *args):
        """The answer of a `get_...` call as a document. Over gRPC it has 64-bit numbers as text and no members that are zero."""
        ask_for = getattr(self.client, call)
        return ask_for(*args) if self.http else ask_for(*args, as_json=True)

    def refused(self, status, words, call, *args, **more):
        """Asserts that the call raises the client's exception with this status (HTTP's or gRPC's) and a message with these words."""
        wanted = {each if self.http else f"StatusCode.{STATUS[each]}" for each in ([status] if isinstance(status, str) else status)}
        try:
            result = call(*args, **more)
        except InferenceServerException as error:
            message = error.message() or ""
            assert error.status() in wanted, f"{self.name}: {error.status()} where {wanted} was expected: {message}"
            missing = [word for word in words if word not in message]
            assert not missing, f"{self.name}: the message does not contain {missing}: {message}"
            return message
        raise AssertionError(f"{self.name}: not refused, expected {wanted}: {result!r}")


STATUS = {"400": "INVALID_ARGUMENT", "404": "NOT_FOUND", "500": "INTERNAL", "501": "UNIMPLEMENTED", "503": "UNAVAILABLE", "504": "DEADLINE_EXCEEDED"}


def f32(*rows):
    return np.array(rows, np.float32)


def sample(datatype):
    """Two rows of three values, with the ends of the datatype's range."""
    dtype = triton_to_np_dtype(datatype)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if datatype == "BYTES":
        return np.array([[b"", "é".encode(), b'a,"b"\n'], ["日本".encode(), b"0", b"\x7f"]], object)
    if np.issubdtype(dtype, np.integer):
        ends = np.iinfo(dtype)
        return np.array([[ends.min, 0, ends.max], [1, 2, ends.max - 1]], dtype)
    ends = ml_dtypes.finfo(dtype)
    return np.array([[0, -1.5, ends.max], [ends.smallest_normal, ends.min, 1 / 3]], dtype)


def same(got, wanted, what):
    """Asserts the same datatype, shape and bits. A string from JSON is compared by its bytes."""
    assert got is not None, f"{what}: no such output"
    if wanted.dtype == object:
        got = np.array([each.encode() if isinstance(each, str) else each for each in got.ravel()], object).reshape(got.shape)
        equal = got.tolist() == wanted.tolist()
    else:
        equal = got.tobytes() == wanted.tobytes()
    assert got.dtype == wanted.dtype and got.shape == wanted.shape and equal, f"{what}: {got!r} where {wanted!r} was expected"


def dims(tensor):
    return [int(each) for each in tensor.get("shape", [])]


def check_server(side):
    assert side.client.is_server_live() is True and side.client.is_server_ready() is True
    about = side.about("get_server_metadata")
    assert about["name"] == "predictd" and about["version"], about
    offered = set(about["extensions"])
    assert EXTENSIONS <= offered and not NOT_HERE & offered, offered
    return f"live, ready, {about['name']} {about['version']} with {len(offered)} extensions"


def check_models(side):
    ready = side.client.is_model_ready
    assert ready("add_sub") is True and ready("add_sub", "1") is True
    for nowhere in (("add_sub", "9"), ("nowhere", "")):
        try:
            assert ready(*nowhere) is False, nowhere
        except InferenceServerException as error:
            assert not side.http and error.status() == "StatusCode.NOT_FOUND", error
    assert all(ready("several", version) for version in ("1", "2", "10")), "version_policy all"
    for version in ("", "10"):
        about = side.about("get_model_metadata", "several", version)
        assert about["name"] == "several" and sorted(about["versions"], key=int) == ["1", "2", "10"], about
        assert about["platform"] in ("onnxruntime_onnx", "onnx_onnxv1"), about
        assert {each["name"]: (each["datatype"], dims(each)) for each in about["inputs"]} == {"a": ("FP32", [-1, 4]), "b": ("FP32", [-1, 4])}, about
        assert {each["name"]: (each["datatype"], dims(each)) for each in about["outputs"]} == {"sum": ("FP32", [-1, 4]), "difference": ("FP32", [-1, 4])}, about
    shapes = {name: [dims(each) for each in side.about("get_model_metadata", name).get("inputs", [])] for name in ("scalar", "no_input", "fixed_batch", "labelled")}
    assert shapes == {"scalar": [[]], "no_input": [], "fixed_batch": [[8, 3]], "labelled": [[-1, 3]]}, shapes
    side.refused("404", ["nowhere"], side.client.get_model_metadata, "nowhere")
    stable = side.infer("several", {"a": f32([1, 2, 3, 4]), "b": f32([1, 1, 1, 1])}).get_response()
    old = side.infer("several", {"a": f32([1, 2, 3, 4]), "b": f32([1, 1, 1, 1])}, model_version="2").get_response()
    versions = [each["model_version"] if side.http else each.model_version for each in (stable, old)]
    assert versions == ["10", "2"], versions
    return "readiness and metadata, with and without a version; three versions at once, the newest by number answers"


def check_config(side):
    config = side.about("get_model_config", "labelled")
    config = config if side.http else config["config"]
    source, target = config["input"][0], config["output"][0]
    assert config["name"] == "labelled" and int(config["max_batch_size"]) == 8, config
    assert (source["name"], source["data_type"], [int(each) for each in source["dims"]]) == ("x", "TYPE_FP32", [3]), config
    assert target["name"] == "y" and target["label_filename"] == "labels.txt" and "dynamic_batching" in config, config
    # The rows are proved independent, so the graph is batched without a request in the configuration.
    config = side.about("get_model_config", "add_sub", "1")
    config = config if side.http else config["config"]
    assert int(config["max_batch_size"]) == 64 and "dynamic_batching" in config, config
    assert {each["name"]: [int(size) for size in each["dims"]] for each in config["input"]} == {"a": [4], "b": [4]}, config
    config = side.about("get_model_config", "fixed_batch", "1")
    config = config if side.http else config["config"]
    assert int(config.get("max_batch_size", 0)) == 0 and "dynamic_batching" not in config, config
    assert {each["name"]: [int(size) for size in each["dims"]] for each in config["input"]} == {"x": [8, 3]}, config
    return "the configuration in Triton's words; without max_batch_size the dims have the batch in them"


def check_index(side):
    index = side.about("get_model_repository_index")
    index = index if side.http else index["models"]
    states = {(each["name"], each.get("version")): each["state"] for each in index}
    wanted = {(f"identity_{datatype.lower()}", "1") for datatype in DATATYPES} | {("several", version) for version in ("1", "2", "10")}
    assert all(states.get(each) == "READY" for each in wanted), states
    return f"the index has {len(states)} versions"


def check_datatypes(side):
    done = 0
    for datatype in DATATYPES:
        model, given = f"identity_{datatype.lower()}", sample(datatype)
        about = side.about("get_model_metadata", model)
        assert [about["inputs"][0]["datatype"], about["outputs"][0]["datatype"]] == [datatype] * 2, about
        same(side.infer(model, {"x": given}).as_numpy("y"), given, f"{side.name} {model}")
        # BF16 has no form in JSON, and over gRPC this client sends raw bytes only.
        for binary_in in (True, False) if side.http and datatype != "BF16" else ():
            for binary_out in (True, False):
                result = side.client.infer(model, [side.put("x", given, binary_in)], outputs=[side.want("y", binary_out)])
                assert ("data" in result.get_output("y")) is not binary_out, result.get_output("y")
                same(result.as_numpy("y"), given, f"{model}, binary in {binary_in}, out {binary_out}")
                done += 1
        done += 1
    return f"{len(DATATYPES)} datatypes to their ends, bit for bit, in {done} requests" + (" (binary and JSON, each way)" if side.http else " (raw)")


def check_values(side):
    """Values without a form in JSON, and tensors without elements."""
    with np.errstate(all="ignore"):
        bits = np.array([0x7FC00001, 0x7F800000, 0xFF800000, 0x80000000], np.uint32).view(np.float32).reshape(2, 2)
    same(side.infer("identity_fp32", {"x": bits}).as_numpy("y"), bits, "NaN, infinities and -0")
    for model, given in (("identity_fp32", np.empty((0, 3), np.float32)), ("identity_int64", np.empty((2, 0), np.int64)), ("string_echo", np.empty((0, 1), object))):
        same(side.infer(model, {"x": given}).as_numpy("y"), given, f"{model} {given.shape}")
        if side.http:
            same(side.client.infer(model, [side.put("x", given, False)], outputs=[side.want("y", False)]).as_numpy("y"), given, f"{model} {given.shape} in JSON")
    same(side.infer("scalar", {"x": np.array(2.5, np.float32)}).as_numpy("y"), np.array(-2.5, np.float32), "a scalar")
    same(side.infer("no_input", {}).as_numpy("y"), np.arange(3, dtype=np.float32), "no input")
    eight = np.arange(24, dtype=np.float32).reshape(8, 3)
    same(side.infer("fixed_batch", {"x": eight}).as_numpy("y"), -eight, "a fixed batch")
    got = side.infer("nonfinite", {"x": f32(0, 1, -1)}).as_numpy("y")
    assert np.isnan(got[0]) and got[1] == np.inf and got[2] == -np.inf, got
    if side.http:
        answer = side.client.infer("nonfinite", [side.put("x", f32(0, 1, -1))], outputs=[side.want("y", False)])
        assert answer.get_output("y")["data"] == [None] * 3 and np.isnan(answer.as_numpy("y")).all(), answer.get_output("y")
    words = np.array([["é"], [""], ["日本\n"]], object)
    got = side.infer("string_echo", {"x": words}).as_numpy("y")
    assert [[each.decode() for each in row] for row in got] == words.tolist(), got
    return "NaN and infinities, zero rows, zero columns, a scalar, no input, a fixed batch, text"


def check_outputs(side):
    a, b = f32([1, 2, 3, 4], [5, 6, 7, 8]), f32([1, 1, 1, 1], [8, 8, 8, 8])

    def names(outputs):
        answer = side.infer("add_sub", {"a": a, "b": b}, outputs=outputs, request_id="order 66").get_response()
        assert (answer["id"] if side.http else answer.id) == "order 66", answer
        return [each["name"] for each in answer["outputs"]] if side.http else [each.name for each in answer.outputs]

    assert sorted(names(None)) == ["difference", "sum"]
    assert names([side.want("difference")]) == ["difference"]
    assert names([side.want("difference"), side.want("sum")]) == ["difference", "sum"]
    assert names([side.want("sum"), side.want("difference")]) == ["sum", "difference"]
    if side.http:
        result = side.client.infer("add_sub", [side.put("a", a, False), side.put("b", b, True)], outputs=[side.want("sum", True), side.want("difference", False)])
        assert "data" not in result.get_output("sum") and "data" in result.get_output("difference"), result.get_response()
    else:
        result = side.infer("add_sub", {"b": b, "a": a})
    same(result.as_numpy("sum"), a + b, "sum")
    same(result.as_numpy("difference"), a - b, "difference")
    return "outputs chosen and ordered, the id comes back" + (", binary and JSON mixed" if side.http else ", inputs in any order")


def check_classification(side):
    given = f32([0.25, 3.5, 1], [9, -1, 2])
    for binary in (True, False) if side.http else (True,):
        got = side.infer("labelled", {"x": given}, outputs=[side.want("y", binary, classes=2)]).as_numpy("y")
        parts = [[(each.decode() if isinstance(each, bytes) else each).split(":") for each in row] for row in got]
        found = [[(float(value), int(index), label) for value, index, label in row] for row in parts]
        assert found == [[(3.5, 1, "wet"), (1.0, 2, "windy")], [(9.0, 0, "dry"), (2.0, 2, "windy")]], found
    got = side.infer("identity_fp32", {"x": given}, outputs=[side.want("y", classes=1)]).as_numpy("y")
    assert [[float(part) for part in each.decode().split(":")] for each in got.ravel()] == [[3.5, 1], [9, 0]] and got.shape == (2, 1), got
    return f"the best two of {len(LABELS)} classes with their labels, without labels where there is no file"


def check_parameters(side):
    more = {"priority": 1, "timeout": 10_000_000, "parameters": {"colour": "red", "depth": 3, "deep": True}}
    same(side.infer("scalar", {"x": np.array(1, np.float32)}, **more).as_numpy("y"), np.array(-1, np.float32), "with parameters")
    assert np.isfinite(side.infer("slow", {"rounds": np.array([1], np.int64)}, timeout=10_000_000).as_numpy("y"))
    side.refused("504", [], side.infer, "slow", {"rounds": np.array([20_000], np.int64)}, timeout=50_000)
    assert side.client.is_server_ready()
    return "priority and other parameters are taken, a timeout of 50 ms ends a run of seconds"


def check_errors(side):
    a, b = f32([1, 2, 3, 4]), f32([1, 1, 1, 1])
    refusals = [
        ("400", ["a", "4", "3"], "add_sub", {"a": f32([1, 2, 3]), "b": b}, {}),
        ("400", ["a", "FP32", "INT32"], "add_sub", {"a": a.astype(np.int32), "b": b}, {}),
        ("400", ["b"], "add_sub", {"a": a}, {}),
        ("400", ["whatever"], "add_sub", {"a": a, "b": b, "whatever": b}, {}),
        ("400", ["nothing"], "add_sub", {"a": a, "b": b}, {"outputs": [side.want("nothing")]}),
        ("400", [], "add_sub", {"a": np.vstack([a] * 2), "b": np.vstack([b] * 3)}, {}),
        ("400", ["8", "7"], "fixed_batch", {"x": np.ones((7, 3), np.float32)}, {}),
        ("400", ["x"], "scalar", {"x": f32(1)}, {}),
        ("404", ["nowhere"], "nowhere", {"x": a}, {}),
        ("404", ["9"], "add_sub", {"a": a, "b": b}, {"model_version": "9"}),
        ("400", ["Gather"], "fails_out_of_range", {"i": np.array([9], np.int64)}, {}),
    ]
    for status, words, model, inputs, more in refusals:
        side.refused(status, words, side.infer, model, inputs, **more)
    same(side.infer("add_sub", {"a": a, "b": b}).as_numpy("sum"), a + b, "after the errors")
    return f"{len(refusals)} faults, each with its status and what was expected and given; the server goes on"


def check_statistics(side):
    def counts():
        found = side.about("get_inference_statistics", "labelled", "1")["model_stats"][0]
        assert found["name"] == "labelled" and found["version"] == "1", found
        success = found["inference_stats"]["success"]
        return [int(found.get(key, 0)) for key in ("inference_count", "execution_count")] + [int(success.get("count", 0))], found

    side.infer("labelled", {"x": f32([1, 2, 3])})
    before = counts()[0]
    side.infer("labelled", {"x": f32(*[[1, 2, 3]] * 5)})
    after, document = counts()
    assert [new - old for new, old in zip(after, before)] == [5, 1, 1], (before, after)
    assert 5 in [int(each["batch_size"]) for each in document["batch_stats"]] and int(document["last_inference"]) > 1_600_000_000_000, document
    assert all(key in document["inference_stats"] for key in ("success", "queue", "compute_input", "compute_infer", "compute_output")), document
    everything = side.about("get_inference_statistics")["model_stats"]
    assert {"add_sub", "labelled", "scalar"} <= {each["name"] for each in everything}, everything
    side.refused("404", ["nowhere"], side.client.get_inference_statistics, "nowhere")
    return "five rows in one run are five inferences and one execution"


def check_compression(side):
    given = np.zeros((64, 512), np.float32)
    given[:, ::7] = 1.5
    for way in ("gzip", "deflate"):
        ways = {"request_compression_algorithm": way, "response_compression_algorithm": way} if side.http else {"compression_algorithm": way}
        same(side.infer("identity_fp32", {"x": given}, **ways).as_numpy("y"), given, way)
    return "gzip and deflate" + (", there and back" if side.http else " of messages")


def check_async(side):
    """Concurrent requests of one client: each gets its own answer."""
    questions = [f32([number] * 4) for number in range(16)]
    if side.http:
        with side.module.InferenceServerClient(side.address, concurrency=4) as client:
            pending = [client.async_infer("add_sub", [side.put("a", each), side.put("b", each)], request_id=str(number)) for number, each in enumerate(questions)]
            results = {result.get_response()["id"]: result for result in [each.get_result() for each in pending]}
    else:
        answers = []
        for number, each in enumerate(questions):
            side.client.async_infer("add_sub", [side.put("a", each), side.put("b", each)], lambda result, error: answers.append((result, error)), request_id=str(number))
        until(lambda: len(answers) == len(questions), "all answers called back")
        assert not any(error for _, error in answers), answers
        results = {result.get_response().id: result for result, _ in answers}
    for number, each in enumerate(questions):
        same(results[str(number)].as_numpy("sum"), each + each, f"answer {number}")
    return f"{len(questions)} asynchronous requests, each with its own answer"


def check_raw_http(url):
    """Requests that the client never sends: raw binary bodies, other compressions, requests for compressed answers."""
    given = f32([1, 2.5, -3])
    answer = ask(f"{url}/v2/models/labelled/infer", given.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert answer.status == 200, answer
    head = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.body[:head])["outputs"]
    assert [(each["name"], each["shape"], each["parameters"]["binary_data_size"]) for each in outputs] == [("y", [1, 3], 12)], outputs
    assert answer.body[head:] == given.tobytes(), answer
    request = json.dumps({"inputs": [{"name": "x", "shape": [64, 512], "datatype": "FP32", "data": [0.5] * 64 * 512}]}).encode()
    for way, pack, unpack in (("gzip", gzip.compress, gzip.decompress), ("deflate", zlib.compress, zlib.decompress)):
        answer = ask(f"{url}/v2/models/identity_fp32/infer", pack(request), {"content-type": "application/json", "content-encoding": way, "accept-encoding": way})
        assert answer.status == 200 and answer.headers["content-encoding"] == way, answer
        assert json.loads(unpack(answer.body))["outputs"][0]["data"] == [0.5] * 64 * 512
    nested = ask(f"{url}/v2/models/identity_fp32/infer", {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, None]]}]}).ok()
    assert nested["outputs"][0]["data"] == [1, 2, 3, None] and nested["outputs"][0]["shape"] == [2, 2] and "id" not in nested, nested
    refusals = {
        "null where there is none": {"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [None]},
        "too large for its datatype": {"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [2**31]},
        "no whole number": {"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [0.5]},
        "too few elements": {"name": "x", "shape": [2, 1], "datatype": "INT32", "data": [1]},
        "a shape beyond all memory": {"name": "x", "shape": [2**62, 4], "datatype": "INT32", "data": [1]},
        "a negative shape": {"name": "x", "shape": [-1, 1], "datatype": "INT32", "data": [1]},
        "data twice": {"name": "x", "shape": [1, 1], "datatype": "INT32", "data": [1], "parameters": {"binary_data_size": 4}},
        "an unknown datatype": {"name": "x", "shape": [1, 1], "datatype": "INT33", "data": [1]},
    }
    for what, tensor in refusals.items():
        answer = ask(f"{url}/v2/models/identity_int32/infer", {"inputs": [tensor]})
        assert answer.status == 400 and list(answer.json()) == ["error"], f"{what}: {answer!r}"
    answer = ask(f"{url}/v2/models/identity_bf16/infer", {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BF16", "data": [1]}]})
    assert answer.status == 400 and "BF16" in answer.json()["error"], answer
    text = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}]}
    head = json.dumps(text).encode()
    answer = ask(f"{url}/v2/models/string_echo/infer", head + struct.pack("<I", 2) + b"\xff\xfe", {"Inference-Header-Content-Length": str(len(head))})
    assert answer.status in (200, 400), answer
    for path, method, status in (("/v2/nothing", "GET", 404), ("/v2/models/add_sub/infer", "GET", 405), ("/v2/repository/index", "GET", 405)):
        answer = ask(url + path, method=method)
        assert answer.status == status and "error" in answer.json(), f"{method} {path}: {answer!r}"
    return f"the raw binary request, compressed answers, nested data, {len(refusals) + 2} malformed tensors in the dialect's own form"


def check_admin(http, grpc, admin):
    """Load and unload are on the admin listener only."""
    given = {"a": f32([1, 2, 3, 4]), "b": f32([1, 1, 1, 1])}
    for side in (http, grpc):
        for call in (side.client.unload_model, side.client.load_model):
            try:
                call("add_sub")
            except InferenceServerException as error:
                assert error.status() in ("403", "404", "405", "501", "StatusCode.UNIMPLEMENTED"), error
            else:
                raise AssertionError(f"{side.name}: {call.__name__} on the data plane")
        assert side.client.is_model_ready("add_sub"), "the data plane unloaded a model"
    with tritonclient.http.InferenceServerClient(admin.removeprefix("http://")) as client:
        client.unload_model("add_sub")
        until(lambda: not http.client.is_model_ready("add_sub"), "unloaded")
        for side in (http, grpc):
            side.refused(("404", "503"), ["add_sub"], side.infer, "add_sub", given)
        state = next(each for each in http.client.get_model_repository_index() if each["name"] == "add_sub")
        assert state["state"] in ("UNAVAILABLE", "UNLOADING") and state["reason"], state
        assert http.client.is_server_ready() and http.client.is_model_ready("scalar"), "another one's unloading"
        client.load_model("add_sub")
        until(lambda: http.client.is_model_ready("add_sub"), "loaded again")
        for side in (http, grpc):
            same(side.infer("add_sub", given).as_numpy("sum"), given["a"] + given["b"], "after loading")
        http.refused(("400", "404"), ["nowhere"], client.load_model, "nowhere")
        for more in ({"config": '{"backend": "onnxruntime"}'}, {"config": "{}", "files": {"file:1/model.onnx": b"not a model"}}):
            http.refused(("400", "501"), [], client.load_model, "add_sub", **more)
        assert http.client.is_model_ready("add_sub")
    for headers in ({"origin": "https://elsewhere.example"}, {"host": "elsewhere.example"}):
        answer = ask(f"{admin}/v2/repository/models/scalar/unload", {}, headers)
        assert answer.status in (400, 403, 421), f"{headers}: {answer!r}"
    assert http.client.is_model_ready("scalar")
    return "unload and load on the admin listener only, no model out of a request, no foreign origin or host"


CHECKS = [check_server, check_models, check_config, check_index, check_datatypes, check_values, check_outputs, check_classification, check_parameters,
          check_errors, check_statistics, check_compression, check_async]


def sides(running):
    """Both clients, connected to a running server."""
    return Side(tritonclient.http, running.address), Side(tritonclient.grpc, running.grpc)


def check_log(log):
    assert "optimization" in log, f"the log does not name the unknown key of config.pbtxt: {log}"
    return "the key that is not read is named in the log"


def checks(bare):
    """(name of the client, check, its arguments), for a server over the bare repository of harness.py."""
    both = sides(bare)
    yield from ((side.name, each, side) for side in both for each in CHECKS)
    yield "OIP over plain HTTP", check_raw_http, bare.url
    yield "tritonclient, admin", check_admin, *both, bare.admin
    yield "config.pbtxt", check_log, bare.log()
