"""Shows how images or a video become tokens: eleven numbers, and a page with drawings.

The counts are those of the arrays that training gets (with --inference: that a prompt gives). No
weights are needed. Any value of the configuration is a flag: --config.data.sequence_length=4096.

Examples:
  molmo-jax walkthrough image.jpg
  molmo-jax walkthrough image.jpg --config=configs/molmo_v1.py:size=7b_d --out=v1.html
  molmo-jax walkthrough a.jpg b.jpg --question="What changed?"
  molmo-jax walkthrough clip.mp4 --config=configs/video.py:size=8b --inference
"""

from __future__ import annotations

from pathlib import Path

from absl import logging

from molmo_jax.command_line import add_config, make_parser, one_line_errors, read_config
from molmo_jax.configuration import ConfigError
from molmo_jax.experiment import from_config
from molmo_jax.lab.walkthrough import terminal
from molmo_jax.lab.walkthrough.example import ANSWER, walk
from molmo_jax.lab.walkthrough.media import read_sources
from molmo_jax.lab.walkthrough.page import page
from molmo_jax.terminal import Terminal


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = make_parser('walkthrough', __doc__)
  add_config(parser, 'configs/image.py:size=8b')
  parser.add_argument('files', nargs='*', help='one image or several, or a video')
  parser.add_argument('--out', type=Path, default='walkthrough.html', metavar='FILE',
                      help='the page; default: %(default)s')
  parser.add_argument('--question', metavar='TEXT', help='default: one that fits the files')
  parser.add_argument('--answer', default=ANSWER, metavar='TEXT',
                      help='what the loss would be computed on')
  parser.add_argument('--inference', action='store_true',
                      help='numbers of crops and frames for inference, and no answer')
  args, rest = parser.parse_known_args(arguments)
  logging.set_verbosity(logging.WARNING)
  console = Terminal()
  run = from_config(read_config(args.config, rest).config)
  walkthrough = walk(read_sources(args.files, run.preprocess.max_pixels), run, args.question,
                     args.answer, training=not args.inference)
  terminal.show(walkthrough, console)
  try:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page(walkthrough), encoding='utf-8')
  except OSError as error:
    raise ConfigError(f'--out={args.out}: {error.strerror}') from None
  console.print(f'page: {args.out}')
  return 0
