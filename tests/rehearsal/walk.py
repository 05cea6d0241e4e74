"""How the rehearsal walks: commands in processes of their own, outside the checkout; steps, timed and told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    """One station: what it does, and the stations before it that it needs."""

    name: str
    act: Callable[[Walk], str | None]
    needs: tuple[str, ...] = ()


@dataclass
class Walk:
    """work: an empty folder, where everything is written and from where everything is called. every_spec: one run of
    each. roots: corpus -> its folder; backbone, archive: the tower and its weights; shared: what steps hand on."""

    work: Path
    full: bool
    device: str
    jobs: int
    every_spec: bool = False
    roots: dict[str, Path] = field(default_factory=dict)
    backbone: str = ""
    archive: Path = Path()
    shared: dict[str, Any] = field(default_factory=dict)

    def walk(self, steps: Sequence[Step]) -> int:
        """All steps, `jobs` at a time, each after those that it needs; the table; how many did not hold."""
        self.work.mkdir(parents=True, exist_ok=True)
        begin, worked = time.perf_counter(), _processor_seconds()
        left, done, failed = list(steps), set(), {}
        going: dict[Future, Step] = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            while left or going:
                for step in [step for step in left if set(step.needs) <= done]:
                    left.remove(step)
                    going[pool.submit(self._take, step, failed)] = step
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    step = going.pop(future)
                    seconds, told, held = future.result()
                    done.add(step.name)
                    if not held:
                        failed[step.name] = told
                    print(f"{seconds:7.1f} s  {step.name:24} {told}", flush=True)
        seconds, worked = time.perf_counter() - begin, _processor_seconds() - worked
        held = f"{len(done) - len(failed)} of {len(done)} steps held"
        load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"\n{seconds:7.1f} s in all ({worked:.0f} s of processors{load}), {held}, device {self.device}")
        for name, told in failed.items():
            print(f"  {name}: {told}")
        return len(failed)

    def _take(self, step: Step, failed: Mapping[str, str]) -> tuple[float, str, bool]:
        """(seconds, what it told, whether it held) of one step."""
        begin = time.perf_counter()
        if missing := set(failed) & set(step.needs):
            return 0.0, f"not walked: {', '.join(sorted(missing))} did not hold", False
        try:
            told, held = step.act(self) or "fine", True
        except Exception as error:  # a table of all that does not hold, not of the first
            told, held = f"FAILED: {error}", False
            if not isinstance(error, AssertionError):
                traceback.print_exc()
        return time.perf_counter() - begin, told, held

    def environment(self) -> dict[str, str]:
        """The checkout's package, no bars, one thread on a CPU."""
        values = {"PYTHONPATH": str(ROOT), "SLAKIT_PROGRESS": "0", "PYTHONUNBUFFERED": "1"}
        return os.environ | values | ({} if self.full else {"OMP_NUM_THREADS": "1"})

    def run(self, *command: object, rc: int = 0, seconds: float = 600) -> str:
        """A command's output, both streams; AssertionError with its end where it leaves with another code."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words, cwd=self.work, env=self.environment(), text=True, timeout=seconds,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        told = f"{' '.join(words)}\n  ended with {done.returncode}: …{done.stdout[-1500:]}"
        assert done.returncode == rc, told
        # torchrun on the second of two machines may find the first gone when all is done, says so, and ends with 0
        ours = re.sub(r"(?m)^E\d{4} .*torch/distributed/elastic/agent/server/api\.py:.*$", "", done.stdout)
        assert "Traceback" not in ours, told
        return done.stdout

    def slakit(self, *arguments: object, rc: int = 0, seconds: float = 600) -> str:
        """python -m slakit …"""
        return self.run(sys.executable, "-m", "slakit", *arguments, rc=rc, seconds=seconds)

    def stopped(self, *arguments: object, when: Callable[[], bool]) -> tuple[int, str]:
        """python -m slakit …, interrupted (as by Ctrl-C) as soon as `when` says so: (exit code, output)."""
        command = [sys.executable, "-m", "slakit", *map(str, arguments)]
        with open(self.work / "stopped.log", "w+") as log:
            run = subprocess.Popen(command, cwd=self.work, env=self.environment(), stdout=log, stderr=log)
            while run.poll() is None and not when():
                time.sleep(0.05)
            if run.poll() is None:
                run.send_signal(signal.SIGINT)
            code = run.wait(timeout=120)
            log.seek(0)
            return code, log.read()

    def notebook(self, name: str, **parameters: Any) -> dict[str, Any]:
        """papermill on a notebook, as its page says, from outside the checkout; what its metrics.json holds."""
        folder = self.work / "notebooks" / name
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"out_dir": str(folder), **parameters})  # JSON is YAML
        (path,) = (ROOT / "notebooks").glob(f"[0-9][0-9]_{name}.ipynb")
        self.run(
            sys.executable, "-m", "papermill", path, folder / "run.ipynb", "--cwd", path.parent,
            "-y", text, "--no-progress-bar", "--log-level", "ERROR", "-k", "python3",
        )  # fmt: skip
        return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))

    def model(self, prefix: str = "--model.", **more: Any) -> list[str]:
        """Options of the command line for the tower at hand."""
        values = {"backbone": self.backbone, "pretrained": self.archive, "hidden-size": 1024 if self.full else 64}
        return [word for key, value in (values | more).items() for word in (f"{prefix}{key}", str(value))]

    def model_options(self) -> dict[str, Any]:
        """The same as a notebook takes them."""
        return {"backbone": self.backbone, "pretrained": str(self.archive), "hidden_size": 1024 if self.full else 64}

    def on_device(self) -> list[str]:
        return ["--device", self.device]


def _processor_seconds() -> float:
    """Of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
