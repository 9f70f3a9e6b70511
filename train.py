"""Trains Molmo. Reads top to bottom: configuration, data, mesh, model, state, loop, evaluation.

  python train.py                                                      # tiny scenes, minutes on a CPU → runs/scenes
  python train.py --config=configs/image.py:size=8b --workdir=runs/8b   # a real size
  python train.py --config.model.connector.pooling=mean --workdir=runs/mean   # an ablation is a flag
  python train.py --config=configs/finetune.py --config.init_from=DIR   # from a released checkpoint

A run that was interrupted resumes from its last checkpoint when the same command is started again,
and ends with the same bytes. Another configuration needs another --workdir.
"""

import math
from pathlib import Path

import jax
from absl import app, flags, logging
from rich.console import Console

from molmo_jax import command_line
from molmo_jax import experiment as experiment_lib
from molmo_jax.checkpoint import native
from molmo_jax.data.manifest import ManifestError, read_manifest
from molmo_jax.data.pipeline import open_data, read_sources
from molmo_jax.data.prefetch import Prefetched
from molmo_jax.errors import MolmoError
from molmo_jax.evaluation.session import run_evaluation
from molmo_jax.initial import from_backbones, from_checkpoint
from molmo_jax.model.molmo import Molmo
from molmo_jax.pages.curves import read_metrics, write_curves
from molmo_jax.parallel import processes
from molmo_jax.parallel.mesh import make_mesh
from molmo_jax.parallel.sharding import batch_sharding, data_shard, shardings_of
from molmo_jax.progress import Display
from molmo_jax.scenes.prepare import prepare
from molmo_jax.training.flops import forward_flops, peak_of, work_of
from molmo_jax.training.optimizer import make_optimizer
from molmo_jax.training.state import init_params, init_state, state_from
from molmo_jax.training.step import make_train_step
from molmo_jax.training.telemetry import Meter, MetricsLog, batch_table, parameter_table
from molmo_jax.training.validation import make_validation

CONFIG = command_line.define_config(Path(__file__).parent / 'configs/scenes.py',
                                    'what to train; override with --config.a.b=c')
WORKDIR = flags.DEFINE_string('workdir', None,
                              'folder of the run; default: runs/<name of the configuration>')
