"""Command lines: a configuration file as `--config=FILE[:options]`, flags `--config.a.b=c`.

train.py and eval.py are absl programs, as these flags are ml_collections'. The tools use argparse:
`make_parser` for their own flags, `read_config` for those of the configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from molmo_jax import stopping
from molmo_jax.configuration import ConfigError
from molmo_jax.programs import find_config
from molmo_jax.visible import plain_streams, say, show_in_log

MOST_USED = {   # values of a configuration that --help of train.py shows
  'data.train': 'manifest of the training examples (docs/data.md)',
  'data.validation': 'manifest of the evaluation at the end',
  'data.tokenizer': 'tokenizer.json; written when the scenes are generated',
  'data.batch_size': 'rows of a batch, of all devices together',
  'data.sequence_length': 'tokens of a row; several examples are packed into one',
  'training.steps': 'optimizer steps',
  'training.checkpoint_every': 'steps between two checkpoints; a run resumes from the newest',
  'training.accumulate': 'parts of a batch that are computed one after another, to save memory',
  'init_from': 'checkpoint to fine-tune: a folder, or an id on the Hugging Face Hub',
  'init_llm': 'or a plain language model to start from, and',
  'init_vit': 'a plain vision tower',
  'model.connector.pooling': 'how a window of patches becomes one visual token',
  'model.bidirectional': 'which visual tokens attend to each other in both directions',
  'model.blind': 'no visual features: the control of an ablation',
  'model.remat': 'what is computed again in the backward pass to save memory',
  'preprocess.image.max_crops': 'most crops of an image in training, without the global view',
  'preprocess.video.max_frames': 'most frames of a video in training',
  'mesh.fsdp': 'devices that parameters are sharded over; -1: all that remain',
  'seed': 'random seed',
}

logging.get_absl_logger().addFilter(show_in_log)

flags.disclaim_key_flags()   # --config belongs to the program that defines it, not to this module


@dataclasses.dataclass(frozen=True)
class Given:
  """The configuration of a command line."""
  config: ConfigDict
  file: str                                     # FILE[:options], as a path that exists
  overrides: dict[str, Any]                     # the values of --config.a.b=c


def define_config(default: Path | None, purpose: str) -> flags.FlagHolder:
  """The absl flag `--config`; flags such as `--config.a.b=c` change its default already here."""
  with _unknown_keys_in_one_line(sys.argv, SystemExit, 'error: '):
    return _define(str(default) if default else None, purpose, flags.FLAGS, None)


def parse_flags(argv: list[str]) -> list[str]:
  """For `app.run(main, flags_parser=parse_flags)`: one line for unknown flags, a short `--help`."""
  asked = {'-h', '-help', '--help', '--helpshort'} & set(argv[1:])
  with _unknown_keys_in_one_line(argv, SystemExit, 'error: '):
    rest = app.parse_flags_with_usage([a for a in argv if a not in asked])
  if asked:
    print(usage(argv[0]))
    raise SystemExit(0)
  return rest


def usage(program: str) -> str:
  """What `--help` of train.py and eval.py prints: examples, flags, the most common overrides."""
  lines = [(sys.modules['__main__'].__doc__ or '').strip(), '', 'flags:']
  for flag in flags.FLAGS.get_key_flags_for_module(program):
    default = '' if flag.default in (None, '', [], False) else f' (default: {flag.default_as_str})'
    lines += _entry(f'--{flag.name}', f'{flag.help}{default}')
  config = flags.FLAGS['config'].value
  if config is not None:
    lines += ['', 'values of the configuration that are changed most, here as --config has them:']
    for key, meaning in MOST_USED.items():
      value = config
      for part in key.split('.'):
        value = value[part]
      lines += _entry(f'--config.{key}={value}', meaning)
  return '\n'.join([*lines, '', 'Every value of a configuration is such a flag: '
                    'docs/configuration.md, which',
                    '`molmo-jax configuration` prints, has their types, defaults and meanings.'])


def _entry(flag: str, text: str) -> list[str]:
  first, *rest = textwrap.wrap(text, 96 - 30) or ['']
  head = [f'  {flag:28}{first}'] if len(flag) < 28 else [f'  {flag}', f'{"":30}{first}']
  return [*head, *(f'{"":30}{line}' for line in rest)]


def make_parser(command: str, docstring: str | None) -> argparse.ArgumentParser:
  """The argparse parser of `molmo-jax COMMAND`; `docstring` is its module's, with `Examples:` last.
  """
  purpose, _, examples = (docstring or '').partition('\nExamples:\n')
  return argparse.ArgumentParser(
    prog=f'molmo-jax {command}', description=purpose.strip(), allow_abbrev=False,
    epilog=f'examples:\n{examples.rstrip()}', formatter_class=argparse.RawDescriptionHelpFormatter)


def add_config(parser: argparse.ArgumentParser, default: str | None = None) -> None:
  """Adds `--config`; `read_config` reads the values `--config.a.b=c` from what is left over."""
  parser.add_argument('--config', default=default, metavar='FILE[:options]',
                      help='configuration file; --config.a.b=c changes any value of it '
                      '(docs/configuration.md)' + ('; default: %(default)s' if default else ''))


def read_config(file: str | None, rest: Sequence[str]) -> Given:
  """The configuration that `--config=FILE[:options]` and the flags in `rest` describe.

  Raises:
    ConfigError: no file, an unknown flag or key, or a value of the wrong type.
  """
  if file is None:
    raise ConfigError('--config=FILE[:options] is needed, for example '
                      '--config=configs/video.py:size=8b')
  argv, values = ['', f'--config={file}', *rest], flags.FlagValues()
  with _unknown_keys_in_one_line(argv, ConfigError):
    holder = _define(None, '', values, argv)
    try:
      unknown = values(argv)[1:]
    except flags.Error as error:
      raise ConfigError(' '.join(str(error.args[0]).split())) from None
  if unknown:
    raise ConfigError(f'unknown arguments: {unknown}; flags look like --config.mesh.context=2')
  return Given(holder.value, find_config(file), config_flags.get_override_values(values['config']))


def one_line_errors(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
  """For the `main` of a tool: what a user can put right is one line on standard error, status 1;
  Ctrl-C and SIGTERM end it with one line, too."""
  @functools.wraps(main)
  def guarded(arguments: list[str] | None = None) -> int:
    plain_streams()
    try:
      with stopping.listening():
        return main(arguments)
    except (OSError, ValueError) as error:   # MolmoError is a ValueError; so are wrong arguments
      say(f'error: {error}', file=sys.stderr)
      return 1
    except stopping.Stopped as stopped:
      print(stopped, file=sys.stderr)
      return stopped.status
  return guarded


def positive(text: str) -> int:
  """The argparse type of a count that is at least 1."""
  if int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text} is not a positive number')
  return int(text)


def _define(default: str | None, purpose: str, values: flags.FlagValues,
            argv: list[str] | None) -> flags.FlagHolder:
  holder = config_flags.DEFINE_config_file('config', default, purpose, values, sys_argv=argv)
  parser = values['config'].parser
  parser.parse = functools.partial(_parse_config, parser.parse)   # type: ignore[method-assign]
  return holder


def _parse_config(parse: Callable[[str], ConfigDict], path: str) -> ConfigDict:
  """`parse` with the project's own files found in any folder, and errors of one sentence."""
  path = find_config(path)
  if not Path(path.partition(':')[0]).is_file():
    raise ValueError('no such file; the configurations of the project are configs/*.py')
  try:
    return parse(path)
  except Exception as error:                    # ml_collections' own message is a traceback
    cause = error.__context__ if isinstance(error, ValueError) and error.__context__ else error
    lines = [f.lineno for f in traceback.extract_tb(cause.__traceback__) if f.filename in path]
    at = f'line {lines[-1]}, ' if lines else ''
    text = ' '.join(str(cause).split())
    raise ValueError(f'{at}{type(cause).__name__}: {text}') from None


def _parse_value(parse: Callable[[Any], Any], nothing: Any, value: Any) -> Any:
  """`parse` for the values `None` and `a,b`, too; what a key may be is checked afterwards."""
  if value == 'None':
    return nothing
  made = parse(value)
  return tuple(value.split(',')) if isinstance(value, str) and made == (value,) else made


for _kind, _parser in config_flags.config_flags._FIELD_TYPE_TO_PARSER.items():
  _parser.parse = functools.partial(_parse_value, _parser.parse, () if _kind is tuple else None)


@contextlib.contextmanager
def _unknown_keys_in_one_line(argv: list[str], raised: type[BaseException],
                              prefix: str = '') -> Iterator[None]:
  try:
    yield
  except (AttributeError, KeyError) as error:   # how ml_collections reports an unknown key
    key, *hint = re.sub(r'[\\\'"]', '', str(error.args[0]).replace('\\n', '\n')).split('\n')
    flag = next((a for a in argv if key in a.split('=')[0].split('.')[1:]), key)
    raise raised(' '.join([f'{prefix}{flag}: no such configuration key.', *hint])) from None
