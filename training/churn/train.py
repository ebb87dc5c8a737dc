"""Train four versions of the churn classifier; write each version's folder. See README.md."""
import hashlib
import json
import os
import sys

import numpy as np
import onnx
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the library phones home unless told not to before it is loaded
import onnxruntime as ort  # noqa: E402
from onnx import TensorProto as T, helper as h
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "build", "churn")
sys.path[:0] = [HERE, os.path.join(HERE, "..")]
import tabular as tb  # noqa: E402
from make_data import CONTRACTS, OSES, PAYS, PLANS, REGIONS, generate, rows_of  # noqa: E402

NUM_STD = {"op": "standardize"}


def recipe(version):
    two = version == "2.0.0"

    def num(name, steps, **kw):
        return {"name": name, "kind": "numeric", "required": True, "nullable": any(s["op"] == "impute" for s in steps), **kw}, steps

    def cat(name, steps, cats, null=False, unknown="allow", **kw):
        return {"name": name, "kind": "categorical", "required": True, "nullable": null, "categories": cats, "unknown": unknown, **kw}, steps

    fit = {"op": "impute", "value": "fit"}
    clip = {"op": "clip", "min": "fit", "max": "fit"}
    r = [
        num("tenure_months", [NUM_STD], min=0, max=600),
        num("monthly_charge_usd" if two else "monthly_charges", [{"op": "log1p"}, NUM_STD], min=0, max=100000),
        num("total_charges", [fit, clip, {"op": "log1p"}, NUM_STD], min=0),
        num("data_gb_30d", [{"op": "missing_indicator"}, fit, clip, {"op": "log1p"}, NUM_STD], min=0),
        num("support_tickets_90d", [{"op": "clip", "min": 0.0, "max": 20.0}, NUM_STD], min=0),
        num("days_since_last_login", [fit, {"op": "clip", "min": 0.0, "max": 180.0}, {"op": "log1p"}, NUM_STD], min=0),
        num("late_payments_12m", [{"op": "min_max"}], min=0, max=12),
        num("age", [{"op": "missing_indicator"}, fit, {"op": "clip", "min": 18.0, "max": 95.0}, NUM_STD], min=0, max=130),
        cat("plan", [{"op": "ordinal", "categories": PLANS, "unknown": -1.0}, NUM_STD], PLANS),
        cat("contract", [{"op": "one_hot", "categories": CONTRACTS, "unknown": "error"}], CONTRACTS, unknown="reject"),
        cat("payment_method", [{"op": "impute", "value": "fit"}, {"op": "one_hot", "categories": PAYS, "unknown": "zeros"}], PAYS, null=True),
        cat("region", [{"op": "impute", "value": "unknown"}, {"op": "one_hot", "categories": REGIONS + ["unknown"], "unknown": "zeros"}], REGIONS, null=True),
    ]
    if not two:
        r.append(cat("device_os", [{"op": "one_hot", "categories": OSES, "unknown": "zeros"}], OSES, null=True))
    r.append(({"name": "paperless", "kind": "boolean", "required": False, "nullable": False}, [{"op": "impute", "value": 0.0}]))
    if two:
        r.append(({"name": "autopay", "kind": "boolean", "required": True, "nullable": False}, []))
    # optional in every version: absent is the same as null
    for f, _ in r:
        if f["name"] in ("age", "region", "device_os", "total_charges"):
            f["required"] = False
    return r


def project(row, version):
    """The request fields of a version from a data row."""
    r = {k: v for k, v in row.items() if k not in ("id", "label")}
    if version == "2.0.0":
        r["monthly_charge_usd"] = r.pop("monthly_charges")
        del r["device_os"]
    else:
        del r["autopay"]
    return r


def ece(y, p, bins=15):
    e = 0.0
    for a in np.arange(bins) / bins:
        k = (p >= a) & (p < a + 1 / bins)
        if k.any():
            e += k.mean() * abs(y[k].mean() - p[k].mean())
    return float(e)


def metrics(y, p):
    return {"rows": int(y.size), "auc": float(roc_auc_score(y, p)), "log_loss": float(log_loss(y, p)), "brier": float(brier_score_loss(y, p)),
            "accuracy": float(accuracy_score(y, p >= .5)), "f1_churn": float(f1_score(y, p >= .5)), "ece": ece(y, p), "mean_churn_probability": float(p.mean()),
            "churn_rate": float(y.mean())}


def string_label(full, classes):
    """Give the full model a string `label` beside the integer one."""
    for n in full.graph.node:
        for i, o in enumerate(n.output):
            if o == "label":
                n.output[i] = "label_index"
    full.graph.node.append(h.make_node("LabelEncoder", ["label_index"], ["label"], domain="ai.onnx.ml", keys_int64s=list(range(len(classes))), values_strings=classes))
    outs = [o for o in full.graph.output if o.name != "label"]
    del full.graph.output[:]
    full.graph.output.extend([h.make_tensor_value_info("label", T.STRING, ["N"]), *outs])
    onnx.checker.check_model(full)
    return full


