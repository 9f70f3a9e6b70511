"""One evaluation from model to files: predictions.jsonl, summary.json and report.html in a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from rich.console import Console

from molmo_jax.data.manifest import Manifest, ManifestError
from molmo_jax.evaluation.journal import identity, open_journal
from molmo_jax.evaluation.media import load_media
from molmo_jax.evaluation.published import published_numbers
from molmo_jax.evaluation.report import write_report
from molmo_jax.evaluation.runner import EvaluationConfig, evaluate
from molmo_jax.evaluation.summary import print_published, print_table, summarise, write_summary
from molmo_jax.model.molmo import Molmo
from molmo_jax.parallel.processes import from_first, is_first
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.progress import Display


def run_evaluation(model: Molmo, params: Any, manifest: Manifest, preprocess: PreprocessConfig,
                   tokenizer: Tokenizer,
                   config: EvaluationConfig, slots: int, mesh: Mesh, folder: Path, console: Console,
                   *, title: str,
                   settings: Mapping[str, Any], curves: Sequence[Mapping[str, Any]] | None = None,
                   overwrite: bool = False) -> dict[str, Any]:
  """Evaluates, writes the three files into `folder`, prints the table, and returns the summary
  (`{}` in all processes but the first).

  Predictions are on disk as soon as they are made: an evaluation that was interrupted resumes
  there, and one that is complete is not repeated, unless `overwrite`. All processes call it; the
  first writes.

  Raises:
    ManifestError: not one record of the manifest could be used.
  """
  total = min(len(manifest), config.limit) if config.limit else len(manifest)
  # what predictions depend on
  decisive = [preprocess, model.config, config.generation, config.limit]
  journal = open_journal(folder, identity(manifest, decisive, params), writes=is_first(),
                         overwrite=overwrite)
  done = from_first(sorted(journal.done))
  if done:
    console.print(f'{len(done)} of {total} examples were evaluated before (--overwrite: again)',
                  highlight=False)
  finished, shapes = len(done), set()
  with Display(console, 'evaluating', total, finished) as display:
    for results in evaluate(model, params, manifest, preprocess, tokenizer, config, slots, mesh,
                            set(done), shapes):
      journal.add(results)
      finished += len(results)
      display.update(finished)
  records, problems = journal.finish()
  if not from_first(len(records)):
    raise ManifestError(f'{manifest.path}: none of {total} records could be evaluated; the first: '
      f'{problems[0]}')
  if not is_first():
    return {}
  summary = summarise(records) | {'manifest': str(manifest.path), 'skipped': len(problems),
                                  'published': published_numbers(records, manifest)}
  write_summary(folder / 'summary.json', summary)
  write_report(folder / 'report.html', summary, records,
               lambda record: load_media(record, preprocess.video), title,
               settings, pictures_per_task=config.shown_per_task, curves=curves)
  print_table(summary, console)
  print_published(summary['published'], console)
  if summary['judged']:
    console.print('to be judged: molmo-jax judge '
      f'--predictions={folder}/predictions.jsonl --manifest={manifest.path} --folder={folder}/judge', highlight=False, soft_wrap=True)
  if problems:
    console.print(f'[yellow]{len(problems)} records could not be used and are not scored; the '
      f'first: {problems[0]}')
  console.print(f'{len(shapes)} shapes of batches, two programs each (prompts, answers)',
                highlight=False)
  console.print(f'written: {folder}/summary.json, predictions.jsonl, report.html', highlight=False)
  return summary
