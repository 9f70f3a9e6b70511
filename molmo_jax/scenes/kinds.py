"""The kinds of scenes: each draws a scene at random, with its questions and a function to paint it.

Here are the five of the default dataset; those for ablations are in lab/.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from molmo_jax.scenes import compose, tasks
from molmo_jax.scenes.config import LAB_TASKS, ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, SHAPES, add_noise, draw_number, draw_things
from molmo_jax.scenes.lab import clips, images
from molmo_jax.scenes.scene import Media, Scene


def objects_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """One image with 1 to `config.max_objects` objects."""
  side = config.image_size
  things = compose.place(rng, config, side, compose.choose_kinds(rng, config))
  background = compose.background(rng, config)
  questions = (tasks.colour_questions(things) + tasks.shape_questions(things)
               + [tasks.count_question(things, config)]
               + tasks.position_questions(things, side, config)
               + tasks.pointing_questions(things, side, config)
               + [tasks.caption_question(things, side, config)])
  return Scene(tuple(questions),
               lambda: (add_noise(draw_things(side, background, things), config.noise, rng),))


def reading_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """One image with a number of `config.digits` digits, the first of them not 0."""
  number = str(rng.integers(10 ** (config.digits - 1), 10 ** config.digits))
  x, y, height = compose.number_place(rng, config)
  background = compose.background(rng, config)
  rgb = compose.jittered(rng, config, compose.choose(rng, COLOURS))

  def paint() -> Media:
    return (add_noise(draw_number(config.image_size, background, number, x, y, height, rgb),
                      config.noise, rng),)
  return Scene(tuple(tasks.reading_questions(number)), paint)


def comparison_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """Two images with one object each; colour and shape agree in half of the cases, independently."""
  pairs = []
  for words in (tuple(COLOURS), SHAPES):
    first, other = (words[i] for i in rng.permutation(len(words))[:2])
    pairs.append((first, first if rng.integers(2) else other))
  things = [compose.place(rng, config, config.tile_size, [kind])[0]
            for kind in zip(*pairs, strict=True)]
  backgrounds = [compose.background(rng, config) for _ in things]

  def paint() -> Media:
    return tuple(add_noise(draw_things(config.tile_size, b, [t]), config.noise, rng)
                 for b, t in zip(backgrounds, things, strict=True))
  return Scene(tuple(tasks.comparison_questions(*things, config.comparisons)), paint)


def motion_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A clip with one moving object."""
  direction = compose.choose(rng, compose.DIRECTIONS)
  clip = compose.moving(rng, config, direction)
  questions = [tasks.motion_question(direction), *tasks.colour_questions(clip.frames[0]),
               *tasks.shape_questions(clip.frames[0])]
  return Scene(tuple(questions), lambda: clip.paint(config.clip_size), config.clip_fps)


def order_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A clip with two objects of different colours, one after the other."""
  first, last = (tuple(COLOURS)[i] for i in rng.permutation(len(COLOURS))[:2])
  clip = compose.appearing(rng, config, first, last)
  return Scene(tuple(tasks.order_questions(first, last)), lambda: clip.paint(config.clip_size),
               config.clip_fps)


SCENES: dict[str, Callable[[np.random.Generator, ScenesConfig], Scene]] = {
  'objects': objects_scene,
  'reading': reading_scene,
  'comparison': comparison_scene,
  'motion': motion_scene,
  'order': order_scene,
  'detail': images.detail_scene,
  'aspect': images.aspect_scene,
  'tiles': images.tiles_scene,
  'match': images.match_scene,
  'blinks': clips.blinks_scene,
  'when': clips.when_scene,
  'events': clips.events_scene,
  'missing': clips.missing_scene,
}
SUBTITLED = ('motion', 'order')               # kinds of clips of which some have subtitles
KIND_OF_TASK = {'colour': 'objects', 'shape': 'objects', 'count': 'objects', 'position': 'objects',
                'pointing': 'objects', 'reading': 'reading', 'comparison': 'comparison',
                'motion': 'motion', 'order': 'order', **{task: task for task in LAB_TASKS}}
