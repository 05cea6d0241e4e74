"""Model and video -> glosses, times, files: every forward pass that is not training's."""
