"""Walks through what becomes of images or a video: eleven numbers in the terminal, and a page with
drawings.

  python -m molmo_jax.tools.walkthrough image.jpg
  python -m molmo_jax.tools.walkthrough image.jpg --config=configs/molmo_v1.py:size=7b_d --out=v1.html
  python -m molmo_jax.tools.walkthrough a.jpg b.jpg --question="What changed?"
  python -m molmo_jax.tools.walkthrough clip.mp4 --config=configs/video.py:size=8b --inference

The counts are those of the arrays that training gets (with --inference: that a prompt gives). No
weights are needed. Any value of the configuration is a flag:
--config.preprocess.image.max_crops=36.
"""

from pathlib import Path

from absl import app, flags, logging
from rich.console import Console

from molmo_jax import command_line
from molmo_jax import experiment as experiment_lib
from molmo_jax.configuration import ConfigError
from molmo_jax.lab.walkthrough import terminal
from molmo_jax.lab.walkthrough.example import ANSWER, walk
from molmo_jax.lab.walkthrough.media import read_sources
from molmo_jax.lab.walkthrough.page import page
from molmo_jax.preprocess.types import EncodingError, MediaError

DEFAULT_CONFIG = f'{Path(__file__).parents[3] / "configs/image.py"}:size=8b'

CONFIG = command_line.define_config(None, 'how files become tokens; override with '
                                         '--config.a.b=c; default: configs/image.py:size=8b')
OUT = flags.DEFINE_string('out', 'walkthrough.html', 'the page')
QUESTION = flags.DEFINE_string('question', None, 'default: one that fits the files')
ANSWER_TEXT = flags.DEFINE_string('answer', ANSWER, 'what the loss would be computed on')
INFERENCE = flags.DEFINE_bool('inference', False,
                              'numbers of crops and frames for inference, and no answer')


def main(argv: list[str]) -> None:
  console = Console()
  sources = read_sources(argv[1:])
  try:
    run = experiment_lib.from_config(CONFIG.value)
  except OSError as error:
    # how ml_collections reports a missing file, here and not when it parses the flag
    raise ConfigError(f'--config: {str(error).splitlines()[-1].strip()}') from None
  walkthrough = walk(sources, run, QUESTION.value, ANSWER_TEXT.value, training=not INFERENCE.value)
  terminal.show(walkthrough, console)
  out = Path(OUT.value)
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(walkthrough), encoding='utf-8')
  except OSError as error:
    raise ConfigError(f'--out={out}: {error.strerror}') from None
  console.print(f'page: {out}', highlight=False)


def parse_flags(argv: list[str]) -> list[str]:
  """`command_line.parse_flags` with the default configuration as a flag too: what overrides it is
  then checked there.
  """
  given = any(argument.lstrip('-').split('=')[0] == 'config' for argument in argv[1:])
  return command_line.parse_flags(argv if given
                                    else [argv[0], f'--config={DEFAULT_CONFIG}', *argv[1:]])


def run_main() -> None:
  """Faults of the user's input end with one line instead of a traceback."""
  logging.set_verbosity(logging.WARNING)
  try:
    app.run(main, flags_parser=parse_flags)
  except (ConfigError, MediaError, EncodingError) as error:
    raise SystemExit(f'error: {error}') from None
