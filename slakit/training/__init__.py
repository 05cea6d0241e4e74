"""Training: fit(), the loop, the state of a run, losses, presets, memory."""
