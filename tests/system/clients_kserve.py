"""KServe's Python client, in a separate process, because its generated gRPC classes have the same names as Triton's.

usage: clients_kserve.py URL GRPC BARE_URL BARE_GRPC      (a server over models/, and one over the bare repository of harness.py)
"""
import asyncio
import logging
import math
import sys

import grpc
import httpx
import numpy as np
from kserve import InferInput, InferRequest, InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from harness import golden, run_all

TYPED = {
    "BOOL": [True, False], "INT8": [-128, 127], "INT16": [-32768, 32767], "INT32": [-(2**31), 2**31 - 1], "INT64": [-(2**63), 2**63 - 1], "UINT8": [0, 255],
    "UINT16": [0, 65535], "UINT32": [0, 2**32 - 1], "UINT64": [0, 2**64 - 1], "FP32": [0.5, -1.25], "FP64": [0.1, 1e300], "BYTES": ["é", "two words"],
}
DTYPES = {"BOOL": bool, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": object}


def dtype(datatype):
    return DTYPES.get(datatype) or np.dtype(datatype.lower())


def raw(name, array, datatype):
    given = InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def churn(examples):
    """One typed InferInput for each field. Missing values are NaN and empty strings."""
    def values(field, kind):
        missing = {"FP64": math.nan, "BYTES": "", "BOOL": False}[kind]
        return [missing if example["input"].get(field) is None else example["input"][field] for example in examples]

    first = examples[0]["input"]
    kinds = {field: "BOOL" if isinstance(value, bool) else "BYTES" if isinstance(value, str) else "FP64" for field, value in first.items()}
    return [(field, kind, values(field, kind)) for field, kind in kinds.items()]


def held(response, examples, what):
    label, chances = response.get_output_by_name("label"), response.get_output_by_name("probabilities")
    got = [each.decode() if isinstance(each, bytes) else each for each in label.as_numpy().ravel()]
    assert got == [example["output"]["label"] for example in examples], f"{what}: {got}"
    wanted = np.array([list(example["output"]["probabilities"].values()) for example in examples])
    error = np.abs(chances.as_numpy() - wanted).max()
    assert chances.as_numpy().shape == wanted.shape and error <= examples[0]["tolerance"], f"{what}: off by {error}"


async def refused(code, text, awaited):
    """Asserts an HTTP status or a gRPC code, and the server's own message, after which this client writes the URL."""
    try:
        answer = await awaited
    except httpx.HTTPStatusError as error:
        got, words = error.response.status_code, str(error).split(f", '{error.response.status_code} ")[0]
    except grpc.RpcError as error:
        got, words = error.code(), error.details()
    else:
        raise AssertionError(f"not refused, expected {code}: {answer}")
    assert got == code and text in words, f"{got} {words!r} where {code} {text!r} was expected"


async def check_v1(url, bare):
    examples = golden("churn", "1.1.0")
    async with httpx.AsyncClient() as plain:
        listed = (await plain.get(f"{url}/v1/models")).json()["models"]
    assert {"churn", "diabetes", "digits"} <= set(listed), listed
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert await client.is_model_ready(url, "churn") is True
    await refused(404, "nowhere", client.is_model_ready(url, "nowhere"))
    answer = await client.infer(url, {"instances": [example["input"] for example in examples]}, model_name="churn")
    assert len(answer["predictions"]) == len(examples), answer
    for row, example in zip(answer["predictions"], examples, strict=True):
        assert row["label"] == example["output"]["label"], (row, example)
        assert all(abs(row["probabilities"][name] - value) <= example["tolerance"] for name, value in example["output"]["probabilities"].items()), (row, example)
    answer = await client.infer(bare, {"instances": [[1.5, 2.0], [3.0, 4.0]]}, model_name="identity_fp32")
    assert answer == {"predictions": [[1.5, 2.0], [3.0, 4.0]]}, answer
    await refused(400, "age", client.infer(url, {"instances": [{**examples[0]["input"], "age": 131}]}, model_name="churn"))
    await refused(404, "nowhere", client.infer(url, {"instances": [1]}, model_name="nowhere"))
    await refused(501, "", client.explain(url, "churn", {"instances": [examples[0]["input"]]}))
    await client.close()
    return f"{len(examples)} golden examples as instances, errors with their message, explain is 501"


async def check_v2(url, bare):
    examples = golden("churn", "1.1.0")
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url) is True and await client.is_server_ready(url) is True
    assert await client.is_model_ready(url, "churn") is True and await client.is_model_ready(url, "nowhere") is False
    inputs = [raw(field, np.array(values, dtype(kind)).reshape(-1, 1), kind) for field, kind, values in churn(examples)]
    response = await client.infer(url, InferRequest("churn", inputs, request_id="seven"), model_name="churn")
    assert response.id == "seven" and response.model_name == "churn", response.to_dict()
    held(response, examples, "REST, binary")
    whole = [example for example in examples if None not in example["input"].values() and len(example["input"]) == len(examples[0]["input"])]
    inputs = [InferInput(field, [len(whole), 1], kind, values) for field, kind, values in churn(whole)]
    held(await client.infer(url, InferRequest("churn", inputs), model_name="churn"), whole, "REST, JSON")
    for datatype, values in [*TYPED.items(), ("FP16", [0.5, -2.0])]:
        array, model = np.array([values], dtype(datatype)), f"identity_{datatype.lower()}"
        for binary in (True, False) if datatype != "FP16" else (True,):
            given = InferInput("x", [1, 2], datatype)
            given.set_data_from_numpy(array, binary_data=binary)
            for parameters, outputs in (({"binary_data_output": True}, None), (None, [RequestedOutput("y", {"binary_data": binary})])):
                response = await client.infer(bare, InferRequest(model, [given], parameters=parameters, request_outputs=outputs), model_name=model)
                got = [each.decode() if isinstance(each, bytes) else each for each in response.outputs[0].as_numpy().ravel().tolist()]
                assert got == values and response.outputs[0].datatype == datatype, f"{datatype}, binary {binary}: {got}"
    await refused(400, "FP32", client.infer(bare, InferRequest("add_sub", [InferInput(name, [1, 4], "INT32", [1, 2, 3, 4]) for name in "ab"]), model_name="add_sub"))
    await client.close()
    return f"live, ready, {len(examples)} golden examples, {len(TYPED) + 1} datatypes in binary and JSON"


