"""Measures the release server with wrk, compares it with an echo server and ONNX Runtime alone, and prints ratios.

usage: bench.py [--seconds S] [--rounds N]      (in the project's root; `make bench` builds the binaries)
CPU time is that of the server process, from /proc. Rounds alternate between the servers, and medians are reported.
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request

RELEASE = pathlib.Path("target/release")
MODEL = "churn/1.1.0"
TICK = os.sysconf("SC_CLK_TCK")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
QUIET = {"PREDICTD_SERVER__DRAIN_GRACE_MS": "0", "PREDICTD_SERVER__GRPC_LISTEN": "", "PREDICTD_ADMIN__LISTEN": ""}


def golden():
    with open(f"models/{MODEL}/golden.jsonl", encoding="utf-8") as lines:
        return [json.loads(line)["input"] for line in lines]


@contextlib.contextmanager
def predictd(*arguments):
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, **QUIET, "PREDICTD_STATE__URL": state}
        process = subprocess.Popen([RELEASE / "predictd", "serve", "--listen", "127.0.0.1:0", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            line = process.stdout.readline()
            yield process.pid, re.search(r"http://(\S+)", line).group(1), float(re.search(r"after (\d+) ms", line).group(1))
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def echo(answer_bytes):
    process = subprocess.Popen([RELEASE / "examples/bench-echo", str(answer_bytes)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(30)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def metric(address, name):
    with urllib.request.urlopen(f"http://{address}/metrics") as response:
        text = response.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name) and 'version="1.1.0"' in line)


def load(pid, address, path, script, connections, seconds):
    before = cpu_seconds(pid)
    threads = min(connections, 2)
    output = subprocess.run(["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "-s", script, "--latency", f"http://{address}{path}"], capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", output).group(1))
    assert "Non-2xx" not in output and "Socket errors" not in output, output
    return {"rps": float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1)), "cpu_us": (cpu_seconds(pid) - before) / requests * 1e6, "p50": re.search(r"(?m)^\s+50%\s+(\S+)", output).group(1), "p99": re.search(r"(?m)^\s+99%\s+(\S+)", output).group(1)}


def raw(rows, seconds=1.0):
    return json.loads(subprocess.run([RELEASE / "examples/bench-raw", "run", f"models/{MODEL}", str(rows), str(seconds)], capture_output=True, text=True, check=True).stdout)


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def request_lua(body):
    file = tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False)
    file.write(f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\nwrk.headers["content-type"] = "application/json"\n')
    file.close()
    return file.name


def bench_load(seconds, rounds):
    body = json.dumps(golden()[1])
    script = request_lua(body)
    print(f"\n{MODEL}, POST /predict, one instance ({len(body)} bytes); CPU of the server process per request")
    print(f"{'connections':>11} {'server':>10} {'req/s':>9} {'CPU us':>8} {'p50':>9} {'p99':>9}  rows per run, raw us per row, (CPU - raw) / echo's CPU")
    with predictd() as (pid, address, _):
        request = urllib.request.Request(f"http://{address}/models/churn/predict", body.encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            answer = len(response.read())
        with echo(answer) as (echo_pid, echo_address):
            for connections in (1, 8, 64):
                ours, theirs = [], []
                rows_before, runs_before = metric(address, "predictd_batch_size_sum"), metric(address, "predictd_batch_size_count")
                for _ in range(rounds):
                    ours.append(load(pid, address, "/models/churn/predict", script, connections, seconds))
                    theirs.append(load(echo_pid, echo_address, "/predict", script, connections, seconds))
                rows = (metric(address, "predictd_batch_size_sum") - rows_before) / (metric(address, "predictd_batch_size_count") - runs_before)
                alone = raw(max(1, round(rows)))["row_us"]
                ratio = (median(ours, "cpu_us") - alone) / median(theirs, "cpu_us")
                for name, results in (("echo", theirs), ("predictd", ours)):
                    extra = f"  {rows:.1f} rows, {alone:.2f} us, {ratio:.2f}" if name == "predictd" else ""
                    print(f"{connections:>11} {name:>10} {median(results, 'rps'):>9.0f} {median(results, 'cpu_us'):>8.1f} {results[0]['p50']:>9} {results[0]['p99']:>9}{extra}")
    os.unlink(script)


@contextlib.contextmanager
def over_grpc(*command, pattern, **more):
    """Runs a server that prints its gRPC address. Yields (process id, address)."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **more)
    try:
        yield process.pid, next(match.group(1) for match in (re.search(pattern, line) for line in process.stdout) if match)
    finally:
        process.terminate()
        process.wait(30)


def grpc_load(pid, address, seconds):
    before = cpu_seconds(pid)
    result = json.loads(subprocess.run([RELEASE / "examples/bench-grpc-load", address, str(seconds)], capture_output=True, text=True, check=True).stdout)
    return {**result, "cpu_us": (cpu_seconds(pid) - before) / result["requests"] * 1e6}


