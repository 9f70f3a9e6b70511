"""Evaluates a checkpoint, trained here or released, by generation on a manifest.

  python eval.py                                             # runs/scenes on its own validation set
  python eval.py --workdir=runs/blind --step=1000
  python eval.py --generation=temperature=0.7,seed=1 --out=runs/scenes/drawn   # greedy by default; docs/generation.md
  python eval.py --manifest=mine/questions.jsonl --out=runs/scenes/mine
  python eval.py --model=allenai/Molmo2-4B --tasks=chart_qa,short_video --data_root=data   # docs/evaluation.md
  python eval.py --compare runs/scenes runs/blind            # paired differences with p-values → comparison.html
  python eval.py --model=allenai/Molmo2-4B --manifest=mine/questions.jsonl   # a released checkpoint → runs/Molmo2-4B

Writes summary.json, predictions.jsonl and report.html (pictures, points, predictions, answers) into
<workdir>/evaluation, or the folder of --out. The configuration is the one that the run was trained
with; for --model it is configs/finetune.py, whose values can be set by flags when it is given as
--config.
"""

import dataclasses
import json
from pathlib import Path

import jax
from absl import app, flags, logging
from rich.console import Console

from configs import finetune as finetune_config
from molmo_jax import command_line
from molmo_jax import experiment as experiment_lib
from molmo_jax.checkpoint import native
from molmo_jax.data.manifest import Manifest, read_manifest
from molmo_jax.evaluation.compare import (
  as_json,
  compare,
  pair_predictions,
  print_comparison,
  read_evaluation,
)
from molmo_jax.evaluation.compare_report import write_comparison
from molmo_jax.evaluation.media import load_media
from molmo_jax.evaluation.runner import EvaluationConfig
from molmo_jax.evaluation.session import run_evaluation
from molmo_jax.evaluation.summary import print_table, summarise, write_summary
from molmo_jax.evaluation.tasks import resolve_tasks, task_manifest
from molmo_jax.files import write_atomically
from molmo_jax.inference.settings import GenerationConfig
from molmo_jax.initial import from_checkpoint
from molmo_jax.model.molmo import Molmo
from molmo_jax.parallel import processes
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.parallel.sharding import shardings_of
from molmo_jax.preprocess.types import PreprocessConfig, VideoConfig
from molmo_jax.scenes.prepare import prepare
from molmo_jax.training.state import init_params

MODEL = flags.DEFINE_string('model', None,
                            "a released checkpoint in place of a run's: folder, or id on the Hub")
CONFIG = command_line.define_config(None, 'default: the one that the run was trained with')
WORKDIR = flags.DEFINE_string('workdir', None,
                              'folder of the run; default: runs/<name of the run or model>')
MANIFEST = flags.DEFINE_string('manifest', None, 'what to evaluate on; default: data.validation')
TASKS = flags.DEFINE_string('tasks', '',
                            'benchmarks or groups of them: chart_qa,mvbench,short_video, or all')
VERSION = flags.DEFINE_enum('version', 'molmo2', ['molmo2', 'v1'],
                            'whose prompts and metrics the benchmarks have')
DATA_ROOT = flags.DEFINE_string('data_root', 'data',
                                'has a folder for the files of every benchmark')
MANIFESTS = flags.DEFINE_string('manifests', 'manifests',
                                'folder for the manifests of the benchmarks')
GENERATION = flags.DEFINE_list('generation', [], 'in place of the configured settings: '
                               'temperature=0.7,top_p=0.9 or beams=4 (docs/generation.md)')
OUT = flags.DEFINE_string('out', None, 'where the results go; default: <workdir>/evaluation')
COMPARE = flags.DEFINE_list('compare', [],
                            'two evaluations (folders of runs or of --out) instead of evaluating')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'ask again what was answered before')
DISTRIBUTED = flags.DEFINE_string('distributed', '', processes.HELP)
STEP = flags.DEFINE_integer('step', None, 'checkpoint; default: the newest')


