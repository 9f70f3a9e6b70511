"""Runs every command of an installed molmo_jax from an empty folder: `python tests/installed.py`,
with the Python that it is installed for.

All commands show a --help with an example; those that take seconds run in earnest, on
what others wrote: scenes → walkthrough, train → eval → convert → chat. Used by .ci/run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).parent / 'molmo-jax'
SMALL = ['--config.training.steps=2', '--config.model.connector.layout_embedding=False',
         '--config.data.workers=1', '--config.scenes.val_per_task=2',
         *(f'--config.scenes.train.{kind}={count}' for kind, count in dict(
           objects=16, reading=8, comparison=8, motion=4, order=4).items())]
RUNS = [   # arguments, what is printed, files that are written
  ([], 'walkthrough', ()),
  (['--version'], 'molmo_jax', ()),
  (['scenes', '--out=few', '--train=40', '--val=2'], 'train.jsonl',
   ['few/train.jsonl']),
  (['walkthrough', 'few/images/{image}'], 'walkthrough.html', ['walkthrough.html']),
  (['walkthrough', 'few/clips/{clip}', '--config=configs/scenes.py', '--out=clip.html'],
   'clip.html', ['clip.html']),
  (['memory', '--config=configs/image.py:size=4b', '--shapes-only'], 'parameters', ()),
  (['sweep', '--study=all', '--list'], 'pooling', ()),
  (['sweep', '--study=pooling', '--seeds=1', '--dry_run'], 'train.py', ()),
  (['prepare_dataset', '--list'], 'pixmo', ()),
  (['configuration'], '| `checkpoint_every` |', ()),
  (['train', *SMALL, '--workdir=runs/a', '--evaluate=false'], '',
   ['runs/a/checkpoints/2', 'runs/a/metrics.jsonl']),
  (['eval', '--workdir=runs/a'], 'written', ['runs/a/evaluation/report.html']),
  (['convert', 'runs/a', 'hub', '--layout=hub'], 'hub',
   ['hub/config.json', 'hub/model.safetensors']),
  (['chat', '--model=hub', '--image=few/images/{image}', '--dtype=float32',
    '--max-new-tokens=4', 'What colour is the ring?'], '', ()),
]


def check() -> list[str]:
  """Runs everything in a folder that is empty at first; returns what went wrong."""
  problems = []
  with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    where = subprocess.run([sys.executable, '-c', 'import molmo_jax; print(molmo_jax.__file__)'],
                           text=True, capture_output=True, check=True).stdout.strip()
    print(f'{COMMAND} → {where}', flush=True)
    if Path(where).is_relative_to(CHECKOUT):
      problems.append(f'{where} is the checkout: install the wheel first')
    for name in ('train', 'eval', 'configs'):
      if (Path(where).parents[1] / name).exists() or (Path(where).parents[1]
                                                      / f'{name}.py').exists():
        problems.append(f'{name} lies in site-packages as a module of its own')
    listed = subprocess.run([COMMAND], text=True, capture_output=True, check=True).stdout
    names = [line.split()[0] for line in listed.split('commands:')[1].split('\n\n')[0].splitlines()
             if line.strip()]
    for name in names:
      problems += run([name, '--help'], 'example' if name not in ('train', 'eval') else name, ())
    for arguments, printed, files in RUNS:
      problems += run([a.format(image=first('images/*.png'), clip=first('clips/*.mp4'))
                       for a in arguments], printed, files)
  return problems


def first(pattern: str) -> str:
  """The name of one of the files that `scenes` wrote; '' before."""
  return next((path.name for path in sorted(Path('few').glob(pattern))), '')


def run(arguments: list[str], printed: str, files: list[str] | tuple[()]) -> list[str]:
  """Runs one command; returns a line for what went wrong, if anything did."""
  start = time.monotonic()
  done = subprocess.run([COMMAND, *arguments], text=True, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, timeout=600,
                        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'COLUMNS': '200'})
  missing = [file for file in files if not Path(file).exists()]
  fine = done.returncode == 0 and printed in done.stdout and not missing
  print(f'{"ok  " if fine else "FAIL"} {time.monotonic() - start:5.1f} s  molmo-jax '
        f'{" ".join(arguments)}', flush=True)
  if fine:
    return []
  print(done.stdout[-3000:], flush=True)
  return [f'molmo-jax {" ".join(arguments)}: status {done.returncode}'
          + ('' if printed in done.stdout else f', does not print {printed!r}')
          + (f', does not write {missing}' if missing else '')]


if __name__ == '__main__':
  problems = check()
  print('\n'.join(problems) or 'all commands run')
  sys.exit(1 if problems else 0)
