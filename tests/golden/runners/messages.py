"""Message trees: tokens, targets, loss weights, positions and segments of every golden example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess.sequence import (
  LOSS_WEIGHTS,
  LossWeight,
  SequenceRules,
  TokenSequence,
  build_sequence,
)
from tests.golden.stub_tokenizer import StubTokenizer

# Our field, and the golden array that holds it.
FIELDS = {
  'tokens': 'input_tokens',
  'targets': 'target_tokens',
  'loss_weights': 'loss_masks',
  'positions': 'position_ids',
  'segments': 'subsegment_ids',
}


def recognises(folder: Path) -> bool:
  """True for a folder with one JSON file that lists examples with messages, and one archive of
  `ex.…` arrays.
  """
  return _find(folder) is not None


def run(folder: Path) -> list[tuple[str, str | None]]:
  """Checks every example; (name, None) or (name, what is wrong)."""
  cases, arrays = load(folder)
  return [(f'messages {example["name"]}', check_example(example, cases, arrays))
          for example in cases['examples']]


def load(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """The cases and all arrays of a folder that `recognises` accepts."""
  found = _find(folder)
  if found is None:
    raise ValueError(f'{folder} holds no golden message trees')
  cases, archive = found
  with np.load(archive) as data:
    return cases, dict(data)


def check_example(example: dict[str, Any], cases: dict[str, Any],
                  arrays: dict[str, np.ndarray]) -> str | None:
  """None, or one line that says how the example differs."""
  try:
    sequence = sequence_of(example, cases)
  except Exception as error:  # whatever goes wrong is this case's result
    return None if example.get('error') else f'{type(error).__name__}: {error}'
  if example.get('error'):
    return f'should fail ({example["error"]}), gave {len(sequence.tokens)} tokens'
  for field, golden in FIELDS.items():
    expected = arrays.get(f'ex.{example["name"]}.{golden}')
    if expected is None:
      if golden == 'subsegment_ids':          # only stored for trees
        continue
      return f'the archive lacks ex.{example["name"]}.{golden}'
    got = getattr(sequence, field)
    if got.shape != expected.shape:
      return f'{field}: shape {got.shape}, expected {expected.shape}'
    wrong = np.flatnonzero(np.abs(got.astype(np.float64) - expected)
                           > (1e-6 if field == 'loss_weights' else 0))
    if len(wrong):
      return (f'{field}[{wrong[0]}] is {got[wrong[0]]}, expected {expected[wrong[0]]} '
        f'({len(wrong)} differ)')
  return None


def sequence_of(example: dict[str, Any], cases: dict[str, Any]) -> TokenSequence:
  """The sequence that this project builds for a golden example."""
  messages = example['messages']
  conversations = messages if messages and isinstance(messages[0], list) else [messages]
  default = LOSS_WEIGHTS[example.get('loss_token_weighting') or 'none']
  return build_sequence(
    conversations,
    [np.asarray(tokens, np.int32) for tokens in example.get('mm_tokens') or []],
    tokenize=StubTokenizer(cases['special_token_ids']),
    bos_id=cases['bos_token_id'],
    eos_id=cases['eos_token_id'],
    branch_weights=_branch_weights(example.get('weight'), default, len(conversations)),
    rules=SequenceRules(default, max_sequence_length=example.get('max_sequence_length'),
                        max_text_tokens=example.get('max_text_tokens'),
                        last_message_loss_only=bool(example.get('last_message_loss_only')),
                        max_answer_length=example.get('max_answer_len')))


def _branch_weights(weight: Any, default: LossWeight, branches: int) -> list[LossWeight | None]:
  weights = weight if isinstance(weight, list) else [weight] * branches
  return [_weight(w, default) for w in weights]


def _weight(weight: Any, default: LossWeight) -> LossWeight | None:
  if weight is None:
    return None
  if isinstance(weight, dict):
    return LossWeight(scale=1.0 if weight.get('weight') is None else weight['weight'],
                      root_length=bool(weight.get('root_length')),
                      root_branches=bool(weight.get('root_subsegments')))
  return LossWeight(weight, default.root_length, default.root_branches)


def _find(folder: Path) -> tuple[dict[str, Any], Path] | None:
  archives = [p for p in sorted(folder.glob('*.npz')) if _has_examples(p)]
  if not archives:
    return None
  for path in sorted(folder.glob('*.json')):
    try:
      cases = json.loads(path.read_text())
    except ValueError:
      continue
    examples = cases.get('examples') if isinstance(cases, dict) else None
    if isinstance(examples, list) and examples and all(isinstance(e, dict) and 'messages' in e
                                                       for e in examples):
      return cases, archives[0]
  return None


def _has_examples(archive: Path) -> bool:
  try:
    with np.load(archive) as data:
      return any(name.startswith('ex.') for name in data.files)
  except (OSError, ValueError):
    return False
