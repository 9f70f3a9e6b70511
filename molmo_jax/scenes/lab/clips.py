"""Clips for ablations: every frame is different, so that each frame, its order and its time matter.

A clip has as many encoded frames as moments; a reader that keeps so many frames
(`video.max_frames`) sees each once, one that keeps fewer sees only some. `blinks` needs all frames,
`when` their times, `events` their order, `missing` the first and the last one at once.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from molmo_jax.scenes import compose, tasks
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, SHAPES, Thing
from molmo_jax.scenes.scene import Scene

# so slow that no reader of as many frames leaves one out
FPS = Fraction(1)


def blinks_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """Objects that come and go, each in 1 to `blink_most` frames; other frames are empty."""
  lab = config.lab
  counts = {colour: int(rng.integers(1, lab.blink_most + 1))
            for colour in compose.colours(rng, lab.blink_objects)}
  moments: list[str | None] = [colour for colour, n in counts.items() for _ in range(n)]
  moments += [None] * (lab.blink_frames - len(moments))
  return _clip(rng, config, [moments[i] for i in rng.permutation(lab.blink_frames)], FPS,
               [('blinks', str(n), colour) for colour, n in counts.items()])


def when_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """An object in every frame but the first and last; the frame spacing is drawn for each clip."""
  lab = config.lab
  spacing = compose.choose(rng, lab.when_spacings)
  order = compose.colours(rng, min(lab.when_frames - 2, len(COLOURS)))
  moments = [None, *_in_turn(rng, order, lab.when_frames - 2), None]
  # the last frame is sampled at the end of the clip: the other samples are `spacing` apart
  fps = Fraction(lab.when_frames, (lab.when_frames - 1) * spacing)
  return _clip(rng, config, moments, fps,
               [('when', str(moments.index(colour) * spacing), colour) for colour in order])


def events_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """Objects of different colours, each in one frame; other frames are empty."""
  order = compose.colours(rng, config.lab.event_objects)
  pairs = list(zip(order, order[1:]))
  return _clip(rng, config, _in_turn(rng, order, config.lab.event_frames), FPS,
               [('after', b, a) for a, b in pairs] + [('before', a, b) for a, b in pairs])


def missing_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """Objects that change their places in every frame, until one of them is gone."""
  lab = config.lab
  kinds = [(colour, compose.choose(rng, SHAPES))
           for colour in compose.colours(rng, lab.missing_objects)]
  gone, last = kinds[0], int(rng.integers(1, lab.missing_frames))    # frames that show it
  frames = tuple(tuple(compose.place(rng, config, lab.missing_size,
                                     [k for k in kinds if k != gone or i < last]))
                 for i in range(lab.missing_frames))
  clip = compose.Clip(frames, compose.background(rng, config))
  return Scene((tasks.ask(config, 'missing', gone[0]),), lambda: clip.paint(lab.missing_size), FPS)


def _in_turn(rng: np.random.Generator, order: list[str], frames: int) -> list[str | None]:
  """`order` at different moments of `frames`, one colour after the other; None at the others."""
  moments: list[str | None] = [None] * frames
  for place, colour in zip(sorted(rng.permutation(frames)[:len(order)]), order, strict=True):
    moments[place] = colour
  return moments


def _clip(rng: np.random.Generator, config: ScenesConfig, moments: list[str | None], fps: Fraction,
          asked: list[tuple[str, str, str]]) -> Scene:
  """The scene of a clip with at most one object at a time, near the middle of the frame.

  `asked`: arguments of `tasks.ask`: wording, answer, what it is about.
  """
  side, looks = config.lab.frame_size, {}
  for colour in filter(None, moments):
    looks.setdefault(colour, (compose.choose(rng, SHAPES), compose.object_size(rng, config),
                              compose.jittered(rng, config, colour)))
  free = max((side - config.max_object_size) / 2 - 1, 0.0)

  def thing(colour: str) -> Thing:
    shape, size, rgb = looks[colour]
    x, y = (side / 2 + float(rng.uniform(-free, free)) for _ in 'xy')
    return Thing(colour, shape, x, y, size, rgb)

  frames = tuple(() if colour is None else (thing(colour),) for colour in moments)
  clip = compose.Clip(frames, compose.background(rng, config))
  return Scene(tuple(tasks.ask(config, *question) for question in asked),
               lambda: clip.paint(side), fps)
