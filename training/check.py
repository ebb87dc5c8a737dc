"""Replays every sample package's golden examples with ONNX Runtime and a small Python reading of preprocessing.json.

Independent of predictd: the two must agree with what training saw. Exits 1 on a difference beyond the tolerance.
"""
import base64
import json
import math
import os
import pathlib
import struct
import sys
import zlib

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the library phones home unless told not to before it is loaded
import onnxruntime as ort  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def unpng(data):
    """The pixels of a plain 8-bit grey PNG without filters."""
    width, height = struct.unpack(">II", data[16:24])
    at, packed = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width + 1)[:, 1:].astype(np.float64)


def steps(value, chain):
    """The columns that one value becomes."""
    for step in chain:
        (name, p), = step.items()
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        if name == "missing_indicator":
            return [float(missing)]
        if name == "impute":
            value = p["value"] if missing or value in p.get("missing_values", []) else value
        elif name == "one_hot":
            assert value in p["categories"] or p["unknown"] == "zeros"
            return [float(value == category) for category in p["categories"]]
        elif name == "ordinal":
            value = float(p["categories"].index(value)) if value in p["categories"] else float(p["unknown"])
        elif name == "clip":
            value = min(max(value, p["min"]), p["max"])
        elif name == "log1p":
            value = math.log1p(value)
        elif name == "standard_scale":
            value = (value - p["mean"]) / p["std"]
        elif name == "min_max_scale":
            value = (value - p["min"]) / (p["max"] - p["min"])
        else:
            raise ValueError(name)
    return [math.nan if value is None else float(value)]


def feed(session, declared, instance):
    feeds = {}
    for graph_input in session.get_inputs():
        section = declared.get("inputs", {}).get(graph_input.name, {"field": graph_input.name, "steps": []})
        if "columns" in section:
            row = [x for column in section["columns"] for x in steps(instance.get(column["field"]), column.get("steps", []))]
            feeds[graph_input.name] = np.array([row]).astype(np.float32)
        elif graph_input.type == "tensor(string)":
            feeds[graph_input.name] = np.array([[instance.get(section["field"]) or ""]], dtype=object)
        elif graph_input.type == "tensor(double)":
            feeds[graph_input.name] = np.array([steps(instance.get(section["field"]), section["steps"])])
        elif section["field"] == "image":
            factor = next(step["rescale"]["factor"] for step in section["steps"] if "rescale" in step)
            feeds[graph_input.name] = (unpng(base64.b64decode(instance["image"])) * factor).astype(np.float32)[None, None]
        else:
            feeds[graph_input.name] = np.array(instance[section["field"]], np.float32)[None, None]
    return feeds


def main():
    failed = False
    for package in sorted([*ROOT.glob("models/*/*"), *ROOT.glob("tests/fixtures/models/*/*")]):
        declared = json.loads((package / "preprocessing.json").read_text())
        session = ort.InferenceSession(str(package / "model.onnx"))
        names = [output.name for output in session.get_outputs()]
        worst = 0.0
        for line in (package / "golden.jsonl").read_text().splitlines():
            golden = json.loads(line)
            outputs = dict(zip(names, session.run(None, feed(session, declared, golden["input"]))))
            for field, section in declared["outputs"].items():
                expected, values = golden["output"][field], outputs[section["from"]].reshape(-1)
                (kind, p), = (section.get("steps") or [{"": {}}])[-1].items()
                if kind == "as_map":
                    pairs = [(expected[label], values[k]) for k, label in enumerate(p["labels"])]
                elif kind == "argmax":
                    failed |= expected != p["labels"][int(values.argmax())]
                    continue
                elif isinstance(expected, str):
                    failed |= expected != values[0]
                    continue
                else:
                    pairs = [(expected, values[0])]
                for a, b in pairs:
                    worst = max(worst, abs(a - float(b)) / max(1.0, abs(a)) / golden["tolerance"])
        failed |= worst > 1
        print(f"{package.relative_to(ROOT)}: largest difference {worst:.3f} of the tolerance")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
