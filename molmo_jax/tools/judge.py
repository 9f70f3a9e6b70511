"""Has predictions scored by a language model: writes the requests, reads the answers, and scores.

The first run writes DIR/requests.jsonl. Answer every line of it into DIR/answers.jsonl with any
language model, and run the same command again until no request is left. Then DIR/judged.json has
the scores. docs/evaluation.md shows the lines.

Examples:
  molmo-jax judge --predictions runs/mine/evaluation/predictions.jsonl --manifest mine/val.jsonl \\
    --folder runs/mine/judged
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from molmo_jax.command_line import make_parser
from molmo_jax.data.manifest import read_manifest
from molmo_jax.data.unusable import usable
from molmo_jax.evaluation.judging import KINDS, judge
from molmo_jax.evaluation.judging.rounds import read_answers, requests_text
from molmo_jax.evaluation.predictions import Prediction, read_predictions
from molmo_jax.files import write_atomically
from molmo_jax.preprocess.types import Example
from molmo_jax.visible import say


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; exit status: 0 with scores, 3 while answers are missing, 2 for errors."""
  parser = make_parser('judge', __doc__)
  parser.add_argument('--predictions', type=Path, required=True, help='predictions.jsonl of an '
                      'evaluation')
  parser.add_argument('--manifest', type=Path, required=True, help='what was evaluated')
  parser.add_argument('--folder', type=Path, required=True, help='of requests.jsonl, answers.jsonl '
                      'and judged.json')
  options = parser.parse_args(arguments)
  try:
    pairs = paired(read_predictions(options.predictions), options.manifest)
    judged = judge(pairs, read_answers(options.folder / 'answers.jsonl'))
  except (OSError, ValueError) as error:   # MolmoErrors among them
    say(f'error: {error}', file=sys.stderr)
    return 2
  write_atomically(options.folder / 'requests.jsonl', requests_text(judged.requests))
  if judged.requests:
    say(f'{len(judged.requests)} requests are to be answered: {options.folder}/requests.jsonl → '
          f'answers.jsonl; {len(judged.scores)} of {len(pairs)} predictions are scored',
          file=sys.stderr)
    return 3
  examples = [{'id': pairs[place][1].id, 'scores': scores}
              for place, scores in sorted(judged.scores.items())]
  summary = {'means': judged.means(), 'n': len(pairs), 'examples': examples}
  write_atomically(options.folder / 'judged.json',
                   json.dumps(summary, ensure_ascii=False, indent=2) + '\n')
  for name, value in judged.means().items():
    say(f'{name}: {value:.4f}', file=sys.stderr)
  return 0


def paired(records: list[Prediction], manifest: Path) -> list[tuple[str, Example]]:
  """(prediction, example) of every record whose metric a judge scores.

  Raises:
    ValueError: a record of another manifest, or none that is to be judged.
  """
  examples = {(e.id or e.source): e for e in usable(read_manifest(manifest))}
  pairs = []
  for record in records:
    if record.metric in KINDS:
      if record.id not in examples:
        raise ValueError(f"{manifest}: there is no example '{record.id}'; are the predictions of "
                         "another manifest?")
      pairs.append((record.prediction, examples[record.id]))
  if not pairs:
    raise ValueError(f"no prediction's metric is one that a judge scores: {', '.join(KINDS)}")
  return pairs


if __name__ == '__main__':
  sys.exit(main())
