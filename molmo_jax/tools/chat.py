"""Asks a checkpoint about images or a video; the answer appears while it is generated.

Without a question it holds a conversation: one question a line, an empty line ends it.

Examples:
  molmo-jax chat --model allenai/Molmo2-8B --image cat.jpg "What is the cat doing?"
  molmo-jax chat --model DIR --image a.jpg b.jpg "What changed?"
  molmo-jax chat --model DIR --image mugs.jpg --draw mugs_points.png "Point to the mugs."
  molmo-jax chat --model DIR --video clip.mp4    # without a question: a conversation
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import molmo_jax
from molmo_jax.command_line import make_parser, one_line_errors
from molmo_jax.evaluation.drawing import draw_points
from molmo_jax.preprocess.reading import load_image
from molmo_jax.preprocess.types import EncodingError, MediaError
from molmo_jax.preprocess.video import read_video
from molmo_jax.visible import say


@one_line_errors
def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  args = _arguments(argv)
  media = [{'type': 'image', 'image': path} for path in args.image]
  media += [{'type': 'video', 'video': args.video}] if args.video else []
  for part in media:   # before the weights are loaded, which takes longer
    if not Path(part[part['type']]).is_file():
      raise MediaError(f'{part[part["type"]]}: no such file')
  molmo = molmo_jax.from_pretrained(args.model, dtype=args.dtype)
  if args.question:
    messages = [_user(args.question, media)]
    answer = _answer(molmo, messages, args.max_new_tokens)
    if args.draw:
      _draw(molmo, answer, messages, args)
  else:
    _converse(molmo, media, args.max_new_tokens)
  return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
  parser = make_parser('chat', __doc__)
  parser.add_argument('--model', required=True, metavar='DIR',
                      help='folder of a checkpoint, or its id on the Hub')
  parser.add_argument('--image', nargs='+', action='extend', default=[], metavar='FILE',
                      help='one image or several')
  parser.add_argument('--video', metavar='FILE', help='a video')
  parser.add_argument('--draw', metavar='OUT.png',
                      help="draws the answer's points on the images or frames")
  parser.add_argument('--dtype', choices=('bfloat16', 'float32'), default='bfloat16',
                      help='of weights and computation (default: %(default)s)')
  parser.add_argument('--max-new-tokens', type=int, default=448, metavar='N',
                      help='longest answer (default: %(default)s)')
  parser.add_argument('question', nargs='?',
                      help='what to ask; without it questions are read line by line')
  args = parser.parse_args(argv)
  if args.question is None and len(args.image) > 1 and not Path(args.image[-1]).exists():
    args.question = args.image.pop()   # `--image a.jpg "question"`: the flag takes all that follows
  if args.image and args.video:
    parser.error('--image and --video: a conversation is about one or the other')
  if args.draw and not (args.question and (args.image or args.video)):
    parser.error('--draw needs a question, and --image or --video')
  return args


def _user(text: str, media: list[dict[str, Any]]) -> dict[str, Any]:
  return {'role': 'user', 'content': [*media, {'type': 'text', 'text': text}]}


def _answer(molmo: molmo_jax.Molmo, messages: list[dict[str, Any]], max_new_tokens: int) -> str:
  """Prints the answer while it is generated, and returns it."""
  answer = ''
  for piece in molmo.stream(messages, max_new_tokens):
    answer += piece
    say(piece, end='', flush=True)
  say()
  return answer


def _converse(molmo: molmo_jax.Molmo, media: list[dict[str, Any]], max_new_tokens: int) -> None:
  """Answers questions from standard input, one a line, until an empty line or end of input."""
  messages: list[dict[str, Any]] = []
  with contextlib.suppress(EOFError):
    while question := input('> ' if sys.stdin.isatty() else '').strip():
      asked = [*messages, _user(question, [] if messages else media)]
      try:
        answer = _answer(molmo, asked, max_new_tokens)
      except EncodingError as error:            # of this question: the conversation goes on
        say(f'error: {error}', file=sys.stderr)
      else:
        messages = [*asked, {'role': 'assistant', 'content': answer}]


def _draw(molmo: molmo_jax.Molmo, answer: str, messages: list[dict[str, Any]],
          args: argparse.Namespace) -> None:
  """Writes the images or frames that have points, side by side, with the points on them."""
  points = molmo.processor.points(answer, molmo.processor(messages))
  config = molmo.processor.config
  most, video = config.max_pixels, config.video
  frames = (read_video(args.video, video.max_frames_eval, video, max_pixels=most)[0]
            if args.video else [load_image(path, max_pixels=most) for path in args.image])
  shown = sorted({p.frame for p in points}) or [0]
  drawn = [draw_points(frames[i], [(p.x, p.y) for p in points if p.frame == i]) for i in shown]
  height = max(len(d) for d in drawn)
  padded = [np.pad(d, ((0, height - len(d)), (0, 0), (0, 0)), constant_values=255) for d in drawn]
  Image.fromarray(np.concatenate(padded, axis=1)).save(args.draw)
  say(f'{len(points)} points → {args.draw}', file=sys.stderr)


if __name__ == '__main__':
  sys.exit(main())