DISTRIBUTED = flags.DEFINE_string('distributed', '', processes.HELP)
EVALUATE = flags.DEFINE_bool('evaluate', True, 'evaluate on data.validation at the end')


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {argv[1:]}; flags look like '
      '--config.training.steps=10')
  processes.initialize(DISTRIBUTED.value)
  console = Console(quiet=not processes.is_first())

  # ---- configuration -----------------------------------------------------------------------------
  config = CONFIG.value
  workdir = Path(WORKDIR.value or f'runs/{config.name}')
  if config.get('init_from'):
    config = processes.first_then_others(lambda: from_checkpoint.adopt(config, workdir))
  run = experiment_lib.from_config(config)
  if not (workdir / 'checkpoints').is_dir():
    from_backbones.check(run)   # before the folder is claimed
  processes.first_then_others(lambda: experiment_lib.claim(workdir, config, processes.is_first()))
  console.rule(f'{run.name} → {workdir}')

  # ---- mesh --------------------------------------------------------------------------------------
  mesh = make_mesh(run.mesh)
  experiment_lib.check_on_mesh(run, mesh)
  jax.set_mesh(mesh)
  console.print(f'devices: {jax.device_count()} × {jax.devices()[0].device_kind}, '
    f'{jax.process_count()} processes; mesh: {dict(mesh.shape)}', highlight=False)

  # ---- data --------------------------------------------------------------------------------------
  tokenizer = processes.first_then_others(
    lambda: prepare(run.data, run.scenes, run.model.llm.first_extra_id, console))
  share = data_shard(mesh)
  to_devices = batch_sharding(mesh)
  def place(batch):
    return {name: jax.make_array_from_process_local_data(to_devices, x)
            for name, x in batch.items()}

  # ---- model and state ---------------------------------------------------------------------------
  model = Molmo(run.model)
  shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
  console.print(parameter_table(shapes))
  optimizer = make_optimizer(run.optimizer, run.training.steps, shapes)
  key = jax.random.key(run.seed)
  make_state = lambda: init_state(model, optimizer, key)
  abstract = jax.eval_shape(make_state)
  shardings = shardings_of(abstract, mesh)
  abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract,
                          shardings)

  checkpoints = native.open_checkpoints(workdir / 'checkpoints', run.training.keep_checkpoints,
                                        run.training.keep_every)
  positions = None
  if checkpoints.latest is not None:
    state, positions = native.restore(checkpoints, None, abstract)
    console.print(f'resuming from step {int(state.step)}', highlight=False)
  elif run.init_from or run.init_llm or run.init_vit:
    params = (from_checkpoint.load_params(run, abstract.params, console) if run.init_from else
              from_backbones.load_params(run, model, key, abstract.params, console))
    state = jax.jit(lambda p: state_from(p, optimizer, key), out_shardings=shardings,
                    donate_argnums=0)(params)
  else:
    state = jax.jit(make_state, out_shardings=shardings)()

  data = Prefetched(open_data(run.data, run.preprocess, read_sources(run.data), tokenizer,
                              run.model.connector.pool_slots, *share, positions=positions))

  # ---- loop --------------------------------------------------------------------------------------
  train_step = jax.jit(make_train_step(model, optimizer, run.training, run.optimizer),
                       donate_argnums=0)
  every = lambda steps: steps and step % steps == 0
  start, steps = int(state.step), run.training.steps
  stop = processes.stop_signal()
  validate = run.training.validate_every and make_validation(model, run.training, run.data,
                                                             run.preprocess, tokenizer, mesh)
  log = MetricsLog(workdir, start, enabled=processes.is_first())
  meter = Meter(lambda work: forward_flops(shapes, run.model, work), share[1], jax.device_count(),
                peak_of(jax.devices()[0].device_kind))
  pending = stopped = None   # metrics are fetched late: the device never waits for them
  with Display(console, 'training', steps, start) as display:
    for step in range(start + 1, steps + 1):
      with meter('data'):
        batch = next(data)
      if step == start + 1:
        console.print(batch_table(batch))
        _check_loss_tokens(batch, run.data.train)
      # look at it with: tensorboard --logdir=<workdir>/profile
      if step == run.training.profile[0]:
        jax.profiler.start_trace(workdir / 'profile')
      state, metrics = train_step(state, place(batch))
      # else this run did not start it
      if step == run.training.profile[1] and start < run.training.profile[0]:
        jax.block_until_ready(metrics)
        jax.profiler.stop_trace()
      meter.add(work_of(batch, run.model.vit.patches, run.model.bidirectional))
      if every(run.training.log_every) or step == steps:
        if pending:
          _report(display, log, *pending)
        pending = step, metrics, meter.take()
      # asked once: a signal between the two lines below must not lose the step
      stopped = stop(step)
      if every(run.training.validate_every) and not stopped:
        with meter('evaluation'):
          log.write(step, {f'validation/{name}': x for name, x in validate(state.params).items()})
      if every(run.training.evaluate_every) and step < steps and not stopped:
        with meter('evaluation'):
          summary = _evaluate(run, model, state.params, tokenizer, mesh, console, step, config,
                              workdir / f'evaluation_at_{step}')
          log.write(step, {f'evaluation/{task}': row['accuracy']
                           for task, row in summary.get('tasks', {}).items()})
      if every(run.training.checkpoint_every) or step == steps or stopped:
        # a run that goes on from this checkpoint does not write the lines of its steps again
        if pending:
          _report(display, log, *pending)
          pending = None
        with meter('checkpoint'):
          positions = {str(index): at
                       for index, at in processes.process_allgather([share[0], data.position()])}
          native.save(checkpoints, step, state, positions)
      if stopped:
        break
  data.close()
  checkpoints.close()   # waits for the last write
  log.close()
  for dataset, count in data.skipped_by_dataset.items():
    console.print(f'[yellow]{dataset}: {count} records could not be used and were skipped; their '
      'names are in the log')
  if stopped and step < steps:
    console.print(f'stopped by {stopped} after step {step}; the same command goes on from there',
                  highlight=False)
    return

  # ---- evaluation --------------------------------------------------------------------------------
  curves = read_metrics(workdir / 'metrics.jsonl') if processes.is_first() else None
  if curves:
    write_curves(workdir / 'curves.html', curves, title=run.name)
  if EVALUATE.value:
    _evaluate(run, model, state.params, tokenizer, mesh, console, steps, config,
              workdir / 'evaluation', curves)


def _evaluate(run, model, params, tokenizer, mesh, console, step, config, folder,
              curves=None) -> dict:
  return run_evaluation(model, params, read_manifest(run.data.validation), run.preprocess,
                        tokenizer, run.evaluation,
                        run.model.connector.pool_slots, mesh, folder, console,
                        title=f'{run.name}, step {step}',
                        settings=config.to_dict(), curves=curves)


def _report(display: Display, log: MetricsLog, step: int, metrics: dict,
            rates: dict[str, float]) -> None:
  """Fetches the metrics of a step that is done by now, shows and writes them."""
  values = {name: float(x) for name, x in jax.device_get(metrics).items()
            if name != 'tokens'} | rates
  log.write(step, values)
  if not math.isfinite(values['loss']):
    raise MolmoError(f'the loss is {values["loss"]} at step {step}; go on from an earlier '
      'checkpoint with a lower learning rate, or look at the records before it')
  display.update(step, f'loss {values["loss"]:.3f}  accuracy {values["accuracy"]:.3f}  '
                       f'{values["tokens_per_second"]:,.0f} tokens/s'
                       + (f'  MFU {100 * values["mfu"]:.0f} %' if 'mfu' in values else ''))


def _check_loss_tokens(batch: dict, manifest: str) -> None:
  if not (batch['loss_weights'] > 0).any():
    raise ManifestError(f'{manifest}: the first batch has no token with a loss weight; answers '
      'need weights above 0')


def run_main() -> None:
  logging.set_verbosity(logging.WARNING)
  with processes.orderly_end():
    app.run(main, flags_parser=command_line.parse_flags)


if __name__ == '__main__':
  run_main()
