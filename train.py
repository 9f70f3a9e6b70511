"""Trains Molmo. Reads top to bottom: configuration, data, mesh, model, state, loop, evaluation.

  python train.py                                       # tiny scenes, minutes on a CPU: runs/scenes
  python train.py --config=configs/image.py:size=8b --workdir=runs/8b   # a real size
  python train.py --config.model.connector.pooling=mean --workdir=runs/mean  # an ablation is a flag
  python train.py --config=configs/finetune.py --config.init_from=DIR   # from a released checkpoint

An interrupted run resumes from its last checkpoint, to the same bytes: start it again with the same
command. More steps, and what cannot change what was computed so far (intervals, workers, where the
same data lie), may be given then; another configuration needs another --workdir.
"""

from pathlib import Path

import jax
from absl import app, flags, logging

from molmo_jax import command_line, run_folder, stopping
from molmo_jax import experiment as experiment_lib
from molmo_jax.checkpoint import native
from molmo_jax.data.formatting import WordedManifest
from molmo_jax.data.manifest import read_manifest
from molmo_jax.data.pipeline import check_loss_tokens, open_data, read_sources
from molmo_jax.evaluation.session import Heading, run_evaluation
from molmo_jax.inference.loaded import LoadedModel
from molmo_jax.initial import from_backbones, from_checkpoint
from molmo_jax.initial.state import first_state
from molmo_jax.model.molmo import Network
from molmo_jax.pages.curves import read_metrics, write_curves
from molmo_jax.parallel import processes
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.parallel.sharding import data_shard, shard_batch
from molmo_jax.processor.processor import Processor
from molmo_jax.progress import Display
from molmo_jax.scenes.prepare import prepare
from molmo_jax.terminal import Terminal
from molmo_jax.training.flops import forward_flops, peak_of, work_of
from molmo_jax.training.optimizer import make_optimizer
from molmo_jax.training.state import abstract_params
from molmo_jax.training.step import make_train_step
from molmo_jax.training.telemetry import Meter, MetricsLog, Reports, batch_table, parameter_table
from molmo_jax.training.validation import make_validation

CONFIG = command_line.define_config(Path(__file__).parent / 'configs/scenes.py',
                                    'what to train; override with --config.a.b=c')
WORKDIR = flags.DEFINE_string('workdir', None,
                              'folder of the run; default: runs/<name of the configuration>')
DISTRIBUTED = flags.DEFINE_string('distributed', '', processes.HELP)
EVALUATE = flags.DEFINE_bool('evaluate', True, 'evaluate on data.validation at the end')


