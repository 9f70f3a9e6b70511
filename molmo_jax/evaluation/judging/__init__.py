"""Scores from a language model as judge: its prompts and what its replies mean, without a network.

`judge` asks about predictions in rounds: it returns the requests that have no answer yet, and
scores where all answers are there. The command is `molmo-jax judge`.
"""

from __future__ import annotations

from molmo_jax.evaluation.judging.kinds import KINDS
from molmo_jax.evaluation.judging.rounds import Judged, Request, judge

__all__ = ['KINDS', 'Judged', 'Request', 'judge']
