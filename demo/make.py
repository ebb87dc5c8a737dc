"""Writes churn 1.3.0, which loads, passes its golden examples and fails on 3 % of the customers: those from 70 to 94 years.

`python make.py` with the pins of tests/fixtures/onnx/requirements.txt; what it writes is checked in. `predictd pack` writes the manifest.
"""
import pathlib
import shutil

import onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent / "models" / "churn" / "1.1.0"
TARGET = HERE / "packages" / "churn" / "1.3.0"
AGE, MEAN, STD = 9, 44.12835, 13.07477251  # the column of `age` among the features, as preprocessing.json scales it


def main():
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(SOURCE, TARGET, ignore=shutil.ignore_patterns("manifest.json", "evaluation.json", "README.md"))
    model = onnx.load(TARGET / "model.onnx")
    graph = model.graph
    low, high = ((age - MEAN) / STD for age in (69.5, 94.5))
    values = {"age_column": np.array([AGE], np.int64), "low": np.float32(low), "high": np.float32(high), "nothing": np.zeros(1, np.float32)}
    graph.initializer.extend(nh.from_array(np.asarray(value), name) for name, value in values.items())
    # A table of one entry, asked for the second one where the age is in that range: out of bounds.
    graph.node.extend([
        h.make_node("Gather", ["features", "age_column"], ["age"], axis=1),
        h.make_node("Greater", ["age", "low"], ["above"]),
        h.make_node("Less", ["age", "high"], ["below"]),
        h.make_node("And", ["above", "below"], ["bad"]),
        h.make_node("Cast", ["bad"], ["index"], to=T.INT64),
        h.make_node("Gather", ["nothing", "index"], ["zero"]),
    ])
    last = next(node for node in graph.node if "probabilities" in node.output)
    last.output[0] = "sound"
    graph.node.append(h.make_node("Add", ["sound", "zero"], ["probabilities"]))
    onnx.checker.check_model(model)
    onnx.save(model, TARGET / "model.onnx")
    (TARGET / "README.md").write_text("# Churn, made to fail\n\nFor the demonstration of an aborted rollout: it is version 1.1.0, but every run with a customer from 70 to 94 years fails.\n")


main()
