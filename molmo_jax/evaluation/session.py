"""One evaluation from model to files: predictions.jsonl, summary.json and report.html in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from molmo_jax.data.manifest import Manifest, ManifestError
from molmo_jax.evaluation.media import load_media
from molmo_jax.evaluation.records import write_records
from molmo_jax.evaluation.report import write_report
from molmo_jax.evaluation.runner import EvaluationConfig, evaluate
from molmo_jax.evaluation.summary import print_table, summarise, write_summary
from molmo_jax.model.molmo import Molmo
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.progress import Display


def run_evaluation(model: Molmo, params: Any, manifest: Manifest, preprocess: PreprocessConfig, tokenizer: Tokenizer,
                   config: EvaluationConfig, slots: int, folder: Path, console: Console, *, title: str,
                   settings: Mapping[str, Any], curves: Sequence[Mapping[str, Any]] | None = None,
                   place: Callable[[Any], Any]) -> dict[str, Any]:
  """Evaluates, writes the three files into `folder`, prints the table, and returns the summary.

  Raises:
    ManifestError: not one record of the manifest could be used.
  """
  total = min(len(manifest), config.limit) if config.limit else len(manifest)
  finished = 0

  def show(n: int) -> None:
    nonlocal finished
    finished += n
    display.update(finished)

  with Display(console, 'evaluating', total) as display:
    records, problems = evaluate(model, params, manifest, preprocess, tokenizer, config, slots, show, place)
  if not records:
    raise ManifestError(f'{manifest.path}: none of {total} records could be evaluated; the first: {problems[0]}')
  summary = summarise(records) | {'manifest': str(manifest.path), 'skipped': len(problems)}
  write_records(folder / 'predictions.jsonl', records)
  write_summary(folder / 'summary.json', summary)

  write_report(folder / 'report.html', summary, records, lambda record: load_media(record, preprocess.video), title,
               settings, pictures_per_task=config.shown_per_task, curves=curves)
  print_table(summary, console)
  if problems:
    console.print(f'[yellow]{len(problems)} records could not be used and are not scored; the first: {problems[0]}')
  console.print(f'written: {folder}/summary.json, predictions.jsonl, report.html', highlight=False)
  return summary
