"""Measures the overhead of a rollout and the time of a rollback, with the release server and wrk on the same cores.

usage: bench-rollouts.py [--seconds S] [--rounds N]      (in the project's root, after `make build`)
Rounds alternate between the cases on one server. Each case is compared with a run without a rollout directly before. Medians of the ratios
are reported.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

RELEASE = pathlib.Path("target/release")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# The rollout stays in its step until it is aborted. The margins are wide, because the judge would abort the slower candidate.
GUARDS = 'name = "bench"\n[guards]\nengine_time_margin = 0.999\ncost_margin = 0.999\n'
STEP = GUARDS + '[[steps]]\n{}\nhold = true\n'
CASES = {
    "routing, 0.01 %": STEP.format('kind = "canary"\nweight = 0.0001'),
    "routing by a field": 'key = "field:tenure_months"\n' + STEP.format('kind = "canary"\nweight = 0.0001'),
    "shadow of 10 %": STEP.format('kind = "shadow"\nshare = 0.1'),
    "shadow of 100 %": STEP.format('kind = "shadow"\nshare = 1.0'),
}


class Server:
    def __init__(self, directory):
        models = directory / "models/churn"
        models.mkdir(parents=True)
        for version in ("1.0.0", "1.1.0"):
            shutil.copytree(f"models/churn/{version}", models / version)
        environment = {**os.environ, "PREDICTD_STATE__URL": str(directory / "state"), "PREDICTD_SERVER__GRPC_LISTEN": "", "PREDICTD_ADMIN__LISTEN": "127.0.0.1:0", "PREDICTD_SERVER__DRAIN_GRACE_MS": "0"}
        command = [RELEASE / "predictd", "serve", "--models", directory / "models", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines = []
        while not any(line.startswith("admin") for line in lines):
            lines.append(self.process.stdout.readline())
        self.address = re.search(r"http://(\S+)/docs", "".join(lines)).group(1)
        self.admin = re.search(r"http://(\S+)", lines[-1]).group(1)
        self.order("rollback", {"to": "1.0.0", "never_stable": True, "reason": "a measurement"})

    def order(self, path, body):
        connection = http.client.HTTPConnection(self.admin)
        connection.request("POST", f"/admin/models/churn/{path}", json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    def metric(self, name):
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def script():
    """Writes a wrk script that sends one golden example. Returns its path."""
    body = json.dumps(json.loads(pathlib.Path("models/churn/1.0.0/golden.jsonl").read_text().splitlines()[0])["input"])
    with tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False) as file:
        file.write(f"wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = [[{body}]]\n")
    return file.name


SCRIPT = script()


def wrk(address, connections, seconds):
    command = ["wrk", "-t", str(min(connections, 2)), "-c", str(connections), "-d", f"{seconds}s", "-s", SCRIPT, "--latency", f"http://{address}/models/churn/predict"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in output and "Socket errors" not in output, output
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1)), milliseconds(re.search(r"(?m)^\s+50%\s+(\S+)", output).group(1))


def measure(server, seconds):
    """Returns requests per second and CPU microseconds per request with 64 callers, and the median time in ms with 4 callers."""
    before, served = cpu_seconds(server.process.pid), server.metric("predictd_requests_total")
    throughput, _ = wrk(server.address, 64, seconds)
    requests = server.metric("predictd_requests_total") - served
    cpu = (cpu_seconds(server.process.pid) - before) / requests * 1e6
    _, p50 = wrk(server.address, 4, seconds)
    return throughput, p50, cpu


def cost(server, arguments):
    seen = {case: [] for case in CASES}
    measure(server, arguments.seconds)  # The first run warms up.
    for _ in range(arguments.rounds):
        for case, plan in CASES.items():
            # The speed of the machine changes from minute to minute, so each case has its own run without a rollout.
            without = measure(server, arguments.seconds)
            server.order("rollout/start", {"to": ["1.1.0"], "plan": {"text": plan}})
            seen[case].append((without, measure(server, arguments.seconds)))
            server.order("rollout/abort", {"reason": "measured"})
    print("medians of the ratios to a run without a rollout directly before; 64 callers, p50 with 4 callers")
    print(f"{'case':<20} {'req/s without':>14} {'throughput':>11} {'p50':>7} {'CPU per request':>15}")
    for case, pairs in seen.items():
        ratio = [statistics.median(run[at] / without[at] for without, run in pairs) for at in (0, 1, 2)]
        base = statistics.median(without[0] for without, _ in pairs)
        print(f"{case:<20} {base:>14,.0f} {ratio[0]:>11.3f} {ratio[1]:>7.3f} {ratio[2]:>15.3f}")
    copies, dropped = server.metric("predictd_shadow_requests_total"), server.metric("predictd_shadow_dropped_total")
    print(f"copies answered {copies:,.0f}, dropped {dropped:,.0f}")


def rollback(server, times=20):
    """Measures the time from a rollback command to the first answer of the old version, with callers on the same cores."""
    body = pathlib.Path("models/churn/1.0.0/golden.jsonl").read_text().splitlines()[0]
    body = json.dumps(json.loads(body)["input"])
    load = subprocess.Popen(["wrk", "-t", "1", "-c", "16", "-d", "60s", "-s", SCRIPT, f"http://{server.address}/models/churn/predict"], stdout=subprocess.PIPE, text=True)
    ordered, answered = [], []
    for turn in range(times):
        to, first, done = ("1.1.0", "1.0.0")[turn % 2], threading.Event(), threading.Event()
        seen = {}

        def ask():
            connection = http.client.HTTPConnection(server.address)
            while not done.is_set() or "at" not in seen:
                connection.request("POST", "/models/churn/predict", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                first.set()
                if answer.getheader("x-model-version") == to and "at" not in seen:
                    seen["at"] = time.monotonic()

        asker = threading.Thread(target=ask)
        asker.start()
        first.wait()
        start = time.monotonic()
        server.order("rollback", {"to": to})
        ordered.append((time.monotonic() - start) * 1e3)
        done.set()
        asker.join()
        answered.append((seen["at"] - start) * 1e3)
    load.terminate()
    output = load.communicate()[0]
    show = lambda values: f"median {statistics.median(values):.1f} ms, worst {max(values):.1f} ms"
    print(f"rollback under load, {times} times: acknowledged {show(ordered)}; first answer of the other version {show(answered)}; failed requests 0")
    assert "Non-2xx" not in output, output


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = Server(pathlib.Path(directory))
        try:
            cost(server, arguments)
            rollback(server)
        finally:
            server.process.terminate()
            server.process.wait(30)
            os.unlink(SCRIPT)


main()
