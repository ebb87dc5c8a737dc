"""The dialects of rows, with requests from their own documentation: TensorFlow Serving, MLflow, SageMaker, Vertex AI."""
import base64
import csv
import io
import json
import socket

from harness import ask, golden, server


def refused(status, answer, *words):
    """Asserts an error in the form of KServe, TensorFlow Serving and Vertex AI."""
    assert answer.status == status, f"{status} was expected: {answer!r}"
    document = answer.json()
    assert list(document) == ["error"] and all(word in document["error"] for word in words), f"{words}: {answer!r}"


def bad_request(answer, *words, status=400):
    """Asserts an error in the form of MLflow."""
    assert answer.status == status, f"{status} was expected: {answer!r}"
    document = answer.json()
    assert set(document) == {"error_code", "message"} and all(word in document["message"] for word in words), f"{words}: {answer!r}"
    assert status != 400 or document["error_code"] == "BAD_REQUEST", answer


def held(predictions, examples, what):
    """Asserts that each prediction is an object with the fields of /predict."""
    assert len(predictions) == len(examples), f"{what}: {predictions}"
    for got, example in zip(predictions, examples):
        wanted = example["output"]
        assert got["label"] == wanted["label"], f"{what}: {got} where {wanted} was expected"
        assert got["probabilities"].keys() == wanted["probabilities"].keys(), f"{what}: {got}"
        assert all(abs(got["probabilities"][name] - value) <= example["tolerance"] for name, value in wanted["probabilities"].items()), f"{what}: {got} where {wanted} was expected"