async def check_grpc(address, bare):
    examples = golden("churn", "1.1.0")
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live() is True and await client.is_server_ready() is True and await client.is_model_ready("churn") is True
        inputs = [InferInput(field, [len(examples), 1], kind, values) for field, kind, values in churn(examples)]
        response = await client.infer(InferRequest("churn", inputs, request_id="seven"))
        assert response.id == "seven" and response.model_version == "1.1.0", response.to_dict()
        held(response, examples, "gRPC, typed")
        inputs = [raw(field, np.array(values, dtype(kind)).reshape(-1, 1), kind) for field, kind, values in churn(examples)]
        held(await client.infer(InferRequest("churn", inputs, model_version="1.1.0")), examples, "gRPC, raw, with a version")
        await refused(grpc.StatusCode.NOT_FOUND, "nowhere", client.infer(InferRequest("nowhere", inputs)))
        await refused(grpc.StatusCode.INVALID_ARGUMENT, "plan", client.infer(InferRequest("churn", [each for each in inputs if each.name != "plan"])))
    async with InferenceGRPCClient(bare) as client:
        for datatype, values in TYPED.items():
            response = await client.infer(InferRequest(f"identity_{datatype.lower()}", [InferInput("x", [1, 2], datatype, list(values))]))
            got = [each.decode() if isinstance(each, bytes) else each for each in response.outputs[0].data]
            assert got == values and response.outputs[0].shape == [1, 2], f"{datatype}: {got}"
        half = np.array([[0.5, -2]], np.float16)
        response = await client.infer(InferRequest("identity_fp16", [raw("x", half, "FP16")]))
        assert response.outputs[0].as_numpy().tobytes() == half.tobytes(), response.to_dict()
    return f"{len(examples)} golden examples typed and raw, {len(TYPED)} datatypes typed, FP16 raw"


def main(url, address, bare_url, bare_address):
    logging.disable(logging.CRITICAL)
    checks = [("kserve, v1", check_v1, url, bare_url), ("kserve, v2", check_v2, url, bare_url), ("kserve, gRPC", check_grpc, address, bare_address)]
    return run_all((who, asyncio.run, check(*given)) for who, check, *given in checks)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
