"""Compares the protocols: OIP as JSON with /predict, and OIP's binary tensors with an echo server. Prints ratios. gRPC is in bench.py.

usage: bench-protocols.py [--seconds S] [--rounds N]      (in the project's root; `make bench` builds the binaries)
Rounds alternate between the servers, and medians are reported.
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

import bench

IMAGES = [64, 3, 224, 224]
BYTES = 4 * 64 * 3 * 224 * 224
# The tensor, and room for the JSON text of a binary request or answer.
ROOM = BYTES + 4096


@contextlib.contextmanager
def serving(*names):
    """Runs predictd with graphs without a manifest. Yields (pid, address)."""
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            version = pathlib.Path(directory, "models", name, "1")
            version.mkdir(parents=True)
            shutil.copy(f"tests/fixtures/onnx/{name}.onnx", version / "model.onnx")
            # Requests of several callers share runs, as for a package.
            (version.parent / "config.pbtxt").write_text("max_batch_size: 64\ndynamic_batching { }\n", encoding="utf-8")
        environment = {**os.environ, **bench.QUIET, "PREDICTD_STATE__URL": f"{directory}/state", "PREDICTD_MODELS__ROOT": f"{directory}/models",
                       "PREDICTD_SERVER__MAX_BODY_BYTES": str(ROOM)}
        process = subprocess.Popen([bench.RELEASE / "predictd", "serve", "--listen", "127.0.0.1:0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            yield process.pid, re.search(r"http://(\S+)", process.stdout.readline()).group(1)
        finally:
            process.terminate()
            process.wait(30)


def bench_json(seconds, rounds):
    row = {"a": [1.5, -2.25, 3.125, 4.0], "b": [0.5, 0.25, 0.125, 1.0]}
    rows = bench.request_lua(json.dumps({"instances": [row]}))
    tensors = bench.request_lua(json.dumps({"inputs": [{"name": name, "shape": [1, 4], "datatype": "FP32", "data": data} for name, data in row.items()]}))
    one = bench.golden()[1]
    fields = bench.request_lua(json.dumps({"inputs": [{"name": name, "shape": [1, 1], "datatype": {str: "BYTES", bool: "BOOL", type(None): "BYTES"}.get(type(value), "FP64"), "data": [value]} for name, value in one.items()]}))
    instance = bench.request_lua(json.dumps(one))
    print("\nOIP as JSON against /predict of the same model, 64 connections, requests per second")
    with serving("add_sub") as (pid, address), bench.predictd() as (other, churn, _):
        cases = [
            ("add_sub (two inputs [1, 4])", pid, address, ("/models/add_sub/predict", rows), ("/v2/models/add_sub/infer", tensors)),
            ("churn (14 fields)", other, churn, ("/models/churn/predict", instance), ("/v2/models/churn/infer", fields)),
        ]
        for what, pid, address, first, second in cases:
            results = {path: [] for path, _ in (first, second)}
            for _ in range(rounds):
                for path, script in (first, second):
                    results[path].append(bench.load(pid, address, path, script, 64, seconds))
            own, oip = (bench.median(results[path], "rps") for path, _ in (first, second))
            print(f"{what:<28} /predict {own:.0f}, OIP {oip:.0f}: {oip / own:.2f}")


def post(connection, path, parts, headers):
    connection.putrequest("POST", path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    for part in parts:
        connection.send(part)
    response = connection.getresponse()
    body = bytearray(BYTES + 4096)
    view, length = memoryview(body), 0
    while count := response.readinto(view[length:]):
        length += count
    assert response.status == 200, bytes(body[:length])
    return length


def bench_binary(rounds):
    data = os.urandom(1 << 20) * (BYTES >> 20) + bytes(BYTES & ((1 << 20) - 1))
    head = json.dumps({"inputs": [{"name": "x", "shape": IMAGES, "datatype": "FP32", "parameters": {"binary_data_size": BYTES}}], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head)), "content-length": str(len(head) + BYTES)}
    print(f"\nOIP binary, FP32 {IMAGES} ({BYTES / 1e6:.1f} MB) through an identity graph, compared with an echo server with the same sizes; one caller")
    with serving("images") as (_, address):
        ours = http.client.HTTPConnection(address)
        answer = post(ours, "/v2/models/images/infer", [head, data], headers)
        with bench.echo(answer) as (_, echo_address):
            theirs = http.client.HTTPConnection(echo_address)
            times = {"ours": [], "echo": []}
            for _ in range(rounds * 10):
                for name, connection, path in (("ours", ours, "/v2/models/images/infer"), ("echo", theirs, "/predict")):
                    start = time.perf_counter()
                    post(connection, path, [head, data], headers)
                    times[name].append(time.perf_counter() - start)
    own, echo = (statistics.median(times[name]) * 1e3 for name in ("ours", "echo"))
    print(f"predictd {own:.1f} ms, echo {echo:.1f} ms: {echo / own:.2f} of its rate")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="json, binary (both)")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    parts = {"json": lambda: bench_json(args.seconds, args.rounds), "binary": lambda: bench_binary(args.rounds)}
    for part in args.parts or parts:
        parts[part]()


if __name__ == "__main__":
    main()