def batch_dim(m):
    for v in list(m.graph.input) + list(m.graph.output):
        if v.type.tensor_type.shape.dim:
            v.type.tensor_type.shape.dim[0].ClearField("dim_value")
            v.type.tensor_type.shape.dim[0].dim_param = "N"


def golden_rows(version):
    """Twenty raw requests that touch every preprocessing path."""
    rows = [project(r, version) for r in rows_of(generate(12, 77))]
    base = dict(rows[0], age=44.0, region="east", payment_method="card", data_gb_30d=12.5, total_charges=900.0, days_since_last_login=3.0)
    fee = "monthly_charge_usd" if version == "2.0.0" else "monthly_charges"

    def v(**kw):
        r = {**base, **kw}
        return {k: x for k, x in r.items() if x != "__drop__"}

    return rows + [
        v(age=None, region=None, data_gb_30d=None, total_charges=None, days_since_last_login=None, payment_method=None),   # every nullable null
        v(age="__drop__", region="__drop__", total_charges="__drop__", paperless="__drop__"),                              # optional ones absent
        v(payment_method="crypto", region="moon"),                                                                          # unknown categories, allowed
        v(plan="family"),                                                                                                   # unknown ordinal
        v(data_gb_30d=1e9, total_charges=1e9, support_tickets_90d=500.0, age=130.0),                                        # all clipped
        v(data_gb_30d=0.0, total_charges=0.0, tenure_months=0.0, late_payments_12m=0.0, **{fee: 0.0}),                      # all zero
        v(tenure_months=7, support_tickets_90d=3, age=30, **{fee: 40}),                                                     # integers where floats are usual
        v(region="", payment_method="", plan="enterprise", contract="two-year"),                                            # empty text is missing
    ]


