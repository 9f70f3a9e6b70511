"""Asks a checkpoint about images or a video; the answer appears while it is generated.

Without a question it holds a conversation: one question a line, an empty line ends it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

import molmo_jax
from molmo_jax.command_line import make_parser
from molmo_jax.configuration import ConfigError
from molmo_jax.errors import CheckpointError
from molmo_jax.evaluation.drawing import draw_points
from molmo_jax.preprocess.reading import load_image
from molmo_jax.preprocess.types import EncodingError, MediaError
from molmo_jax.preprocess.video import read_video

EXAMPLES = """
  molmo-jax chat --model allenai/Molmo2-8B --image cat.jpg "What is the cat doing?"
  molmo-jax chat --model DIR --image a.jpg b.jpg "What changed?"
  molmo-jax chat --model DIR --image mugs.jpg --draw mugs_points.png "Point to the mugs."
  molmo-jax chat --model DIR --video clip.mp4    # without a question: a conversation
"""


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  args = _arguments(arguments)
  try:
    media = [{'type': 'image', 'image': path} for path in args.image]
    media += [{'type': 'video', 'video': args.video}] if args.video else []
    _check_files([*args.image, *([args.video] if args.video else [])])
    molmo = molmo_jax.from_pretrained(args.model, dtype=args.dtype)
    if args.question:
      answer = _answer(molmo, [_user(args.question, media)], args.max_new_tokens)
      if args.draw:
        _draw(molmo, answer, [_user(args.question, media)], args)
    else:
      _converse(molmo, media, args)
  except (CheckpointError, ConfigError, EncodingError, MediaError, FileNotFoundError,
          ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
  parser = make_parser('chat', __doc__, EXAMPLES)
  parser.add_argument('--model', required=True, metavar='DIR', help='folder of a checkpoint, or '
                      'its id on the Hub')
  parser.add_argument('--image', nargs='+', action='extend', default=[], metavar='FILE',
                      help='one image or several')
  parser.add_argument('--video', metavar='FILE', help='a video')
  parser.add_argument('--draw', metavar='OUT.png', help="draws the answer's points on the images "
                      "or frames")
  parser.add_argument('--dtype', choices=('bfloat16', 'float32'), default='bfloat16',
                      help='default: %(default)s')
  parser.add_argument('--max-new-tokens', type=int, default=448, metavar='N',
                      help='longest answer (default: %(default)s)')
  parser.add_argument('question', nargs='?', help='what to ask; without it questions are read line '
                      'by line')
  args = parser.parse_args(arguments)
  if args.question is None and args.image and not Path(args.image[-1]).exists() and len(
    args.image) > 1:
    # `--image a.jpg "question"`: the option takes all that follows
    args.question = args.image.pop()
  if args.image and args.video:
    parser.error('--image and --video: a conversation is about one or the other')
  if args.draw and not (args.question and (args.image or args.video)):
    parser.error('--draw needs a question, and --image or --video')
  return args


def _check_files(paths: list[str]) -> None:
  """Before the weights are loaded, which takes longer."""
  for path in paths:
    if not Path(path).is_file():
      raise MediaError(f'{path}: no such file')


def _user(text: str, media: list[dict[str, Any]]) -> dict[str, Any]:
  return {'role': 'user', 'content': [*media, {'type': 'text', 'text': text}]}


def _answer(molmo: molmo_jax.Molmo, messages: list[dict[str, Any]], max_new_tokens: int) -> str:
  """Prints the answer while it is made, and returns it."""
  answer = ''
  for piece in molmo.stream(messages, max_new_tokens):
    answer += piece
    print(piece, end='', flush=True)
  print()
  return answer


def _converse(molmo: molmo_jax.Molmo, media: list[dict[str, Any]],
              args: argparse.Namespace) -> None:
  """Questions from standard input, each with what was said before; ends with an empty line or the
  end of the input.
  """
  messages: list[dict[str, Any]] = []
  while True:
    try:
      question = input('> ' if sys.stdin.isatty() else '').strip()
    except EOFError:
      return
    if not question:
      return
    messages.append(_user(question, [] if messages else media))
    messages.append({'role': 'assistant', 'content': _answer(molmo, messages, args.max_new_tokens)})


def _draw(molmo: molmo_jax.Molmo, answer: str, messages: list[dict[str, Any]],
          args: argparse.Namespace) -> None:
  """Writes the images or frames that have points, side by side, with the points on them."""
  points = molmo.processor.points(answer, molmo.processor(messages))
  if args.video:
    config = molmo.processor.config.video
    frames, _ = read_video(args.video, config.max_frames_eval, config)
  else:
    frames = [load_image(path) for path in args.image]
  shown = sorted({p.frame for p in points}) or [0]
  drawn = [draw_points(frames[i], [(p.x, p.y) for p in points if p.frame == i]) for i in shown]
  height = max(len(d) for d in drawn)
  padded = [np.pad(d, ((0, height - len(d)), (0, 0), (0, 0)), constant_values=255) for d in drawn]
  Image.fromarray(np.concatenate(padded, axis=1)).save(args.draw)
  Console(stderr=True).print(f'{len(points)} points → {args.draw}', highlight=False)


if __name__ == '__main__':
  sys.exit(main())
