"""Chat templates as programs of others: jinja2's sandbox, in a process of its own with limits.

The sandbox keeps a template from reaching anything; it does not keep it from taking all time and
memory: `{% for %}` in `{% for %}`, `'a' * 10 ** 9`, macros that call themselves. So this file is
also a program. It imports jinja2 alone, lives as long as the one that started it, and renders what
it is sent, one JSON value a line, within `SECONDS` of processor time, `MEMORY` bytes and `LONGEST`
characters. A template that exceeds them, or nests so deeply that the process dies, costs one start
of a process (0.2 s).
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

SECONDS = 5                     # of processor time, for one template
MEMORY = 1 << 29                # bytes of address space of the process
LONGEST = 1 << 24               # characters of a prompt


class TemplateError(Exception):
  """What went wrong in a template, or which limit it exceeds."""


class _Generation(jinja2.ext.Extension):
  """`{% generation %}…{% endgeneration %}`, which marks answers for training: what is inside is
  written as it is.
  """
  tags = {'generation'}

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(('name:endgeneration',), drop_needle=True)


@functools.lru_cache(maxsize=16)
def compile_template(template: str) -> jinja2.Template:
  """The template as a program in a sandbox that cannot change what it is given; set up as
  `transformers` 5.23 sets it up.
  """
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
  environment.filters['tojson'] = _to_json
  environment.globals['raise_exception'] = _raise
  environment.globals['strftime_now'] = lambda form: datetime.datetime.now().strftime(form)
  return environment.from_string(template)


def render_here(template: str, variables: Mapping[str, Any] | None) -> str:
  """What a trusted template writes, in this process; without variables it is only compiled.

  Raises:
    TemplateError: whatever went wrong.
  """
  try:
    program = compile_template(template)
    text = '' if variables is None else program.render(**variables)
  except MemoryError:
    raise TemplateError(f'it takes more than {MEMORY >> 20} MB') from None
  except Exception as error:      # a template is a program of others, which may fail in any way
    raise TemplateError(str(error) or type(error).__name__) from error
  if len(text) > LONGEST:
    raise TemplateError(f'it writes {len(text)} characters, more than {LONGEST}')
  return text


def render_apart(template: str, variables: Mapping[str, Any] | None) -> str:
  """As `render_here`, in the other process and within its limits."""
  with _lock:
    child, line = _started.get(os.getpid()) or _start(), b''
    try:
      with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps([template, variables]).encode() + b'\n')
        child.stdin.flush()
        line = child.stdout.readline()
    finally:                      # it died, or Ctrl-C came before the answer
      if not line:
        del _started[os.getpid()]
        child.kill()
        child.wait()
        with contextlib.suppress(BrokenPipeError):
          child.stdin.close()
  if not line:
    raise TemplateError(f'it takes more than {SECONDS} s' if child.returncode == -signal.SIGXCPU
                        else f'it nests too deeply or takes more than {MEMORY >> 20} MB')
  answer = json.loads(line)
  if 'error' in answer:
    raise TemplateError(answer['error'])
  return answer['text']


def _start() -> Any:
  child = _started[os.getpid()] = subprocess.Popen(
    [sys.executable, '-P', __file__, str(SECONDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL, start_new_session=True,        # Ctrl-C is for the parent
    env=os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))})
  return child


_lock = threading.Lock()
_started: dict[int, Any] = {}   # by who started it: a fork must not share its parent's


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None,
             separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                    sort_keys=sort_keys)


def _raise(message: str) -> None:
  raise jinja2.TemplateError(message)


def serve(requests: Any, answers: Any, seconds: int) -> None:
  """The program: answers requests until there are no more."""
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  with contextlib.suppress(ValueError, OSError):              # macOS knows no such limit
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  for line in requests:
    most = seconds + int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
    try:
      answer = {'text': render_here(*json.loads(line))}
    except TemplateError as error:
      answer = {'error': str(error)}
    answers.write(json.dumps(answer).encode() + b'\n')
    answers.flush()


if __name__ == '__main__':
  serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))
