"""Turns trained models into packages: `python export.py --from training/build --to .`

Reads what the training scripts wrote (one folder a version) and writes `models/NAME/VERSION/` and
`tests/fixtures/models/NAME/VERSION/` without manifest.json, which is `predictd pack`'s to write.
"""
import argparse
import hashlib
import json
import pathlib
import shutil

HERE = pathlib.Path(__file__).resolve().parent

# name: (title, unit, description, example)
CHURN = {
    "tenure_months": ("Tenure", "months", "How long the customer has been one", 28.3),
    "monthly_charges": ("Monthly charges", "USD", "Of the last bill", 17.99),
    "monthly_charge_usd": ("Monthly charge", "USD", "Of the last bill", 17.99),
    "total_charges": ("Total charges", "USD", "Since the beginning; null where the ledger lacks it", 491.52),
    "data_gb_30d": ("Data used", "GB", "In the last 30 days; null where it was not measured", 8.088),
    "support_tickets_90d": ("Support tickets", "1", "Opened in the last 90 days", 0),
    "days_since_last_login": ("Days since the last login", "days", "Null where there was none", 1.2),
    "late_payments_12m": ("Late payments", "1", "In the last 12 months", 0),
    "age": ("Age", "years", "Of the customer; null where unknown", 35),
    "plan": ("Plan", None, "One of {}; another one is answered as unknown", "plus"),
    "contract": ("Contract", None, "Term of the contract", "month-to-month"),
    "payment_method": ("Payment method", None, "One of {}, or null; another one is answered as unknown", "wallet"),
    "region": ("Region", None, "One of {}, or null; another one is answered as unknown", "south"),
    "device_os": ("Device", None, "One of {}, or null; another one is answered as unknown", "android"),
    "paperless": ("Paperless", None, "Whether bills go out by e-mail; absent counts as false", False),
    "autopay": ("Autopay", None, "Whether bills are paid without asking", True),
}
DIABETES = {
    "age": ("Age", "years", "Of the patient", 37),
    "bmi": ("Body mass index", "kg/m2", "Weight by height squared", 21.8),
    "blood_pressure": ("Blood pressure", "mmHg", "Average", 84),
    "total_cholesterol": ("Total cholesterol", "mg/dL", "Serum measurement s1", 184),
    "ldl": ("LDL", "mg/dL", "Low-density lipoproteins, s2", 101),
    "hdl": ("HDL", "mg/dL", "High-density lipoproteins, s3; may be null", 73),
    "cholesterol_ratio": ("Cholesterol ratio", "1", "Total by HDL, s4", 3),
    "log_triglycerides": ("Triglycerides", "log(mg/dL)", "Logarithm of the level, s5", 3.912),
    "glucose": ("Glucose", "mg/dL", "Blood sugar, s6; may be null", 93),
    "sex": ("Sex", None, "The source does not say which group is which", "group1"),
}
NAMES = {"standardize": "standard_scale", "min_max": "min_max_scale"}


def field_schema(feature, texts):
    title, unit, description, example = texts[feature["name"]]
    kind = {"numeric": "number", "categorical": "string", "boolean": "boolean"}[feature["kind"]]
    categories = feature.get("categories", [])
    schema = {"type": [kind, "null"] if feature["nullable"] else kind, "title": title, "description": description.format(", ".join(categories))}
    if feature["kind"] == "categorical" and feature["unknown"] == "reject":
        schema["enum"] = categories
    if feature["kind"] == "categorical":
        schema.update({} if "enum" in schema else {"maxLength": 64})
    for bound, keyword in (("min", "minimum"), ("max", "maximum")):
        if bound in feature:
            schema[keyword] = feature[bound]
    schema["examples"] = [example]
    if unit:
        schema["x-unit"] = unit
    if feature["name"] == "age":
        schema["x-pii"] = "bucket"
    if feature["name"] == "plan":
        schema["x-slice"] = True
    return schema


# Beyond every customer: a pipeline inside the graph computes in single precision, in which larger numbers end as infinities.
LARGEST = 1_000_000_000


def input_schema(spec, title, description, texts, bounded=False):
    features = spec["features"]
    if bounded:
        features = [{"max": LARGEST, **f} if f["kind"] == "numeric" else f for f in features]
    return {
        "type": "object", "title": title, "description": description,
        "properties": {f["name"]: field_schema(f, texts) for f in features},
        "required": [f["name"] for f in features if f["required"]],
        "additionalProperties": False,
        "examples": [{f["name"]: texts[f["name"]][3] for f in features}],
    }


def steps_of(feature, steps):
    """The steps of one feature, without its missing indicator, in predictd's names."""
    out = []
    for step in steps:
        op = step["op"]
        parameters = {k: v for k, v in step.items() if k != "op"}
        if op == "missing_indicator":
            continue
        if op == "impute" and feature["kind"] == "categorical":
            parameters["missing_values"] = [""]
        out.append({NAMES.get(op, op): parameters})
    return out


