"""Plays the story of docs/rollouts.md on a real server: a good candidate, a doubtful one, a failing one, a rollback.

`make demo`. Everything happens in a temporary directory; the ports are free ones. Exits 1 where the story does not end as told.
`demo.py load http://127.0.0.1:8080` only makes the load, and prints each second who answered.
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
    """Callers that ask as fast as they get answers, until the end."""

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
                sys.exit("the server did not start; its log:\n" + pathlib.Path(self.log.name).read_text())
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
        """One command of predictd, shown and run; of a long answer the first lines."""
        shown = [str(argument).replace(str(ROOT) + "/", "") for argument in arguments]
        print("$ predictd " + " ".join(f'"{argument}"' if " " in argument else argument for argument in shown), flush=True)
        environment = {**os.environ, "PREDICTD_SERVER": server.admin}
        start = time.monotonic()
        done = subprocess.run([PREDICTD, *arguments], env=environment, text=True, capture_output=True, cwd=ROOT)
        took = time.monotonic() - start
        told = (done.stdout + done.stderr).splitlines()
        print("\n".join(told[:lines] + ["..."] if lines and len(told) > lines else told), flush=True)
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
        sys.exit(f"waited in vain: {what}\n{json.dumps(status(), indent=1)}")

    say("churn 1.0.0 answers. Version 1.1.0 arrives; may it answer today's callers?")
    server.install(ROOT / "models/churn/1.1.0")
    run("compat", ROOT / "models/churn/1.0.0", ROOT / "models/churn/1.1.0", lines=6)
    say("It may. A shadow first, then 5 %, 50 %, all: the judge takes it from step to step.")
    run("rollout", "start", "churn", "--to", "1.1.0", "--plan", ROOT / "demo/plans/quick.toml", "--reason", "0.011 less log loss")
    wait("the canary of 5 %", lambda now: now["rollout"] and now["rollout"]["step"] == 1 and now["rollout"]["step_seconds"] > 2)
    run("rollout", "status", "churn")
    _, took = wait("1.1.0 is stable", lambda now: now["stable"]["version"] == "1.1.0" and not now["rollout"])
    run("rollout", "status", "churn")

    say("Version 1.2.0: its joins were damaged. A shadow shows that it answers otherwise, and asks a person.")
    server.install(ROOT / "tests/fixtures/models/churn/1.2.0")
    run("rollout", "start", "churn", "--to", "1.2.0", "--plan", ROOT / "demo/plans/look.toml")
    wait("the judge asks", lambda now: now["rollout"] and now["rollout"]["phase"] == "paused")
    run("rollout", "status", "churn")
    run("rollout", "abort", "churn", "--reason", "log loss is up by 0.007, and nobody asked for other labels")

    say("Version 1.3.0 fails on 3 % of the customers. Nobody watches.")
    server.install(ROOT / "demo/packages/churn/1.3.0")
    load.take()
    run("rollout", "start", "churn", "--to", "1.3.0", "--plan", ROOT / "demo/plans/canary.toml")
    now, took = wait("the judge aborts", lambda now: not now["rollout"])
    counts = load.take()
    asked = sum(count for (version, _), count in counts.items() if version == "1.3.0")
    failed = sum(count for (version, code), count in counts.items() if version == "1.3.0" and code != 200)
    print(f"{took:.1f} s after the start: {now['last']['reason']}")
    print(f"callers who met 1.3.0: {asked}, of whom {failed} got an error; all callers meanwhile: {sum(counts.values())}")

    say("Back to 1.0.0, under load.")
    load.take()
    _, took = run("rollback", "churn", "--reason", "a complaint at 3 a.m.")
    time.sleep(1)
    counts = load.take()
    print(f"the command took {took * 1000:.0f} ms; answers meanwhile, by version and status: " + ", ".join(f"{version} {code}: {count}" for (version, code), count in sorted(counts.items(), key=str)))
    if any(code != 200 for _, code in counts):
        sys.exit("a request failed during the rollback")
    load.end()

    say("Who did what, and has nobody altered it?")
    run("history", "churn")
    run("history", "churn", "--verify")


if __name__ == "__main__":
    main()
