"""Multiple choice as Molmo2 was trained on it: many layouts, drawn anew for every example.

Source: allenai/molmo2 f3cb108 olmo/preprocessing/multiple_choice_templates.py. One in ten has the
layout of evaluation. Of the others a quarter is answered with the label alone, four in five of the
rest have labels, one in ten has its options in one line, and half have an instruction apart from
the question.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.data.wordings import draw

STANDARD = 0.1
LABEL_ONLY, LABELLED, INLINE, INSTRUCTION, COMMON_MARKER = 0.25, 0.8, 0.1, 0.5, 0.8
# labels, what stands around them, and what stands between options
PARTS: dict[str, Any] = tomllib.loads(
  Path(__file__).with_name('choices.toml').read_text(encoding='utf-8'))


def plain_choice(question: str, options: Sequence[str], unlabelled: bool = False
                 ) -> tuple[str, list[str]]:
  """The layout of evaluation: the text that asks, and what is answered for every option."""
  lines = list(options) if unlabelled else [
    f'{letter}. {option}' for letter, option in zip(string.ascii_uppercase, options)]
  return '\n'.join([question, 'Only return the correct answer option.', *lines]), lines


def drawn_choice(question: str, options: Sequence[str], rng: np.random.Generator,
                 wordings: Mapping[str, Sequence[str]], *, unlabelled: bool = False,
                 must_label: bool = False) -> tuple[str, list[str]]:
  """A layout of training: the text that asks, and what is answered for every option.

  Args:
    wordings: kinds 'choice_…' (data/wordings.toml).
    unlabelled: the layout of evaluation has no labels here: the options are labels themselves.
    must_label: the right option is blank, so that a label is needed for an answer.
  """
  if rng.random() < STANDARD:
    return plain_choice(question, options, unlabelled)
  label_only = rng.random() < LABEL_ONLY
  labelled = label_only or must_label or rng.random() < LABELLED
  inline, instructed = rng.random() < INLINE, rng.random() < INSTRUCTION
  lines, answers, kind, marker = list(options), list(options), '', ''
  if labelled:
    markers = PARTS['common' if rng.random() < COMMON_MARKER else 'unusual']
    marker = markers[rng.integers(len(markers))]
    fitting = [a for a in PARTS['alphabets'] if len(a['names']) >= len(options)]
    kind, names = fitting[rng.integers(len(fitting))].values()
    lines = [marker % name + option for name, option in zip(names, options)]
    answers = names[:len(options)] if label_only else lines
  listed = _listed(lines, options, labelled, inline, marker, rng)
  if labelled:
    part = rng.random()
    kind = kind if part < 0.6 else 'identifier' if part < 0.8 else 'label'
  fields = dict(question=question, options=listed, kind=kind)
  if not instructed:
    layouts = 'choice_layout_label' if label_only else 'choice_layout'
    return draw(wordings[layouts], rng, **fields), answers
  instructions = [*wordings['choice_instruction_label' if label_only else 'choice_instruction'],
                  *(wordings['choice_instruction_both'] if labelled and not label_only else ())]
  instruction = draw(instructions, rng, **fields)
  return draw(wordings['choice_layout_instruction'], rng, **fields,
              instruction=instruction), answers


def _listed(lines: list[str], options: Sequence[str], labelled: bool, inline: bool, marker: str,
            rng: np.random.Generator) -> str:
  """The options below each other, with bullets, or in one line."""
  separators = [s for s in PARTS['separators']
                if s not in marker.strip() and not any(o.endswith(s) for o in options)]
  separators += [''] if labelled else []
  if inline and separators:
    separator = separators[rng.integers(len(separators))]
    ends = [line if line.endswith(separator) else line + separator for line in lines[:-1]]
    return ' '.join([*ends, lines[-1]])
  if labelled or rng.random() >= 0.5:
    return '\n'.join(lines)
  bullet = PARTS['bullets'][rng.integers(len(PARTS['bullets']))]
  return '\n'.join(f'{bullet} {line}' for line in lines)
