"""Real clients against a running server: Triton's and KServe's Python clients, gRPC health and reflection,
the requests of TensorFlow Serving, MLflow, SageMaker and Vertex AI as their documentation has them, and schemathesis over /openapi.json.

usage: clients.py [PART ...]      (from the project's root, after `make build`; parts: oip, fields, grpc, kserve, rows, openapi)
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import clients_fields
import clients_grpc
import clients_oip
import clients_rows
from harness import bare_repository, run_all, server

HERE = pathlib.Path(__file__).resolve().parent
# A generated request may have a deadline that cannot be met. 504 is the right answer to it.
SCHEMATHESIS = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]\n'
JUDGEMENTS = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance,response_headers_conformance"


def check_openapi(url):
    """Requests generated from the document, valid and invalid: no server error, and the document describes every answer."""
    with tempfile.TemporaryDirectory() as home:
        config = pathlib.Path(home) / "schemathesis.toml"
        config.write_text(SCHEMATHESIS, encoding="utf-8")
        command = [pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", config, "--no-color", "run", f"{url}/openapi.json", "--checks", JUDGEMENTS,
                   "--max-examples", "25", "--seed", "1", "--request-timeout", "20", "--warnings", "off"]
        result = subprocess.run(command, cwd=home, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    summary = [line.strip() for line in result.stdout.splitlines() if "Tested:" in line or "generated" in line]
    assert result.returncode == 0 and len(summary) == 2, result.stdout + result.stderr
    return ", ".join(summary)


def check_kserve(running, bare):
    """Runs clients_kserve.py, which prints its own lines."""
    result = subprocess.run([sys.executable, HERE / "clients_kserve.py", running.url, running.grpc, bare.url, bare.grpc])
    assert result.returncode == 0, f"{result.returncode} checks failed"
    return "in a process of its own"


PARTS = {
    "oip": lambda running, bare: clients_oip.checks(bare),
    "fields": lambda running, bare: clients_fields.checks(running),
    "grpc": clients_grpc.checks,
    "kserve": lambda running, bare: [("kserve", check_kserve, running, bare)],
    "rows": clients_rows.checks,
    "openapi": lambda running, bare: [("schemathesis", check_openapi, running.url)],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as repository:
        bare_repository(repository)
        with server(environment={"PREDICTD_MODELS__DEFAULT": "churn"}) as running, server(models=repository) as bare:
            failures = sum(run_all(PARTS[part](running, bare)) for part in parts)
            if failures:  # inside the block, so that the logs of the servers are printed
                sys.exit(f"{failures} checks failed")


if __name__ == "__main__":
    main()
