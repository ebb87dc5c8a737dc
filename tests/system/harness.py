"""Shared by the system tests: the real server on free ports, a repository of bare graphs, plain HTTP requests."""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

PREDICTD = "target/release/predictd"
PATIENCE = 60
# No listener has a fixed port, so that several servers can run at once.
FREE_PORTS = {"PREDICTD_SERVER__GRPC_LISTEN": "127.0.0.1:0", "PREDICTD_ADMIN__LISTEN": "127.0.0.1:0"}


class Server:
    """A running server. Its addresses are read from its standard output."""

    def __init__(self, process):
        self.process, self.lines, self.over, self.news = process, [], False, threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line)
                self.news.notify_all()
        with self.news:
            self.over = True
            self.news.notify_all()

    def said(self, pattern):
        """Waits for a line that matches, and returns its group."""
        found = []

        def look():
            found.extend(match.group(1) for match in (re.search(pattern, line) for line in self.lines) if match)
            return found or self.over

        with self.news:
            self.news.wait_for(look, PATIENCE)
            assert found, f"no line matches {pattern!r}: {self.lines}"
        return found[0]

    @property
    def url(self):
        return self.said(r"is ready on (http://\S+)")

    @property
    def address(self):
        return self.url.removeprefix("http://")

    @property
    def grpc(self):
        return self.said(r"^grpc\s+(\S+)")

    @property
    def admin(self):
        return self.said(r"^admin\s+(http://\S+)")


@contextlib.contextmanager
def server(*wrapper, models="models", listen="127.0.0.1:0", environment=None):
    """Starts a server on free ports and waits until it is ready. `listen=None` leaves the address to the environment."""
    with tempfile.TemporaryDirectory() as state, open(pathlib.Path(state) / "stderr", "w+", encoding="utf-8") as stderr:
        settings = {"PREDICTD_STATE__URL": f"{state}/state", "PREDICTD_SERVER__DRAIN_GRACE_MS": "50", "PREDICTD_MODELS__ROOT": str(models), **FREE_PORTS, **(environment or {})}
        command = [*wrapper, PREDICTD, "serve", *(["--listen", listen] if listen else [])]
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=stderr, text=True)
        running = Server(process)
        running.log = lambda: pathlib.Path(stderr.name).read_text(encoding="utf-8")
        try:
            running.url
            yield running
        except BaseException:
            print("the server's last words:", *running.log().splitlines()[-20:], sep="\n  ", file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(PATIENCE)


class Answer:
    """An answer with any status."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:600]!r}"

    def json(self):
        """Strict JSON, without NaN and Infinity."""
        def refuse(word):
            raise AssertionError(f"{word} is not JSON: {self!r}")
        try:
            return json.loads(self.body, parse_constant=refuse)
        except ValueError as error:
            raise AssertionError(f"not JSON ({error}): {self!r}") from None

    def ok(self):
        """The document of an answer, which must be 200."""
        assert self.status == 200, self
        return self.json()


def ask(url, body=None, headers=None, method=None):
    """Sends a request without additions. `body` is bytes, or a document that is sent as JSON."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("content-type", "application/json")
    if body is not None:
        headers.setdefault("content-type", "application/octet-stream")
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def run_all(checks):
    """Runs (name of the client, check, its arguments) and prints their results. All run, even if some fail. Returns the number of failures."""
    failures = 0
    for who, check, *given in checks:
        try:
            print(f"{who}: {check(*given)}", flush=True)
        except Exception:
            failures += 1
            print(f"{who}: {getattr(check, '__name__', check)} FAILED", traceback.format_exc(), sep="\n", flush=True)
    return failures


def golden(name, version):
    with open(f"models/{name}/{version}/golden.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def until(condition, what):
    """Waits until a condition is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"after {PATIENCE} s still not: {what}"
        time.sleep(0.01)


LABELS = ["dry", "wet", "windy"]
# A configuration for Triton, with a key that predictd does not read.
LABELLED = """name: "labelled"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [
  {
    name: "y"
    data_type: TYPE_FP32
    dims: [ 3 ]
    label_filename: "labels.txt"  # one a line
  }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { max_queue_delay_microseconds: 100 }
optimization { graph { level: 1 } }
"""
SEVERAL = 'name: "several"\nversion_policy: { all { } }\n'
DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES"]


def bare_repository(root):
    """A model repository without manifests, in the layout of Triton, KServe and TensorFlow Serving."""
    fixtures = pathlib.Path("tests/fixtures/onnx")

    def lay(name, graph, version=1, config=None):
        directory = pathlib.Path(root) / name
        (directory / str(version)).mkdir(parents=True)
        (directory / str(version) / "model.onnx").write_bytes(graph)
        if config:
            (directory / "config.pbtxt").write_text(config, encoding="utf-8")

    def graph(name):
        return (fixtures / f"{name}.onnx").read_bytes()

    half = graph("identity_fp16")
    # The fixtures have no BF16: the element type of FP16's two tensors (field 1, then the shape, field 2) becomes 16.
    bfloat = half.replace(b"\x08\x0a\x12", b"\x08\x10\x12")
    assert sum(old != new for old, new in zip(half, bfloat)) == 2 and len(half) == len(bfloat), "the fixture changed"
    for datatype in DATATYPES:
        lay(f"identity_{datatype.lower()}", bfloat if datatype == "BF16" else graph(f"identity_{datatype.lower()}"))
    for name in ("add_sub", "scalar", "no_input", "fixed_batch", "string_echo", "nonfinite", "fails_out_of_range", "slow"):
        lay(name, graph(name))
    lay("labelled", graph("identity_fp32"), config=LABELLED)
    (pathlib.Path(root) / "labelled" / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    for version in (1, 2, 10):
        lay("several", graph("add_sub"), version, config=SEVERAL)
