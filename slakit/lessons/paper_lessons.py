"""Exercises of the lessons 10 and above, for papers: scoring, ablations, many GPUs, other systems, true maps."""

from __future__ import annotations

from slakit.lessons.exercises import Exercise

EXERCISES: dict[str, Exercise] = {}
