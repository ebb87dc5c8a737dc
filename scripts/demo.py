"""Runs the example of docs/rollouts.md on a real server: a good candidate, a doubtful one, a failing one, a rollback.

Run it with `make demo`. It uses a temporary directory and free ports. Exits 1 if a rollout does not end as expected.
`demo.py load http://127.0.0.1:8080` only sends requests, and prints every second the answers by version and status.
"""
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PREDICTD = ROOT / "target/release/predictd"
CUSTOMERS = [line.encode() for line in (ROOT / "demo/customers.jsonl").read_text().splitlines()]
CALLERS = 4


class Load:
    """Callers that send the next request as soon as they have an answer."""

    def __init__(self, address):
        self.address, self.stop, self.lock = address, False, threading.Lock()
        self.counts = {}
        self.callers = [threading.Thread(target=self.call, args=(index,), daemon=True) for index in range(CALLERS)]
        for caller in self.callers:
            caller.start()

    def call(self, index):
        connection = http.client.HTTPConnection(*self.address)
        while not self.stop:
            index = (index + CALLERS) % len(CUSTOMERS)
            try:
                connection.request("POST", "/models/churn/predict", CUSTOMERS[index], {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                key = (answer.getheader("x-model-version"), answer.status)
            except OSError as error:
                if self.stop:
                    return
                key = (None, str(error))
            with self.lock:
                self.counts[key] = self.counts.get(key, 0) + 1

    def end(self):
        self.stop = True
        for caller in self.callers:
            caller.join()

    def take(self):
        with self.lock:
            counts, self.counts = self.counts, {}
        return counts


class Server:
    def __init__(self, directory):
        self.models = directory / "models"
        self.models.mkdir()
        self.install(ROOT / "models/churn/1.0.0")
        self.log = (directory / "log").open("w+")
        environment = {
            **os.environ, "PREDICTD_STATE__URL": str(directory / "state"), "PREDICTD_MODELS__POLL_SECONDS": "0.2",
            "PREDICTD_SERVER__GRPC_LISTEN": "", "PREDICTD_ADMIN__LISTEN": "127.0.0.1:0", "PREDICTD_TELEMETRY__LOG_FORMAT": "json",
        }
        arguments = [PREDICTD, "serve", "--models", self.models, "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT)
        lines = []
        while not any(line.startswith("admin") for line in lines):
            line = self.process.stdout.readline()
            if not line:
                sys.exit("the server did not start. Its log:\n" + pathlib.Path(self.log.name).read_text())
            lines.append(line)
        self.url = next(line.split()[1] for line in lines if line.startswith("docs")).removesuffix("/docs")
        self.admin = lines[-1].split()[1]

    def address(self):
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def install(self, package):
        target = self.models / package.parent.name
        target.mkdir(exist_ok=True)
        shutil.copytree(package, target / f".{package.name}")
        (target / f".{package.name}").rename(target / package.name)


def say(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def only_load(url):
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    load = Load((host, int(port)))
    while True:
        time.sleep(1)
        print("  ".join(f"{version} {code}: {count}" for (version, code), count in sorted(load.take().items(), key=str)), flush=True)


def main():
    if sys.argv[1:2] == ["load"]:
        try:
            only_load(sys.argv[2])
        except KeyboardInterrupt:
            return
    with tempfile.TemporaryDirectory() as directory:
        server = Server(pathlib.Path(directory))
        load = Load(server.address())
        try:
            play(server, load)
        finally:
            load.stop = True
            server.process.terminate()
            server.process.wait()


def play(server, load):
    def run(*arguments, expect=0, lines=None):
        """Prints and runs one command of predictd. `lines` limits the printed output."""
        shown = [str(argument).replace(str(ROOT) + "/", "") for argument in arguments]
        print("$ predictd " + " ".join(f'"{argument}"' if " " in argument else argument for argument in shown), flush=True)
        environment = {**os.environ, "PREDICTD_SERVER": server.admin}
        start = time.monotonic()
        done = subprocess.run([PREDICTD, *arguments], env=environment, text=True, capture_output=True, cwd=ROOT)
        took = time.monotonic() - start
        output = (done.stdout + done.stderr).splitlines()
        print("\n".join(output[:lines] + ["..."] if lines and len(output) > lines else output), flush=True)
        if done.returncode != expect:
            sys.exit(f"exit {done.returncode}, expected {expect}")
        return done.stdout, took

    def status():
        environment = {**os.environ, "PREDICTD_SERVER": server.admin}
        done = subprocess.run([PREDICTD, "rollout", "status", "churn", "--json"], env=environment, text=True, capture_output=True)
        return json.loads(done.stdout)

    def wait(what, condition, seconds=120):
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            now = status()
            if condition(now):
                return now, time.monotonic() - start
            time.sleep(0.1)
        sys.exit(f"timed out waiting for: {what}\n{json.dumps(status(), indent=1)}")

    say("Version 1.0.0 is stable. Check whether its callers can use version 1.1.0.")
    server.install(ROOT / "models/churn/1.1.0")
    run("compat", ROOT / "models/churn/1.0.0", ROOT / "models/churn/1.1.0", lines=6)
    say("Roll out 1.1.0: a shadow step, then 5 %, 50 % and 100 %. The judge advances each step.")
    run("rollout", "start", "churn", "--to", "1.1.0", "--plan", ROOT / "demo/plans/quick.toml", "--reason", "0.011 less log loss")
    wait("the canary of 5 %", lambda now: now["rollout"] and now["rollout"]["step"] == 1 and now["rollout"]["step_seconds"] > 2)
    run("rollout", "status", "churn")
    _, took = wait("1.1.0 is stable", lambda now: now["stable"]["version"] == "1.1.0" and not now["rollout"])
    run("rollout", "status", "churn")

    say("Version 1.2.0 was trained on damaged data. The shadow step shows that its predictions differ, and the judge asks a person.")
    server.install(ROOT / "tests/fixtures/models/churn/1.2.0")
    run("rollout", "start", "churn", "--to", "1.2.0", "--plan", ROOT / "demo/plans/shadow.toml")
    wait("the judge pauses the rollout", lambda now: now["rollout"] and now["rollout"]["phase"] == "paused")
    run("rollout", "status", "churn")
    run("rollout", "abort", "churn", "--reason", "log loss is up by 0.007, and nobody asked for other labels")

    say("Version 1.3.0 fails for 3 % of the customers. The judge aborts its rollout.")
    server.install(ROOT / "demo/packages/churn/1.3.0")
    load.take()
    run("rollout", "start", "churn", "--to", "1.3.0", "--plan", ROOT / "demo/plans/canary.toml")
    now, took = wait("the judge aborts", lambda now: not now["rollout"])
    counts = load.take()
    sent = sum(count for (version, _), count in counts.items() if version == "1.3.0")
    failed = sum(count for (version, code), count in counts.items() if version == "1.3.0" and code != 200)
    print(f"{took:.1f} s after the start: {now['last']['reason']}")
    print(f"requests to 1.3.0: {sent}, of which {failed} failed; all requests in this time: {sum(counts.values())}")

    say("Roll back to 1.0.0 under load.")
    load.take()
    _, took = run("rollback", "churn", "--reason", "a complaint at 3 a.m.")
    time.sleep(1)
    counts = load.take()
    print(f"the command took {took * 1000:.0f} ms; answers in this time, by version and status: " + ", ".join(f"{version} {code}: {count}" for (version, code), count in sorted(counts.items(), key=str)))
    if any(code != 200 for _, code in counts):
        sys.exit("a request failed during the rollback")
    load.end()

    say("Show who decided what, and check that no entry was altered.")
    run("history", "churn")
    run("history", "churn", "--verify")


if __name__ == "__main__":
    main()
