"""One evaluation from model to files: predictions.jsonl, summary.json and report.html."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from molmo_jax.data.formatting import WordedManifest
from molmo_jax.data.manifest import Manifest, ManifestError
from molmo_jax.data.unusable import BadRecordError, SkippedRecords, record_at
from molmo_jax.errors import MolmoError
from molmo_jax.evaluation.compare import (
  as_json,
  compare,
  pair_predictions,
  print_comparison,
  read_evaluation,
)
from molmo_jax.evaluation.compare_report import write_comparison
from molmo_jax.evaluation.journal import identity, open_journal
from molmo_jax.evaluation.media import load_media
from molmo_jax.evaluation.published import published_numbers
from molmo_jax.evaluation.report import write_report
from molmo_jax.evaluation.runner import EvaluationConfig, evaluate
from molmo_jax.evaluation.summary import chances_of, print_published, print_table, summarise
from molmo_jax.files import read_json, write_json
from molmo_jax.folder_lock import locked
from molmo_jax.inference.loaded import LoadedModel
from molmo_jax.parallel.processes import from_first, is_first
from molmo_jax.preprocess.encode import encode
from molmo_jax.preprocess.types import Example, PreprocessConfig
from molmo_jax.processor.processor import Processor
from molmo_jax.progress import Display
from molmo_jax.terminal import Terminal


@dataclasses.dataclass(frozen=True)
class Heading:
  """What a report says about the model that was evaluated."""
  title: str
  settings: Mapping[str, Any]                 # of the run, nested
  curves: Sequence[Mapping[str, Any]] | None = None   # lines of its metrics.jsonl


def run_evaluation(model: LoadedModel, manifest: Manifest | WordedManifest,
                   config: EvaluationConfig, folder: Path, console: Terminal, heading: Heading,
                   overwrite: bool = False, replace: bool = False) -> dict[str, Any]:
  """Evaluates, writes the three files into `folder`, and prints the table.

  Predictions are on disk as soon as they are made: an interrupted evaluation continues where it
  was, and a complete one is not repeated, unless `overwrite`. All processes call this; the first
  writes.

  Args:
    model: with the processor that prepares the examples.
    manifest: what is asked.
    config: how answers are generated.
    folder: where the files go.
    console: gets the table.
    heading: of the report.
    overwrite: answers again what was answered before, and replaces whatever is in the folder.
    replace: replaces the evaluation of another model, manifest or settings in the folder.

  Returns:
    The summary; `{}` in all processes but the first.

  Raises:
    ManifestError: not one record of the manifest could be used.
    MolmoError: the folder has another evaluation, or another process works there.
  """
  total = min(len(manifest), config.limit) if config.limit else len(manifest)
  key = identity(manifest, decisive(model, manifest, config), model.params)
  if not (overwrite or replace):
    _check_same(folder / 'summary.json', key)
  with locked(folder) if is_first() else contextlib.nullcontext():
    journal = open_journal(folder, key, writes=is_first(), overwrite=overwrite)
    done = from_first(sorted(journal.done))
    if done:
      console.print(f'{len(done)} of {total} examples were evaluated before (--overwrite: again)')
    finished = len(done)
    with Display(console, 'evaluating', total, finished) as display:
      for results in evaluate(model, manifest, config, set(done)):
        journal.add(results)
        finished += len(results)
        display.update(finished)
    predictions, problems = journal.finish()
    if is_first():
      (folder / 'skipped_records.jsonl').unlink(missing_ok=True)
      names = SkippedRecords(folder / 'skipped_records.jsonl')
      for index, result in sorted(journal.done.items()):
        if isinstance(result, str):
          names.add(manifest.source(index), result)
    if not from_first(len(predictions)):
      raise ManifestError(f'{manifest.path}: none of {total} records could be evaluated; the '
                          f'first: {problems[0]}')
    if not is_first():
      return {}
    chances = chances_of(list(_usable(manifest))) if total < len(manifest) else {}
    summary = summarise(predictions, chances=chances) | {
      'manifest': str(manifest.path), 'skipped': len(problems), 'identity': key,
      'published': published_numbers(predictions, manifest),
      'first_prompt': first_prompt(manifest, model.processor)}
    write_json(folder / 'summary.json', summary)
    write_report(folder / 'report.html', summary, predictions,
                 lambda prediction: load_media(prediction, model.processor.config),
                 heading.title, heading.settings, pictures_per_task=config.shown_per_task,
                 curves=heading.curves)
  print_table(summary, console)
  print_published(summary['published'], console)
  console.print(f'the first prompt, whole:\n{summary["first_prompt"]}')
  if summary['judged']:
    console.print(f'to be judged: molmo-jax judge --predictions={folder}/predictions.jsonl '
                  f'--manifest={manifest.path} --folder={folder}/judge')
  if problems:
    console.print(f'{len(problems)} records could not be used and are not scored (named in '
                  f'{folder}/skipped_records.jsonl); the first: {problems[0]}', style='yellow')
  console.print(f'compiled programs: {model.generator.compilations}')
  console.print(f'written: {folder}/summary.json, predictions.jsonl, report.html')
  return summary


def _check_same(path: Path, identity: str) -> None:
  """Raises MolmoError where `path` is the summary of an evaluation of something else."""
  try:
    there = read_json(path)['identity']
  except (OSError, ValueError, TypeError, KeyError):   # no evaluation that is complete
    return
  if there != identity:
    raise MolmoError(f'{path.parent} has the evaluation of another checkpoint, manifest or '
                     'setting; give another folder as --out, or replace it with --overwrite')


def decisive(model: LoadedModel, manifest: Manifest | WordedManifest, config: EvaluationConfig
             ) -> list[Any]:
  """The settings that predictions depend on: a changed one asks again."""
  worded = manifest.formatter.content if isinstance(manifest, WordedManifest) else None
  return [model.processor.config, model.config, config.generation, config.limit, worded]


def _usable(manifest: Manifest | WordedManifest) -> Iterator[Example]:
  for index in range(len(manifest)):
    with contextlib.suppress(MolmoError):
      yield manifest[index]


def first_prompt(manifest: Manifest | WordedManifest, processor: Processor) -> str:
  """The whole prompt of the first usable record, with equal visual tokens counted."""
  for index in range(len(manifest)):
    try:
      with record_at(manifest.source(index)):
        row = encode(manifest[index], processor.config, processor.tokenizer, training=False)
    except BadRecordError:
      continue
    text = processor.tokenizer.decode(row.tokens.tolist(), keep_special=True)
    return re.sub(r'(<[^<>\s]+>)\1+', lambda m: f'{m[1]}×{len(m[0]) // len(m[1])}', text)
  return ''


def write_overall(folder: Path, tasks: Sequence[str], published: Mapping[str, Any],
                  console: Terminal) -> None:
  """Writes and prints the summary of several evaluations: of the folders `tasks` in `folder`."""
  predictions = [p for task in tasks for p in read_evaluation(folder / task)]
  summaries = {task: read_json(folder / task / 'summary.json') for task in tasks}
  chances = {name: line['chance'] for of_task in summaries.values()
             for name, line in of_task['tasks'].items()}
  summary = summarise(predictions, chances=chances) | {
    'published': published,
    'first_prompts': {task: of_task['first_prompt'] for task, of_task in summaries.items()}}
  write_json(folder / 'summary.json', summary)
  print_table(summary, console)
  console.print(f'written: {folder}/summary.json, and a folder for every task')


def compare_evaluations(folders: tuple[str, str], out: Path, console: Terminal) -> None:
  """Prints the paired differences of two evaluations; writes comparison.json and comparison.html.

  Raises:
    CompareError: two evaluations that cannot be compared.
  """
  pairs = pair_predictions(*map(read_evaluation, folders))
  found = compare(pairs)
  print_comparison(found, folders, console)
  write_json(out / 'comparison.json', as_json(found))
  write_comparison(out / 'comparison.html', found, pairs, folders,
                   lambda prediction: load_media(prediction, PreprocessConfig()))
  console.print(f'written: {out / "comparison.json"}, comparison.html')
