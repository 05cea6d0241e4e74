"""Exercises of the lessons 04 to 09: SLA-LoRA, SLA-Adapter, AdaptSign, maps, videos of one's own."""

from __future__ import annotations

from slakit.lessons.exercises import Exercise

EXERCISES: dict[str, Exercise] = {}
