"""Evaluates a checkpoint, trained here or released, by generation on a manifest.

  python eval.py                                         # runs/scenes on its own validation set
  python eval.py --workdir=runs/blind --step=1000
  python eval.py --generation=temperature=0.7,seed=1 --out=runs/scenes/sampled  # docs/generation.md
  python eval.py --manifest=mine/questions.jsonl --out=runs/scenes/mine
  python eval.py --model=allenai/Molmo2-4B --tasks=chart_qa,short_video --data_root=data
  python eval.py --model=allenai/Molmo2-4B --manifest=mine/questions.jsonl   # into runs/Molmo2-4B
  python eval.py --compare runs/scenes runs/blind        # paired differences with p-values

Benchmarks: docs/evaluation.md. Generation is greedy by default.
Writes summary.json, predictions.jsonl and report.html (pictures, points, predictions, answers) into
<workdir>/evaluation, or the folder of --out. With --manifest, --step, --generation or --tasks the
folder carries their names, so that the run's own evaluation stays. The configuration is the one
that the run was trained with; for --model it is configs/finetune.py, whose values can be set by
flags when it is given as --config.
"""

import dataclasses
import re
from pathlib import Path

import jax
from absl import app, flags, logging

from configs import finetune as finetune_config
from molmo_jax import command_line
from molmo_jax import experiment as experiment_lib
from molmo_jax.checkpoint import native
from molmo_jax.data.formatting import WordedManifest
from molmo_jax.data.manifest import read_manifest
from molmo_jax.datasets import resolve_tasks, task_manifest
from molmo_jax.evaluation import session
from molmo_jax.inference.loaded import LoadedModel
from molmo_jax.inference.settings import parse_settings
from molmo_jax.initial import from_checkpoint
from molmo_jax.pages.curves import read_metrics
from molmo_jax.parallel import processes
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.processor.processor import Processor
from molmo_jax.scenes.prepare import prepare
from molmo_jax.terminal import Terminal
from molmo_jax.training.state import abstract_params

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
OUT = flags.DEFINE_string('out', None, 'where the results go; default: <workdir>/evaluation, with '
                          'the name of the manifest')
COMPARE = flags.DEFINE_list('compare', [],
                            'two evaluations (folders of runs or of --out) instead of evaluating')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'ask again what was answered before')
DISTRIBUTED = flags.DEFINE_string('distributed', '', processes.HELP)
STEP = flags.DEFINE_integer('step', None, 'checkpoint; default: the newest')


def main(argv: list[str]) -> None:
  """One evaluation, or the comparison of two."""
  if COMPARE.value:
    # --compare a b leaves b to the arguments
    folders = [str(Path(folder)) for folder in [*COMPARE.value, *argv[1:]]]
    if len(folders) != 2:
      raise app.UsageError('--compare needs two evaluations, as in --compare runs/a runs/b, '
                           f'not {folders}')
    names = (re.sub(r'\W+', '_', folder).strip('_') for folder in folders)
    out = Path(OUT.value or f'comparison_{"_".join(names)}')
    return session.compare_evaluations(folders, out, Terminal())
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {argv[1:]}; flags look like --workdir=runs/scenes')
  tasks = resolve_tasks(TASKS.value, VERSION.value) if TASKS.value else []
  if tasks and MANIFEST.value:
    raise app.UsageError('give --tasks or --manifest, not both')
  processes.initialize(DISTRIBUTED.value)
  console = Terminal(quiet=not processes.is_first())

  # ---- configuration -----------------------------------------------------------------------------
  if MODEL.value:
    workdir = Path(WORKDIR.value or f'runs/{Path(MODEL.value).name}')
    config = experiment_lib.complete(CONFIG.value or finetune_config.get_config())
    config.init_from = MODEL.value
    config = from_checkpoint.adopt(config)
  else:
    workdir = Path(WORKDIR.value or f'runs/{CONFIG.value.name if CONFIG.value else "scenes"}')
    config = CONFIG.value or experiment_lib.load(workdir / 'config.json')
  generation = parse_settings(GENERATION.value)
  config.evaluation.generation.update(generation)
  run = experiment_lib.from_config(config)
  out = Path(OUT.value) if OUT.value else workdir / default_folder(tasks, generation)

  # ---- model -------------------------------------------------------------------------------------
  tokenizer = processes.first_then_others(
    lambda: prepare(run.data, run.scenes, run.model.llm.first_extra_id, console))
  mesh = make_mesh(run.mesh)
  jax.set_mesh(mesh)
  if MODEL.value:
    abstract = abstract_params(run.model, mesh, run.model.dtype)
    params, step = from_checkpoint.load_params(run, abstract, console), 0
    title = MODEL.value
  else:
    checkpoints = native.open_checkpoints(workdir / 'checkpoints', run.training.keep_checkpoints)
    params, step = native.restore_params(checkpoints, STEP.value, abstract_params(run.model, mesh))
    title = f'{run.name}, step {step}'
  model = LoadedModel(run.model, params, Processor(tokenizer, run.preprocess), mesh)
  formatter = run.data.formatter()
  curves = None if MODEL.value else read_metrics(workdir / 'metrics.jsonl', step)
  heading = session.Heading(title, config.to_dict() | {'step': step}, curves)

  # ---- evaluation of a manifest ------------------------------------------------------------------
  if not tasks:
    manifest = WordedManifest(read_manifest(MANIFEST.value or run.data.validation), formatter)
    console.rule(f'{title} on {manifest.path}')
    session.run_evaluation(model, manifest, run.evaluation, out, console, heading, OVERWRITE.value)
    return

  # ---- evaluation of benchmarks ------------------------------------------------------------------
  published = {}
  for task in tasks:
    manifest = WordedManifest(read_manifest(processes.first_then_others(
      lambda task=task: task_manifest(task, DATA_ROOT.value, MANIFESTS.value))), formatter)
    settings = {'max_new_tokens': task.max_new_tokens} | generation
    evaluation = dataclasses.replace(run.evaluation, generation=dataclasses.replace(
      run.evaluation.generation, **settings))
    processor = Processor(tokenizer, task.preprocess(run.preprocess))
    console.rule(f'{title} on {manifest.path}')
    summary = session.run_evaluation(
      dataclasses.replace(model, processor=processor), manifest, evaluation, out / task.label,
      console, heading, OVERWRITE.value)
    published |= summary.get('published', {})
  if processes.is_first():
    console.rule(title)
    session.write_overall(out, [task.label for task in tasks], published, console)


def default_folder(tasks: list, generation: dict) -> str:
  """Where the results go in the run's folder: 'evaluation', with what differs from the run's own.
  """
  parts = ['benchmarks' if tasks else 'evaluation']
  parts += [f'at_{STEP.value}'] if STEP.value is not None else []
  parts += [Path(MANIFEST.value).stem] if MANIFEST.value else []
  return '_'.join([*parts, *(f'{name}={value}' for name, value in generation.items())])


def run_main() -> None:
  """The program, as `python eval.py` and `molmo-jax eval` start it."""
  logging.set_verbosity(logging.WARNING)
  with processes.orderly_end():
    app.run(main, flags_parser=command_line.parse_flags)


if __name__ == '__main__':
  run_main()