def main(argv: list[str]) -> None:
  if COMPARE.value:
    # --compare a b leaves b to the arguments
    return compare_evaluations([*COMPARE.value, *argv[1:]], Console())
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {argv[1:]}; flags look like --workdir=runs/scenes')
  processes.initialize(DISTRIBUTED.value)
  tasks = resolve_tasks(TASKS.value, VERSION.value) if TASKS.value else []
  if tasks and MANIFEST.value:
    raise app.UsageError('give --tasks or --manifest, not both')
  console = Console(quiet=not processes.is_first())
  if MODEL.value:
    workdir = Path(WORKDIR.value or f'runs/{Path(MODEL.value).name}')
    config = experiment_lib.complete(CONFIG.value or finetune_config.get_config())
    config.init_from = MODEL.value
    config = from_checkpoint.adopt(config)
  else:
    workdir = Path(WORKDIR.value or f'runs/{CONFIG.value.name if CONFIG.value else "scenes"}')
    config = CONFIG.value or experiment_lib.load(workdir / 'config.json')
  given = generation_settings(GENERATION.value)
  config.evaluation.generation.update(given)
  run = experiment_lib.from_config(config)
  tokenizer = processes.first_then_others(
    lambda: prepare(run.data, run.scenes, run.model.llm.first_extra_id, console))

  mesh = make_mesh(run.mesh)
  jax.set_mesh(mesh)
  model = Molmo(run.model)
  shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
  shardings = shardings_of(shapes, mesh)
  if MODEL.value:
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, run.model.dtype, sharding=s),
                            shapes, shardings)
    params, step = from_checkpoint.load_params(run, abstract, console), 0
    title = MODEL.value
  else:
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes,
                            shardings)
    checkpoints = native.open_checkpoints(workdir / 'checkpoints', run.training.keep_checkpoints)
    params, step = native.restore_params(checkpoints, STEP.value, abstract)
    title = f'{run.name}, step {step}'

  def evaluate(manifest: Manifest, preprocess: PreprocessConfig, evaluation: EvaluationConfig,
               out: Path) -> dict:
    console.rule(f'{title} on {manifest.path}')
    return run_evaluation(model, params, manifest, preprocess, tokenizer, evaluation,
                          run.model.connector.pool_slots,
                          mesh, out, console, title=title,
                          settings=config.to_dict() | {'step': step},
                          overwrite=OVERWRITE.value)

  out = Path(OUT.value) if OUT.value else workdir / 'evaluation'
  if not tasks:
    evaluate(read_manifest(MANIFEST.value or run.data.validation), run.preprocess, run.evaluation,
             out)
    return
  published, records = {}, []
  for task in tasks:
    path = processes.first_then_others(
      lambda task=task: task_manifest(task, DATA_ROOT.value, MANIFESTS.value))
    generation = dataclasses.replace(run.evaluation.generation,
                                     max_new_tokens=given.get('max_new_tokens',
                                                              task.max_new_tokens))
    evaluation = dataclasses.replace(run.evaluation, generation=generation)
    summary = evaluate(read_manifest(path), task.preprocess(run.preprocess), evaluation,
                       out / task.label)
    if processes.is_first():
      published |= summary['published']
      records += read_evaluation(out / task.label)
  if processes.is_first():
    summary = summarise(records) | {'published': published}
    write_summary(out / 'summary.json', summary)
    console.rule(title)
    print_table(summary, console)
    console.print(f'written: {out}/summary.json, and a folder for every task', highlight=False)


def generation_settings(assignments: list[str]) -> dict[str, int | float | str]:
  """`['temperature=0.7', 'beams=2']` as a dictionary; names and values of fields of
  GenerationConfig.
  """
  kinds = {field.name: type(field.default) for field in dataclasses.fields(GenerationConfig)}
  found = {}
  for name, equals, value in (assignment.partition('=') for assignment in assignments):
    if not equals or name not in kinds:
      raise app.UsageError(f'--generation={name}{equals}{value}: give NAME=VALUE with one of '
        f'{", ".join(kinds)}')
    try:
      found[name] = (kinds[name] if kinds[name] in (int, float) else str)(value)
    except ValueError:
      raise app.UsageError(f'--generation={name}={value}: the value must be of type '
        f'{kinds[name].__name__}') from None
  return found


def compare_evaluations(folders: list[str], console: Console) -> None:
  """Prints the paired differences of two evaluations, and writes comparison.json and
  comparison.html.
  """
  if len(folders) != 2:
    raise app.UsageError('--compare needs two evaluations, as in --compare runs/a runs/b, not '
      f'{folders}')
  names = tuple(str(Path(folder)) for folder in folders)
  pairs = pair_predictions(*(read_evaluation(folder) for folder in folders))
  found = compare(pairs)
  print_comparison(found, names, console)
  out = Path(OUT.value or '.')
  write_atomically(out / 'comparison.json', json.dumps(as_json(found), indent=2) + '\n')
  write_comparison(out / 'comparison.html', found, pairs, names,
                   lambda record: load_media(record, VideoConfig()))
  console.print(f'written: {out / "comparison.json"}, comparison.html', highlight=False)


def run_main() -> None:
  logging.set_verbosity(logging.WARNING)
  with processes.orderly_end():
    app.run(main, flags_parser=command_line.parse_flags)


if __name__ == '__main__':
  run_main()