def bench_grpc(seconds, rounds):
    print("\nadd_sub, ModelInfer, two raw inputs of [1, 4] float32; 64 requests in flight over 4 connections")
    print(f"{'server':>10} {'req/s':>9} {'CPU us':>8} {'p50 us':>8} {'p99 us':>8}")
    with tempfile.TemporaryDirectory() as root:
        version = pathlib.Path(root, "models/add_sub/1")
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(pathlib.Path("tests/fixtures/onnx/add_sub.onnx").read_bytes())
        environment = {**os.environ, **QUIET, "PREDICTD_SERVER__GRPC_LISTEN": "127.0.0.1:0", "PREDICTD_STATE__URL": f"{root}/state"}
        serve = [RELEASE / "predictd", "serve", "--listen", "127.0.0.1:0", "--models", f"{root}/models"]
        with over_grpc(*serve, pattern=r"^grpc\s+(\S+)", env=environment) as ours, over_grpc(RELEASE / "examples/bench-grpc-echo", pattern=r"(\S+)") as theirs:
            results = {"echo": [], "predictd": []}
            for _ in range(rounds):
                results["echo"].append(grpc_load(*theirs, seconds))
                results["predictd"].append(grpc_load(*ours, seconds))
    for name, rows in results.items():
        print(f"{name:>10} {median(rows, 'rps'):>9.0f} {median(rows, 'cpu_us'):>8.1f} {median(rows, 'p50_us'):>8.0f} {median(rows, 'p99_us'):>8.0f}")
    print(f"predictd / echo: {median(results['predictd'], 'rps') / median(results['echo'], 'rps'):.2f} of the requests per second, {median(results['predictd'], 'cpu_us') / median(results['echo'], 'cpu_us'):.2f} of the CPU")


def bench_thousand(rounds):
    examples = golden()
    body = json.dumps({"instances": [examples[i % len(examples)] for i in range(1000)]}).encode()
    print(f"\n{MODEL}, 1,000 instances in one request ({len(body)} bytes), one caller")
    with predictd() as (_, address, _):
        connection = http.client.HTTPConnection(address)
        whole, alone, batches = [], [], []
        for _ in range(rounds):
            times = []
            for _ in range(60):
                start = time.perf_counter()
                connection.request("POST", "/models/churn/predict", body, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                times.append((time.perf_counter() - start) * 1e6)
                assert response.status == 200
            whole.append(statistics.median(times))
            alone.append(raw(1000)["run_us"])
            batches.append(raw(64)["row_us"] * 1000)
    print(f"whole request {statistics.median(whole):.0f} us; ONNX Runtime alone on the prepared tensor: {statistics.median(alone):.0f} us in one run, {statistics.median(batches):.0f} us in runs of 64")
    print(f"ratio {statistics.median(whole) / statistics.median(alone):.2f} (to one run)")


def bench_start(rounds):
    names = ["churn", "diabetes", "digits", "churn-pipeline"]
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            os.symlink(pathlib.Path("models", name).absolute(), pathlib.Path(directory, name))
        cold, remembered, resident = [], [], []
        for _ in range(rounds):
            with predictd("--models", directory) as (pid, address, ready):
                cold.append(ready)
                resident.append(resident_kib(pid))
        state = tempfile.mkdtemp()
        for round_ in range(rounds + 1):
            environment = {**os.environ, **QUIET, "PREDICTD_STATE__URL": state}
            process = subprocess.Popen([RELEASE / "predictd", "serve", "--listen", "127.0.0.1:0", "--models", directory], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            ready = float(re.search(r"after (\d+) ms", process.stdout.readline()).group(1))
            process.terminate()
            process.wait(30)
            if round_ > 0:
                remembered.append(ready)
        packages = [str(path) for name in names for path in sorted(pathlib.Path("models", name).iterdir())]
        bare = statistics.median(int(subprocess.run([RELEASE / "examples/bench-raw", "load", *packages * 2], capture_output=True, text=True, check=True).stdout) for _ in range(rounds))
    print(f"\nfour sample models ({len(packages)} versions): ready after {statistics.median(cold):.0f} ms, {statistics.median(remembered):.0f} ms with cached results of the load gate")
    print(f"resident after load {statistics.median(resident) / 1024:.1f} MiB; ONNX Runtime alone with the same sessions {bare / 1024:.1f} MiB; difference {(statistics.median(resident) - bare) / 1024:.1f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    bench_start(args.rounds)
    bench_thousand(args.rounds)
    bench_load(args.seconds, args.rounds)
    bench_grpc(args.seconds, args.rounds)


if __name__ == "__main__":
    main()