def main():
    train, ev = rows_of(generate(20000, 11)), rows_of(generate(6000, 12))
    y = np.array([r["label"] == "churn" for r in train]).astype(int)
    yv = np.array([r["label"] == "churn" for r in ev]).astype(int)
    summary, losses = {}, {}
    for version in ("1.0.0", "1.1.0", "1.2.0", "2.0.0"):
        out = os.path.join(OUT, version)
        os.makedirs(out, exist_ok=True)
        g = np.random.default_rng(5)
        classes = ["churn", "stay"] if version == "2.0.0" else ["stay", "churn"]
        pos = classes.index("churn")
        rows, target = [project(r, version) for r in train], (y if pos else 1 - y)
        if version == "1.0.0":
            est = LogisticRegression(C=0.5, max_iter=2000)
        else:
            est = GradientBoostingClassifier(n_estimators=60 if version == "1.2.0" else 140, learning_rate=.08, max_depth=3, subsample=.8, random_state=3)
        if version == "1.0.0":       # the first model had only the first customers to learn from
            rows, target = rows[:1200], target[:1200]
        if version == "1.2.0":
            # the regression a canary should catch: a join broke in training, so late payments read 0 and usage was stale for most rows
            rows = [dict(r, late_payments_12m=0.0 if g.random() < .9 else r["late_payments_12m"]) for r in rows]
            perm = g.permutation(len(rows))
            rows = [dict(r, days_since_last_login=rows[perm[i]]["days_since_last_login"] if g.random() < .6 else r["days_since_last_login"]) for i, r in enumerate(rows)]
        pipe = Pipeline([("pre", tb.SpecTransformer(recipe(version))), ("clf", est)]).fit(rows, target)
        spec = pipe["pre"].spec_
        spec["target"] = {"name": "label", "classes": classes, "positive": "churn"}
        core = to_onnx(est, initial_types=[("features", FloatTensorType([None, spec["output"]["width"]]))], options={id(est): {"zipmap": False}},
                       target_opset={"": 18, "ai.onnx.ml": 3})
        batch_dim(core)
        core.ir_version = 9
        full = string_label(tb.full_onnx(spec, core), classes)
        onnx.save(core, os.path.join(out, "model.onnx"))
        onnx.save(full, os.path.join(out, "pipeline.onnx"))
        so = ort.SessionOptions()
        so.log_severity_level = 3
        sc = ort.InferenceSession(core.SerializeToString(), so, providers=["CPUExecutionProvider"])
        sf = ort.InferenceSession(full.SerializeToString(), so, providers=["CPUExecutionProvider"])

        evr = [project(r, version) for r in ev]
        x = tb.apply(spec, evr)
        lab, prob = sc.run(["label", "probabilities"], {"features": x})
        ref = pipe.predict_proba(evr)
        assert np.abs(prob - ref).max() < 2e-5, np.abs(prob - ref).max()
        flab, fprob = sf.run(["label", "probabilities"], tb.raw_feeds(spec, evr))
        assert np.abs(prob - fprob).max() < 2e-5, np.abs(prob - fprob).max()
        assert [classes[i] for i in lab] == flab.tolist()
        one = sc.run(["probabilities"], {"features": x[:1]})[0]
        assert np.abs(one - prob[:1]).max() < 1e-6

        m = metrics(yv, prob[:, pos])
        m["by_plan"] = {p: metrics(yv[k], prob[k, pos]) for p in PLANS if (k := np.array([r["plan"] == p for r in ev])).any()}
        tb.dump(os.path.join(out, "metrics.json"), {"version": version, "data": "eval", "metrics": m})
        tb.dump(os.path.join(out, "preprocess.json"), spec)
        clean = [project(r, version) for r in train]
        tp = sc.run(None, {"features": tb.apply(spec, clean)})
        prof = tb.profile(spec, clean, {"churn_probability": tp[1][:, pos].astype(float), "label": np.array(classes)[tp[0]]})
        tb.dump(os.path.join(out, "profile.json"), prof)

        gold = golden_rows(version)
        gx = tb.apply(spec, gold)
        gl, gp = sc.run(["label", "probabilities"], {"features": gx})
        fl, fp = sf.run(["label", "probabilities"], tb.raw_feeds(spec, gold))
        assert np.isfinite(gx).all() and np.abs(gp - fp).max() < 2e-5, (gp, fp)
        assert [classes[i] for i in gl] == fl.tolist()
        tb.dump_lines(os.path.join(out, "golden.jsonl"), [
            {"name": f"g{i:02d}", "instance": r, "features": [float(v) for v in gx[i]],
             "expected": {"label": classes[gl[i]], "label_index": int(gl[i]), "probabilities": {c: float(gp[i, k]) for k, c in enumerate(classes)}},
             "tolerance": 1e-5} for i, r in enumerate(gold)])
        rej = {"missing_required": {k: v for k, v in gold[12].items() if k != "tenure_months"}, "null_not_allowed": dict(gold[12], tenure_months=None),
               "wrong_type": dict(gold[12], age="forty"), "out_of_range": dict(gold[12], tenure_months=-1), "unknown_category_rejected": dict(gold[12], contract="weekly"),
               "unknown_field": dict(gold[12], favourite_colour="red"), "bool_as_text": dict(gold[12], paperless="yes"), "number_as_category": dict(gold[12], plan=3)}
        tb.dump_lines(os.path.join(out, "rejected.jsonl"), [{"name": k, "instance": v, "expected": "validation error naming the field"} for k, v in rej.items()])
        drifted = {}
        for name in ("nodrift", "covariate", "category", "missing", "concept", "units"):
            f = os.path.join(OUT, "data", ("" if name == "nodrift" else "drift_") + name + ".jsonl")
            data = [json.loads(line) for line in open(f)]
            dr = [project(r, version) for r in data]
            dp = sc.run(["probabilities"], {"features": tb.apply(spec, dr)})[0][:, pos].astype(float)
            yy = np.array([r["label"] == "churn" for r in data]).astype(int)
            hh = prof["predictions"]["churn_probability"]["decile_histogram"]
            drifted[name] = {"features": tb.drift(prof, dr, spec), "prediction_psi": round(tb.psi(hh["counts"], tb.hist(dp, np.array(hh["edges"]))), 6), "metrics": metrics(yy, dp)}
        tb.dump(os.path.join(out, "drift_expected.json"), drifted)
        tb.dump(os.path.join(out, "sha256.json"), {f: hashlib.sha256(open(os.path.join(out, f), "rb").read()).hexdigest() for f in sorted(os.listdir(out)) if f != "sha256.json"})
        summary[version] = {k: round(m[k], 4) for k in ("auc", "log_loss", "brier", "accuracy", "ece")}
        losses[version] = -np.log(np.clip(np.where(yv, prob[:, pos], 1 - prob[:, pos]), 1e-7, 1))
        if version != "1.0.0":
            d = losses[version] - losses["1.1.0" if version != "1.1.0" else "1.0.0"]
            summary[version]["paired_log_loss_difference"] = {"against": "1.1.0" if version != "1.1.0" else "1.0.0", "mean": round(float(d.mean()), 5), "standard_error": round(float(d.std() / np.sqrt(d.size)), 5)}
        print(version, summary[version], "max psi", {k: (max(v["features"].items(), key=lambda q: q[1]["psi"])[0], max(q["psi"] for q in v["features"].values()), v["prediction_psi"], round(v["metrics"]["auc"], 3)) for k, v in drifted.items()})
    tb.dump(os.path.join(OUT, "summary.json"), summary)


if __name__ == "__main__":
    main()
