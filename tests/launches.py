"""Plays schedulers for launch/: small programs that write down their arguments, and checks of what
they would run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess

from molmo_jax import experiment
from tests.programs import ROOT

LAUNCH = ROOT / 'launch'
STOPPED = 75                 # exit status of launch/run.sh after SIGTERM


def programs(folder, **bodies):
  """An environment in which these programs come first; each writes its arguments, then does what
  its body says.
  """
  (folder / 'bin').mkdir(exist_ok=True)
  for name, body in bodies.items():
    path = folder / 'bin' / name
    path.write_text(f'#!/usr/bin/env bash\nprintf "%s\\0" "$@" >> {folder}/{name}.called\n'
                    f'echo >> {folder}/{name}.called\n{body}\n')
    path.chmod(0o755)
  return {'PATH': f'{folder / "bin"}:{os.environ["PATH"]}', 'HOME': str(folder)}


def calls(folder, name):
  """The arguments of every call of a program of `programs`."""
  path = folder / f'{name}.called'
  return [call.split('\0') for call in path.read_text().split('\0\n')
          if call] if path.exists() else []


def run(*command, cwd=ROOT, **environment):
  return subprocess.run([str(c) for c in command], cwd=cwd, env=os.environ | environment, text=True,
                        timeout=60,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def check_flags_of_train(flags):
  """Every flag exists, and the configuration that they make is a valid run; returns it."""
  defined = set(re.findall(r"DEFINE_\w+\(\s*'(\w+)'", (ROOT / 'train.py').read_text()))
  given = dict(flag.removeprefix('--').split('=', 1) for flag in flags)
  path, _, arguments = given.pop('config').partition(':')
  spec = importlib.util.spec_from_file_location('launched', ROOT / path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(*([arguments] if arguments else []))
  for name in [name for name in given if name.startswith('config.')]:
    *sections, key = name.split('.')[1:]
    section = config
    for part in sections:
      section = section[part]
    section[key] = type(section[key])(given.pop(name))
  assert set(given) <= defined
  assert re.fullmatch(r'auto|[\w.-]+:\d+,\d+,\d+', given['distributed'])
  assert given['workdir'].startswith('/')
  return experiment.from_config(config)
