"""Where the checkout is that this package runs from: the tiny CLIP, the specs and the notebooks lie there."""

from __future__ import annotations

from pathlib import Path

from slakit.errors import ConfigError


def project_root() -> Path:
    """The folder of the checkout; ConfigError when the package was installed without one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "pyproject.toml").is_file() or not (root / "data").is_dir():
        raise ConfigError(
            f"the data folder of the slakit checkout is not beside {root / 'slakit'}; clone the repository and install "
            "it with `pip install -e .` to use what it ships"
        )
    return root


def demo_model(method: str = "sla-lora") -> Path:
    """The folder of the trained demo model that the checkout ships for `method`, for load_checkpoint().

    It knows MiniSign's glosses and nothing else. ConfigError, with the names that there are, for another method.
    """
    home = project_root() / "data" / "demo_models"
    there = sorted(path.parent.name for path in home.glob("*/model.json"))
    if method not in there:
        raise ConfigError(f"no demo model of {method!r} is shipped in {home}; there are: {', '.join(there) or 'none'}")
    return home / method
