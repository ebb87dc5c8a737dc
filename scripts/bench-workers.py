"""Finds the model size from which one worker with all cores is faster than one worker per core, with dense networks of growing size.

usage: bench-workers.py [--seconds S] [--mib N...]    (in the project's root; needs numpy and onnx, which `make models` installs)
Prints requests per second and the median latency at 1, 8 and 64 connections, and resident memory.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench import load, request_lua, resident_kib

PREDICTD = "target/release/predictd"
FIELDS = 8


def network(path, mib, width=1024):
    """Writes a network of ReLU layers of width x width float32, with `mib` MiB of weights."""
    rng = np.random.default_rng(0)
    layers = max(1, round(mib * 2**20 / (4 * width * width)))
    nodes, weights, last, size = [], [], "X", FIELDS
    for layer in range(layers + 1):
        weights.append(numpy_helper.from_array((rng.standard_normal((size, width)) / np.sqrt(size)).astype(np.float32), f"w{layer}"))
        nodes += [helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]), helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"])]
        last, size = f"r{layer}", width
    nodes.append(helper.make_node("ReduceMean", [last], ["y"], axes=[1], keepdims=1))
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", FIELDS])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "dense", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def package(root, mib):
    model, rows = f"{root}/dense.onnx", f"{root}/rows.jsonl"
    network(model, mib)
    row = {f"x{i}": i / FIELDS for i in range(FIELDS)}
    pathlib.Path(rows).write_text(json.dumps(row) + "\n", encoding="utf-8")
    directory = f"{root}/models/dense/1.0.0"
    subprocess.run([PREDICTD, "init", model, "--sample", rows, "--name", "dense", "--output", directory], check=True, stdout=subprocess.DEVNULL)
    pathlib.Path(directory, "serving.json").write_text(json.dumps({"batching": {"independent_rows": True}}), encoding="utf-8")
    subprocess.run([PREDICTD, "pack", directory], check=True, stdout=subprocess.DEVNULL)
    return json.dumps(row)


def measure(root, body, workers, threads, seconds):
    script = request_lua(body)
    environment = {**os.environ, "PREDICTD_STATE__URL": f"{root}/state", "PREDICTD_SERVER__DRAIN_GRACE_MS": "0", "PREDICTD_RUNTIME__WORKERS": str(workers), "PREDICTD_RUNTIME__INTRA_OP_THREADS": str(threads)}
    command = [PREDICTD, "serve", "--listen", "127.0.0.1:0", "--models", f"{root}/models"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = re.search(r"http://(\S+)", process.stdout.readline()).group(1)
        cells = []
        for connections in (1, 8, 64):
            result = load(process.pid, address, "/models/dense/predict", script, connections, seconds)
            cells.append(f"{result['rps']:>8.0f} {result['p50']:>9}")
        return "  ".join(cells) + f"  {resident_kib(process.pid) / 1024:>7.0f} MiB"
    finally:
        process.terminate()
        process.wait(30)
        os.unlink(script)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--mib", type=int, nargs="*", default=[4, 16, 32, 64, 128])
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{'weights':>8} {'workers x threads':>18}  req/s and median latency at 1, 8, 64 connections; resident")
    for mib in args.mib:
        with tempfile.TemporaryDirectory() as root:
            body = package(root, mib)
            for workers, threads in ((cores, 1), (1, cores)) * 2:
                print(f"{mib:>4} MiB {workers:>12} x {threads:<3}  {measure(root, body, workers, threads, args.seconds)}", flush=True)


if __name__ == "__main__":
    main()