def columns_of(spec):
    columns = []
    features = {f["name"]: f for f in spec["features"]}
    for transform in spec["transforms"]:
        name = transform["feature"]
        if any(step["op"] == "missing_indicator" for step in transform["steps"]):
            columns.append({"field": name, "steps": [{"missing_indicator": {}}]})
        steps = steps_of(features[name], transform["steps"])
        columns.append({"field": name, "steps": steps} if steps else {"field": name})
    return columns


def class_schema(classes, what):
    return {
        "type": "object",
        "properties": {
            what: {"type": "string", "enum": classes, "title": "The likelier class" if len(classes) == 2 else "The likeliest class"},
            "probabilities": {
                "type": "object", "title": "Probability of each class",
                "properties": {c: {"type": "number", "minimum": 0, "maximum": 1.00001} for c in classes},
                "required": classes, "additionalProperties": False,
            },
        },
        "required": [what, "probabilities"],
        "additionalProperties": False,
    }


def class_outputs(classes, what):
    return {
        what: {"from": "probabilities", "steps": [{"argmax": {"labels": classes}}]},
        "probabilities": {"from": "probabilities", "steps": [{"as_map": {"labels": classes}}]},
    }


def dump(path, document):
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def dump_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def evaluation_of(source, data, data_file):
    metrics = json.loads((source / "metrics.json").read_text())["metrics"]
    flat = {k: v for k, v in metrics.items() if not isinstance(v, dict)}
    slices = {k.removeprefix("by_"): v for k, v in metrics.items() if isinstance(v, dict)}
    identity = {"name": data, "rows": flat.pop("rows", None)}
    if data_file.exists():
        identity["sha256"] = hashlib.sha256(data_file.read_bytes()).hexdigest()
    return {"format": "predictd.evaluation/1", "data": identity, "metrics": flat, "slices": slices}


def card_of(title, does, data, evaluation, limits, licence):
    lines = [f"# {title}", "", does, "", "## Data", "", data, "", "## Evaluation", "", f"On {evaluation['data']['rows']} rows of `{evaluation['data']['name']}`:", ""]
    lines += [f"- {name}: {value:.4f}" if isinstance(value, float) else f"- {name}: {value}" for name, value in evaluation["metrics"].items() if not isinstance(value, (list, dict))]
    lines += ["", "## Limits", "", limits, "", "## Licence", "", licence, ""]
    return "\n".join(lines)


class Package:
    def __init__(self, target, source, graph="model.onnx"):
        self.path = target
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        shutil.copyfile(source / graph, target / "model.onnx")
        shutil.copyfile(source / "profile.json", target / "profile.json")
        shutil.copyfile(HERE / "APACHE-2.0.txt", target / "LICENSE")

    def write(self, schema, preprocessing, golden, evaluation, card, risk):
        dump(self.path / "schema.json", schema)
        if preprocessing:
            dump(self.path / "preprocessing.json", preprocessing)
        dump(self.path / "serving.json", {"batching": {"max_batch_size": 64, "independent_rows": True}, "risk": risk})
        dump_lines(self.path / "golden.jsonl", golden)
        dump(self.path / "evaluation.json", evaluation)
        (self.path / "README.md").write_text(card, encoding="utf-8")


def churn(source, target, data_file, inside):
    spec = json.loads((source / "preprocess.json").read_text())
    classes = spec["target"]["classes"]
    schema = {
        "input": input_schema(spec, "A customer", "Will this customer leave? Synthetic subscription data.", CHURN, bounded=inside),
        "output": class_schema(classes, "label"),
    }
    golden = [
        {"input": g["instance"], "output": {"label": g["expected"]["label"], "probabilities": g["expected"]["probabilities"]}, "tolerance": max(g["tolerance"], 2e-5 if inside else 0)}
        for g in read_lines(source / "golden.jsonl")
    ]
    if inside:
        # The graph does the preprocessing; only a missing text must become the empty one that it knows.
        texts = [f["name"] for f in spec["features"] if f["kind"] == "categorical" and (f["nullable"] or not f["required"])]
        inputs = {name: {"dtype": "string", "field": name, "steps": [{"impute": {"value": ""}}]} for name in texts}
        preprocessing = {"inputs": inputs, "outputs": {"label": {"from": "label"}, "probabilities": class_outputs(classes, "label")["probabilities"]}}
    else:
        preprocessing = {"inputs": {"features": {"dtype": "float32", "columns": columns_of(spec)}}, "outputs": class_outputs(classes, "label")}
    evaluation = evaluation_of(source, "churn eval", data_file)
    card = card_of(
        "Churn", "Says whether a subscription customer will leave. For trying a model server on; for no decision about anybody.",
        "Synthetic customers from a seeded generator (`training/churn/make_data.py`): no real person's data. 20,000 rows for training, 6,000 for evaluation.",
        evaluation, "Knows only what the generator made. Unknown plans, regions and devices are answered as unknown ones.",
        "Apache-2.0, like the generator. Trained with scikit-learn (BSD-3-Clause), written out by skl2onnx (Apache-2.0).")
    Package(target, source, "pipeline.onnx" if inside else "model.onnx").write(schema, preprocessing, golden, evaluation, card, "medium")


