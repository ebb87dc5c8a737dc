"""Disease progression one year on (scikit-learn's bundled `load_diabetes`, unscaled): two versions of a regressor. See README.md."""
import hashlib
import os
import sys

import numpy as np
import onnx
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the library phones home unless told not to before it is loaded
import onnxruntime as ort  # noqa: E402
from onnx import compose
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "build", "diabetes")
sys.path.insert(0, os.path.join(HERE, ".."))
import tabular as tb  # noqa: E402

NAMES = {"age": "age", "bmi": "bmi", "bp": "blood_pressure", "s1": "total_cholesterol", "s2": "ldl", "s3": "hdl", "s4": "cholesterol_ratio", "s5": "log_triglycerides", "s6": "glucose"}


def rows():
    d = load_diabetes(scaled=False, as_frame=True)
    out = []
    for r, y in zip(d.data.to_dict("records"), d.target):
        row = {v: round(float(r[k]), 4) for k, v in NAMES.items()}
        row["sex"] = {1: "group1", 2: "group2"}[int(r["sex"])]     # the source does not say which is which
        out.append((row, float(y)))
    return out


def recipe():
    r = [({"name": n, "kind": "numeric", "required": True, "nullable": n in ("glucose", "hdl"), "min": 0, "max": 1000},
          ([{"op": "impute", "value": "fit"}] if n in ("glucose", "hdl") else []) + [{"op": "standardize"}]) for n in NAMES.values()]
    r.append(({"name": "sex", "kind": "categorical", "required": True, "nullable": False, "categories": ["group1", "group2"], "unknown": "reject"},
              [{"op": "one_hot", "categories": ["group1", "group2"], "unknown": "error"}]))
    return r


def core_of(ests, width):
    """One graph of several regressors over the same `features`; each one's output renamed."""
    out = None
    for name, est in ests.items():
        m = to_onnx(est, initial_types=[("features", FloatTensorType([None, width]))], target_opset={"": 18, "ai.onnx.ml": 3})
        m.ir_version = 9
        m = compose.add_prefix(m, name + "_", rename_inputs=False, rename_outputs=False)
        old = m.graph.output[0].name
        for n in m.graph.node:
            n.output[:] = [name if o == old else o for o in n.output]
        m.graph.output[0].name = name
        if out is None:
            out = m
        else:
            out.graph.node.extend(m.graph.node)
            out.graph.initializer.extend(m.graph.initializer)
            out.graph.output.extend(m.graph.output)
    for v in list(out.graph.input) + list(out.graph.output):
        v.type.tensor_type.shape.dim[0].ClearField("dim_value")
        v.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(out)
    return out


def main():
    train, ev = train_test_split(rows(), test_size=.25, random_state=4)
    data = os.path.join(OUT, "data")
    os.makedirs(data, exist_ok=True)
    tb.dump_lines(os.path.join(data, "eval.jsonl"), [{"id": f"d{i:03d}", **r, "target": y} for i, (r, y) in enumerate(ev)])
    x, y = [r for r, _ in train], np.array([t for _, t in train])
    xv, yv = [r for r, _ in ev], np.array([t for _, t in ev])
    for version in ("1.0.0", "1.1.0"):
        out = os.path.join(OUT, version)
        os.makedirs(out, exist_ok=True)
        pre = tb.SpecTransformer(recipe())
        if version == "1.0.0":
            ests = {"prediction": Ridge(alpha=30.0)}
        else:
            kw = dict(n_estimators=80, learning_rate=.05, max_depth=2, subsample=.7, random_state=1)
            ests = {"prediction": GradientBoostingRegressor(**kw), "lower_10": GradientBoostingRegressor(loss="quantile", alpha=.1, **kw), "upper_90": GradientBoostingRegressor(loss="quantile", alpha=.9, **kw)}
        pipe = Pipeline([("pre", pre), ("reg", ests["prediction"])]).fit(x, y)
        for e in list(ests.values())[1:]:
            e.fit(pipe["pre"].transform(x), y)
        spec = pipe["pre"].spec_
        spec["target"] = {"name": "progression", "kind": "regression"}
        core = core_of(ests, spec["output"]["width"])
        full = tb.full_onnx(spec, core)
        onnx.save(core, os.path.join(out, "model.onnx"))
        onnx.save(full, os.path.join(out, "pipeline.onnx"))
        sc, sf = (ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]) for m in (core, full))
        names = list(ests)
        p = dict(zip(names, sc.run(names, {"features": tb.apply(spec, xv)})))
        pf = dict(zip(names, sf.run(names, tb.raw_feeds(spec, xv))))
        assert np.abs(p["prediction"][:, 0] - pipe.predict(xv)).max() < 1e-2
        assert all(np.abs(p[n] - pf[n]).max() < 1e-2 for n in names)
        q = p["prediction"][:, 0].astype(float)
        m = {"rows": len(yv), "mae": float(mean_absolute_error(yv, q)), "rmse": float(mean_squared_error(yv, q) ** .5), "r2": float(r2_score(yv, q))}
        if "lower_10" in p:
            m["interval_coverage"] = float(np.mean((yv >= p["lower_10"][:, 0]) & (yv <= p["upper_90"][:, 0])))
        tb.dump(os.path.join(out, "metrics.json"), {"version": version, "data": "eval", "metrics": m})
        tb.dump(os.path.join(out, "preprocess.json"), spec)
        tp = sc.run(["prediction"], {"features": tb.apply(spec, x)})[0][:, 0].astype(float)
        tb.dump(os.path.join(out, "profile.json"), tb.profile(spec, x, {"prediction": tp}))
        gold = xv[:17] + [dict(xv[0], glucose=None), dict(xv[1], hdl=None, glucose=None), dict(xv[2], age=int(xv[2]["age"]))]
        gx = tb.apply(spec, gold)
        gp = sc.run(names, {"features": gx})
        gf = sf.run(names, tb.raw_feeds(spec, gold))
        assert all(np.abs(a - b).max() < 1e-2 for a, b in zip(gp, gf))
        tb.dump_lines(os.path.join(out, "golden.jsonl"), [{"name": f"g{i:02d}", "instance": r, "features": [float(v) for v in gx[i]],
                      "expected": {n: float(a[i, 0]) for n, a in zip(names, gp)}, "tolerance": 1e-3} for i, r in enumerate(gold)])
        tb.dump(os.path.join(out, "sha256.json"), {f: hashlib.sha256(open(os.path.join(out, f), "rb").read()).hexdigest() for f in sorted(os.listdir(out)) if f != "sha256.json"})
        print(version, m)


if __name__ == "__main__":
    main()
