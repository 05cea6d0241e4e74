"""What a wheel takes along: [tool.slakit.shipped] of pyproject.toml becomes slakit/_shipped; all else is said there."""

import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
KINDS = (".ipynb", ".yaml", ".csv", ".md", ".tex", ".json", ".safetensors")  # not what somebody keeps beside them


class WithShippedFiles(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # a checkout: slakit.shipped() finds them where they are
            return
        places = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["slakit"]["shipped"]
        target = Path(self.build_lib, "slakit", "_shipped")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for name, folder in places.items():
            for path in sorted((ROOT / folder).rglob("*")):
                inside = path.relative_to(ROOT / folder)
                if path.is_file() and path.suffix in KINDS and not any(p.startswith(".") for p in inside.parts):
                    self.mkpath(str((target / name / inside).parent))
                    self.copy_file(str(path), str(target / name / inside))


setup(cmdclass={"build_py": WithShippedFiles})