def main(argv: list[str]) -> int:
  """One training run, from its configuration to the evaluation at the end; the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {argv[1:]}; flags look like '
                         '--config.training.steps=10')
  processes.initialize(DISTRIBUTED.value)
  console = Terminal(quiet=not processes.is_first())

  # ---- configuration -----------------------------------------------------------------------------
  config = CONFIG.value
  workdir = Path(WORKDIR.value or f'runs/{config.name}')
  if config.get('init_from'):
    config = processes.first_then_others(lambda: from_checkpoint.adopt(config, workdir))
  run = experiment_lib.from_config(config)
  if not (workdir / 'checkpoints').is_dir():
    from_backbones.check(run)   # before the folder is claimed
  run_folder.check_alike(config)
  run_folder.check(workdir, config)
  console.rule(f'{run.name} → {workdir}')

  # ---- mesh and tokenizer ------------------------------------------------------------------------
  mesh = make_mesh(run.mesh)
  experiment_lib.check_on_mesh(run, mesh)
  jax.set_mesh(mesh)
  console.print(f'devices: {jax.device_count()} × {jax.devices()[0].device_kind}, '
                f'{jax.process_count()} processes; mesh: {dict(mesh.shape)}')
  tokenizer = processes.first_then_others(
    lambda: prepare(run.data, run.scenes, run.model.llm.first_extra_id, console))
  sources = read_sources(run.data)
  manifest = (WordedManifest(read_manifest(run.data.validation), run.data.formatter())
              if EVALUATE.value or run.training.evaluate_every else None)
  if processes.is_first():   # now that everything was checked, the folder is this run's
    run_folder.hold(workdir)
    run_folder.claim(workdir, config, run_folder.facts(run.data))

  # ---- model and state ---------------------------------------------------------------------------
  model = Network(run.model)
  shapes = abstract_params(run.model)
  console.print(parameter_table(shapes))
  optimizer = make_optimizer(run.optimizer, run.training.steps, shapes)
  checkpoints = native.open_checkpoints(workdir / 'checkpoints', run.training.keep_checkpoints,
                                        run.training.keep_every)
  state, positions = first_state(run, model, optimizer, checkpoints, mesh, console)
  shard, shards = data_shard(mesh)   # every process reads its own part of the examples
  data = open_data(run.data, run.preprocess, sources, tokenizer, run.model.connector.pool_slots,
                   (shard, shards), positions, workdir)

  # ---- loop --------------------------------------------------------------------------------------
  train_step = jax.jit(make_train_step(model, optimizer, run.training, run.optimizer),
                       donate_argnums=0)
  every = lambda steps: steps and step % steps == 0
  start, steps = int(state.step), run.training.steps
  validate = run.training.validate_every and make_validation(model, run.training, run.data,
                                                             run.preprocess, tokenizer, mesh)
  log = MetricsLog(workdir, start, enabled=processes.is_first())
  meter = Meter(lambda work: forward_flops(shapes, run.model, work), shards, jax.device_count(),
                peak_of(jax.devices()[0].device_kind))

  def evaluate(step: int, folder: Path, curves: list[dict] | None = None) -> dict:
    loaded = LoadedModel(run.model, state.params, Processor(tokenizer, run.preprocess), mesh)
    heading = Heading(f'{run.name}, step {step}', config.to_dict(), curves)
    return run_evaluation(loaded, manifest, run.evaluation, folder, console, heading, replace=True)

  stopped = None
  with (Display(console, 'training', steps, start) as display,
        processes.finishing('after this step')):
    reports = Reports(display, log, data.named)
    for step in range(start + 1, steps + 1):
      first = step == start + 1
      with meter('start' if first else 'data'):
        batch = next(data)
      if first:
        console.print(batch_table(batch))
        check_loss_tokens(batch, run.data.train)
      # look at it with: tensorboard --logdir=<workdir>/profile
      if step == run.training.profile[0]:
        jax.profiler.start_trace(workdir / 'profile')
      with display.during('compiling', first), meter('start' if first else 'step'):
        state, metrics = train_step(state, shard_batch(batch, mesh))
      # else this run did not start it
      if step == run.training.profile[1] and start < run.training.profile[0]:
        jax.block_until_ready(metrics)
        jax.profiler.stop_trace()
      meter.add(work_of(batch, run.model.tower.patches, run.model.bidirectional))
      reports.ran(step, metrics, data.records)
      if every(run.training.log_every) or step == steps:
        reports.due(step, metrics, meter.take())
      stopped = processes.asked_to_stop(step)
      if every(run.training.validate_every) and not stopped:
        with meter('evaluation'), stopping.interruptible():
          log.write(step, {f'validation/{name}': x for name, x in validate(state.params).items()})
      if every(run.training.evaluate_every) and step < steps and not stopped:
        with meter('evaluation'), stopping.interruptible():
          summary = evaluate(step, workdir / f'evaluation_at_{step}')
          log.write(step, {f'evaluation/{task}': row['accuracy']
                           for task, row in summary.get('tasks', {}).items()})
      # not asked again: a signal between the two conditions below must not lose the step
      stopped = stopped or stopping.received()
      if every(run.training.checkpoint_every) or step == steps or stopped:
        # a run that resumes here does not write the lines of its steps again
        reports.flush()
        reports.check(step, metrics)
        with meter('checkpoint'):
          positions = {str(index): at
                       for index, at in processes.process_allgather([shard, data.position()])}
          native.save(checkpoints, step, state, positions)
      if stopped:
        break
  data.close()
  checkpoints.close()   # waits for the last write
  log.close()
  for dataset, count in data.skipped_by_dataset.items():
    console.print(f'{dataset}: {count} records could not be used and were skipped; they are named '
                  f'in {workdir}/skipped_records*.jsonl', style='yellow')
  if stopped:
    console.print(f'{stopped} after step {step}; the same command resumes there')
    return stopped.status

  # ---- evaluation --------------------------------------------------------------------------------
  curves = read_metrics(workdir / 'metrics.jsonl') if processes.is_first() else None
  if curves:
    write_curves(workdir / 'curves.html', curves, title=run.name)
  if EVALUATE.value:
    evaluate(steps, workdir / 'evaluation', curves)
  return 0


def run_main() -> None:
  """The program, as `python train.py` and `molmo-jax train` start it."""
  logging.set_verbosity(logging.WARNING)
  with processes.orderly_end():
    app.run(main, flags_parser=command_line.parse_flags)


if __name__ == '__main__':
  run_main()