def check_tensorflow_bare(url):
    """Graphs of one and several inputs, one and several outputs, in rows and in columns."""
    def predict(model, body):
        return ask(f"{url}/v1/models/{model}:predict", body)

    assert predict("identity_fp32", {"instances": [[1.0, 2.0, 5.0]]}).ok() == {"predictions": [[1.0, 2.0, 5.0]]}
    assert predict("identity_fp32", {"signature_name": "serving_default", "instances": [{"x": [1, 2]}, {"x": [3, 4]}]}).ok() == {"predictions": [[1.0, 2.0], [3.0, 4.0]]}
    assert predict("identity_int64", {"inputs": {"x": [[1, 2**62]]}}).ok() == {"outputs": [[1, 2**62]]}
    assert predict("identity_int64", {"inputs": [[1, 2], [3, 4]]}).ok() == {"outputs": [[1, 2], [3, 4]]}
    rows = {"instances": [{"a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}, {"a": [5, 5, 5, 5], "b": [0, 1, 2, 3]}]}
    assert predict("add_sub", rows).ok() == {"predictions": [{"sum": [2, 3, 4, 5], "difference": [0, 1, 2, 3]}, {"sum": [5, 6, 7, 8], "difference": [5, 4, 3, 2]}]}
    columns = {"inputs": {"a": [[1, 2, 3, 4], [5, 5, 5, 5]], "b": [[1, 1, 1, 1], [0, 1, 2, 3]]}}
    assert predict("add_sub", columns).ok() == {"outputs": {"sum": [[2, 3, 4, 5], [5, 6, 7, 8]], "difference": [[0, 1, 2, 3], [5, 4, 3, 2]]}}
    text = base64.b64encode("日本".encode()).decode()
    assert predict("identity_bytes", {"instances": [[{"b64": text}, "é"]]}).ok() == {"predictions": [["日本", "é"]]}
    versioned = ask(f"{url}/v1/models/several/versions/2:predict", rows).ok()
    assert versioned == ask(f"{url}/v1/models/several:predict", rows).ok() == ask(f"{url}/v1/models/several/labels/stable:predict", rows).ok(), versioned
    refused(400, predict("identity_fp32", {"instances": [[1.0]], "inputs": [[1.0]]}))
    refused(400, predict("identity_fp32", {}))
    refused(400, predict("identity_fp32", {"instances": []}))
    refused(400, predict("identity_fp32", {"instances": [[1.0], [1.0, 2.0]]}), "1")
    refused(400, predict("identity_fp32", {"signature_name": "other", "instances": [[1.0]]}), "serving_default")
    refused(400, predict("identity_fp32", b'{"instances": [[1.0]'))
    refused(400, predict("identity_int32", {"instances": [[0.5]]}))
    refused(400, predict("identity_int32", {"instances": [[2**31]]}))
    refused(400, predict("identity_fp32", {"instances": [["1.0"]]}))
    refused(404, predict("nowhere", {"instances": [1.0]}), "nowhere")
    refused(404, ask(f"{url}/v1/models/several/versions/9:predict", rows))
    refused(404, ask(f"{url}/v1/models/several/labels/canary:predict", rows), "canary")
    for verb in ("classify", "regress", "explain"):
        refused(501, ask(f"{url}/v1/models/add_sub:{verb}", {"examples": [{"a": 1}]}))
    return "rows and columns, b64, versions and labels, 12 faults; classify, regress and explain are 501"


def check_tensorflow_packages(url):
    examples = golden("churn", "1.1.0")
    inputs = [example["input"] for example in examples]
    held(ask(f"{url}/v1/models/churn:predict", {"instances": inputs}).ok()["predictions"], examples, "instances")
    held(ask(f"{url}/v1/models/churn/versions/1.0.0:predict", {"instances": [example["input"] for example in golden("churn", "1.0.0")]}).ok()["predictions"], golden("churn", "1.0.0"), "version 1.0.0")
    fields = schema_order("churn", "1.1.0")
    whole = [example for example in examples if set(example["input"]) == set(fields)]
    held(ask(f"{url}/v1/models/churn:predict", {"instances": [[example["input"][field] for field in fields] for example in whole]}).ok()["predictions"], whole, "lists in the schema's order")
    outputs = ask(f"{url}/v1/models/churn:predict", {"inputs": {field: [example["input"][field] for example in whole] for field in fields}}).ok()["outputs"]
    assert outputs["label"] == [example["output"]["label"] for example in whole] and len(outputs["probabilities"]) == len(whole), outputs
    image = golden("digits", "1.0.0")[0]
    got = ask(f"{url}/v1/models/digits:predict", {"instances": [{"image": {"b64": image["input"]["image"]}}, {"image": image["input"]["image"]}]}).ok()["predictions"]
    assert [str(each["digit"]) for each in got] == [image["output"]["digit"]] * 2, got
    wanted = golden("diabetes", "1.0.0")[0]
    got = ask(f"{url}/v1/models/diabetes:predict", {"instances": [wanted["input"]]}).ok()["predictions"]
    assert len(got) == 1 and abs(got[0] - wanted["output"]["prediction"]) <= wanted["tolerance"], f"one output is a bare value: {got}"
    refused(400, ask(f"{url}/v1/models/churn:predict", {"instances": [inputs[0], {**inputs[0], "age": 131}]}), "age", "1")
    refused(400, ask(f"{url}/v1/models/churn:predict", {"instances": [{**inputs[0], "colour": "red"}]}), "colour")
    assert "churn" in ask(f"{url}/v1/models").ok()["models"]
    for path in ("", "/versions/1.1.0", "/labels/stable"):
        status = ask(f"{url}/v1/models/churn{path}").ok()
        assert status["name"] == "churn" and status["ready"] is True, status
        found = {each["version"]: (each["state"], each["status"]) for each in status["model_version_status"]}
        assert found["1.1.0"] == ("AVAILABLE", {"error_code": "OK", "error_message": ""}), status
        assert path == "" or list(found) == ["1.1.0"], status
        metadata = ask(f"{url}/v1/models/churn{path}/metadata").ok()
        assert metadata["model_spec"]["name"] == "churn" and metadata["model_spec"]["version"] == "1.1.0", metadata
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        kinds = {name: about["dtype"] for name, about in signature["inputs"].items()}
        assert set(kinds) == set(fields) and (kinds["age"], kinds["plan"], kinds["paperless"]) == ("DT_DOUBLE", "DT_STRING", "DT_BOOL"), kinds
        assert set(signature["outputs"]) == {"label", "probabilities"}, signature
    refused(404, ask(f"{url}/v1/models/nowhere"), "nowhere")
    return f"{len(examples)} golden examples as rows and columns, an image as b64, status and metadata"


def schema_order(name, version):
    with open(f"models/{name}/{version}/schema.json", encoding="utf-8") as file:
        return list(json.load(file)["input"]["properties"])


def check_mlflow(url):
    """The forms of MLflow's scoring protocol. A server of several models needs a default model."""
    examples, fields = golden("churn", "1.1.0"), schema_order("churn", "1.1.0")
    records = [example["input"] for example in examples]
    table = [[record.get(field, False if field == "paperless" else None) for field in reversed(fields)] for record in records]
    forms = {
        "dataframe_split": {"columns": fields[::-1], "data": table},
        "dataframe_records": records,
        "instances": records,
    }

    def invoke(body, kind="application/json", **headers):
        return ask(f"{url}/invocations", body, {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}})

    for form, data in forms.items():
        held(invoke({form: data}).ok()["predictions"], examples, form)
    held(invoke({"dataframe_split": {"index": list(range(len(table))), **forms["dataframe_split"]}, "params": {}}).ok()["predictions"], examples, "dataframe_split with an index")
    held(invoke({"instances": records}, "application/json; charset=utf-8").ok()["predictions"], examples, "charset")
    held(invoke({"dataframe_records": [{**record, "colour": "red"} for record in records]}).ok()["predictions"], examples, "a column too many")
    whole = [example for example in examples if set(example["input"]) == set(fields)]
    got = invoke({"inputs": {field: [example["input"][field] for example in whole] for field in fields}}).ok()["predictions"]
    assert (got["label"] if isinstance(got, dict) else [each["label"] for each in got]) == [example["output"]["label"] for example in whole], got
    oip = {"inputs": [{"name": field, "shape": [1, 1], "datatype": {str: "BYTES", bool: "BOOL"}.get(type(records[0][field]), "FP64"), "data": [records[0][field]]} for field in fields]}
    answer = invoke(oip).ok()
    assert next(each for each in answer["outputs"] if each["name"] == "label")["data"] == [examples[0]["output"]["label"]], answer
    bad_request(invoke({"dataframe_records": records, "instances": records}))
    bad_request(invoke({"dataframe_records": []}))
    bad_request(invoke({"nothing": records}))
    bad_request(invoke(records))
    bad_request(invoke({"instances": records, "params": {"temperature": 1}}))
    bad_request(invoke({"instances": [{**records[0], "colour": "red"}]}), "colour")
    bad_request(invoke({"dataframe_records": [{**records[0], "age": 131}]}), "age")
    bad_request(invoke({"dataframe_records": [{field: value for field, value in records[0].items() if field != "plan"}]}), "plan")
    bad_request(invoke({"dataframe_split": {"columns": fields, "data": [[1, 2]]}}))
    bad_request(invoke(b"{"))
    bad_request(invoke(b"<xml/>", "application/xml"), status=415)
    for path in ("/ping", "/health", "/version"):
        assert ask(url + path).status == 200, path
    assert ask(f"{url}/version").body.decode().strip().strip('"') in ask(f"{url}/v2").ok()["version"], ask(f"{url}/version")
    return f"{len(forms) + 1} forms and OIP at /invocations answer {len(examples)} golden examples; 11 faults in MLflow's form"


def check_sagemaker(url):
    examples, fields = golden("churn", "1.1.0"), schema_order("churn", "1.1.0")
    records = [example["input"] for example in examples]

    def invoke(body, kind, accept=None, **headers):
        headers = {"content-type": kind, **({"accept": accept} if accept else {}), **{name.replace("_", "-"): value for name, value in headers.items()}}
        return ask(f"{url}/invocations", body if isinstance(body, bytes) else body.encode(), headers)

    def sheet(rows, header=()):
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerows([header] if header else [])
        writer.writerows([["" if value is None else str(value).lower() if isinstance(value, bool) else value for value in row] for row in rows])
        return out.getvalue()

    table = [[record.get(field, False if field == "paperless" else None) for field in fields] for record in records]
    held(invoke(sheet(table, fields), "text/csv").ok()["predictions"], examples, "CSV with a header")
    held(invoke(sheet(table), "text/csv").ok()["predictions"], examples, "CSV without a header")
    held(invoke(sheet(table), "text/csv; header=absent").ok()["predictions"], examples, "header=absent")
    held(invoke(sheet([row[::-1] for row in table], fields[::-1]), "text/csv; header=present").ok()["predictions"], examples, "header=present, another order")
    held(invoke(sheet([[*row, 7] for row in table], [*fields, "colour"]), "text/csv").ok()["predictions"], examples, "a column too many")
    lines = "".join(json.dumps(record) + "\n" for record in records)
    answer = invoke(lines, "application/jsonlines", "application/jsonlines")
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/jsonlines"), answer
    held([json.loads(line) for line in answer.body.decode().splitlines()], examples, "JSON Lines")
    held(invoke(lines, "application/jsonlines").ok()["predictions"], examples, "JSON Lines, answered in JSON")
    answer = invoke(sheet(table), "text/csv", "text/csv")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/csv"), answer
    rows = list(csv.reader(io.StringIO(answer.body.decode())))
    rows = rows[-len(examples):]
    assert len(rows) == len(examples) and all(example["output"]["label"] in row for row, example in zip(rows, examples)), answer
    for row, example in zip(rows, examples):
        numbers = [float(cell) for cell in row if cell != example["output"]["label"]]
        assert any(abs(number - example["output"]["probabilities"]["churn"]) <= example["tolerance"] for number in numbers), (row, example)
    held(invoke(json.dumps({"instances": records}), "application/json", "*/*").ok()["predictions"], examples, "Accept: */*")
    held(invoke(json.dumps(records[0]), "application/json").ok()["predictions"], examples[:1], "a bare instance")
    answer = invoke(json.dumps({"instances": records[:1]}), "application/json", x_amzn_sagemaker_custom_attributes="trace=7", x_amzn_sagemaker_inference_id="ours")
    assert answer.status == 200 and answer.headers["x-amzn-sagemaker-custom-attributes"] == "trace=7", answer
    wanted = golden("diabetes", "1.0.0")[0]
    got = invoke(json.dumps({"instances": [wanted["input"]]}), "application/json", x_amzn_sagemaker_target_model="diabetes").ok()["predictions"]
    assert abs(got[0] - wanted["output"]["prediction"]) <= wanted["tolerance"], got
    about = ask(f"{url}/execution-parameters").ok()
    assert about["MaxConcurrentTransforms"] >= 1 and about["BatchStrategy"] in ("MULTI_RECORD", "SINGLE_RECORD") and about["MaxPayloadInMB"] >= 1, about
    assert ask(f"{url}/ping").status == 200
    bad_request(invoke(sheet([[1, 2]]), "text/csv"))
    bad_request(invoke("", "text/csv"))
    bad_request(invoke(lines + "{", "application/jsonlines"))
    bad_request(invoke(b"\x93NUMPY", "application/x-npy"), status=415)
    bad_request(invoke("{}", "application/json", x_amzn_sagemaker_target_model="nowhere"), "nowhere", status=404)
    return f"{len(examples)} golden examples as CSV with and without a header, JSON Lines and JSON, answered in each; 5 faults"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def check_vertex():
    """The environment of a container on Vertex AI, which chooses the routes."""
    port, health, predict = free_port(), "/v1/endpoints/7/deployedModels/8", "/v1/endpoints/7/deployedModels/8:predict"
    environment = {"AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": health, "AIP_PREDICT_ROUTE": predict, "AIP_MODE": "PREDICTION", "PREDICTD_MODELS__DEFAULT": "churn"}
    examples = golden("churn", "1.1.0")
    with server(listen=None, environment=environment) as running:
        url = f"http://127.0.0.1:{port}"
        assert running.url.endswith(f":{port}"), running.url
        assert ask(url + health).status == 200, ask(url + health)
        held(ask(url + predict, {"instances": [example["input"] for example in examples]}).ok()["predictions"], examples, "Vertex AI")
        refused(400, ask(url + predict, {"instances": [{**examples[0]["input"], "age": 131}]}), "age")
        refused(400, ask(url + predict, {"instances": []}))
    port = free_port()
    with server(listen=None, environment={"SAGEMAKER_BIND_TO_PORT": str(port), "PREDICTD_MODELS__DEFAULT": "churn"}):
        assert ask(f"http://127.0.0.1:{port}/ping").status == 200
    return "port and routes from AIP_*, port from SAGEMAKER_BIND_TO_PORT"


def checks(running, bare):
    """(name of the client, check, its arguments), for a server over models/ where churn is the default, and one over the bare repository of harness.py."""
    yield "TensorFlow Serving", check_tensorflow_bare, bare.url
    yield "TensorFlow Serving, KServe v1", check_tensorflow_packages, running.url
    yield "MLflow", check_mlflow, running.url
    yield "SageMaker", check_sagemaker, running.url
    yield "Vertex AI, SageMaker", check_vertex