def diabetes(source, target, data_file):
    spec = json.loads((source / "preprocess.json").read_text())
    golden = [{"input": g["instance"], "output": g["expected"], "tolerance": g["tolerance"]} for g in read_lines(source / "golden.jsonl")]
    titles = {
        "prediction": "Disease progression one year on (25 to 346)",
        "lower_10": "Below this in one case of ten",
        "upper_90": "Above this in one case of ten",
    }
    fields = list(golden[0]["output"])
    schema = {
        "input": input_schema(spec, "A patient", "How far has the disease progressed one year on? For showing a regressor only, not for any medical use.", DIABETES),
        "output": {"type": "object", "properties": {f: {"type": "number", "title": titles[f]} for f in fields}, "required": fields, "additionalProperties": False},
    }
    preprocessing = {"inputs": {"features": {"dtype": "float32", "columns": columns_of(spec)}}, "outputs": {f: {"from": f} for f in fields}}
    evaluation = evaluation_of(source, "diabetes eval", data_file)
    card = card_of(
        "Diabetes", "Predicts disease progression one year on from ten measurements. For showing a regressor only, not for any medical use.",
        "442 patients of Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression (2004), as bundled with scikit-learn (BSD-3-Clause).",
        evaluation, "Few rows, one hospital, long ago. The source does not say which sex is which group.", "Model: Apache-2.0. Data: as bundled with scikit-learn.")
    Package(target, source).write(schema, preprocessing, golden, evaluation, card, "high")


def digits(source, target, data_file, png):
    classes = [str(d) for d in range(10)]
    lines = read_lines(source / "golden.jsonl")
    field, expected = ("image", "expected_from_png") if png else ("pixels", "expected")
    golden = [
        {"input": {field: g["png_base64" if png else "pixels"]},
         "output": {"digit": str(g[expected]["label"]), "probabilities": dict(zip(classes, g[expected]["probabilities"]))}, "tolerance": g["tolerance"]}
        for g in lines
    ]
    if png:
        properties = {"image": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png", "title": "Image", "description": "An 8x8 grey PNG of a handwritten digit", "maxLength": 100000}}
        section = {"dtype": "float32", "field": "image", "steps": [{"decode_image": {"mode": "grey"}}, {"resize": {"height": 8, "width": 8}}, {"rescale": {"factor": 16 / 255}}, {"layout": "nchw"}]}
    else:
        row = {"type": "array", "minItems": 8, "maxItems": 8, "items": {"type": "number", "minimum": 0, "maximum": 16}}
        properties = {"pixels": {"type": "array", "minItems": 8, "maxItems": 8, "items": row, "title": "Pixels", "description": "8 rows of 8, 0 is paper and 16 is ink"}}
        section = {"dtype": "float32", "field": "pixels", "steps": [{"reshape": {"shape": [1, 8, 8]}}]}
    schema = {
        "input": {"type": "object", "title": "A handwritten digit", "description": "Which digit is this?", "properties": properties, "required": [field], "additionalProperties": False, "examples": [golden[0]["input"]]},
        "output": class_schema(classes, "digit"),
    }
    preprocessing = {"inputs": {"image": section}, "outputs": class_outputs(classes, "digit")}
    evaluation = evaluation_of(source, "digits eval", data_file)
    card = card_of(
        "Digits", "Reads a handwritten digit from " + ("a PNG." if png else "8x8 numbers."),
        "scikit-learn's bundled `load_digits` (BSD-3-Clause), from the UCI set Optical Recognition of Handwritten Digits.",
        evaluation, "8x8 grey images, one digit in the middle. Anything else gets an answer, too: a wrong one.", "Model: Apache-2.0. Trained with jax (Apache-2.0).")
    Package(target, source).write(schema, preprocessing, golden, evaluation, card, "low")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=pathlib.Path, default=HERE / "build", help="what the training scripts wrote")
    parser.add_argument("--to", dest="target", type=pathlib.Path, default=HERE.parent, help="root of the project")
    args = parser.parse_args()
    models, fixtures = args.target / "models", args.target / "tests" / "fixtures"
    churn_data = args.source / "churn" / "data" / "eval.jsonl"
    for version, base in (("1.0.0", models), ("1.1.0", models), ("1.2.0", fixtures / "models"), ("2.0.0", fixtures / "models")):
        churn(args.source / "churn" / version, base / "churn" / version, churn_data, inside=False)
        rejected = args.source / "churn" / version / "rejected.jsonl"
        (fixtures / "rejected").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(rejected, fixtures / "rejected" / f"churn-{version}.jsonl")
    churn(args.source / "churn" / "1.1.0", models / "churn-pipeline" / "1.1.0", churn_data, inside=True)
    for version, base in (("1.0.0", models), ("1.1.0", fixtures / "models")):
        diabetes(args.source / "diabetes" / version, base / "diabetes" / version, args.source / "diabetes" / "data" / "eval.jsonl")
        digits(args.source / "digits" / version, base / "digits" / version, args.source / "digits" / "data" / "eval.npz", png=True)
    digits(args.source / "digits" / "1.0.0", models / "digits-array" / "1.0.0", args.source / "digits" / "data" / "eval.npz", png=False)


if __name__ == "__main__":
    main()
