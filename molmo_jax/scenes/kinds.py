"""The kinds of scenes: each draws a scene at random, with its questions and a function to paint it.

Here are the five of the default dataset; those for ablations are in lab/.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from molmo_jax.scenes import compose, tasks
from molmo_jax.scenes.config import LAB_TASKS, ScenesConfig
from molmo_jax.scenes.drawing import COLOURS, SHAPES, draw_number, draw_things
from molmo_jax.scenes.lab import clips, images
from molmo_jax.scenes.scene import Scene


def objects_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """One image with 1 to `config.max_objects` objects."""
  side = config.image_size
  things = compose.place(rng, config, side, compose.choose_kinds(rng, config))
  background = compose.background(rng, config)
  questions = (tasks.colour_questions(things, config) + tasks.shape_questions(things, config)
               + [tasks.ask(config, 'count', str(len(things)))]
               + tasks.position_questions(things, side, config)
               + tasks.pointing_questions(things, side, config)
               + [tasks.caption_question(things, side, config)])
  return Scene(tuple(questions), lambda: (draw_things(side, background, things),))


def reading_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """One image with a number of `config.digits` digits, the first of them not 0."""
  number = str(rng.integers(10 ** (config.digits - 1), 10 ** config.digits))
  place = compose.number_place(rng, config)
  background = compose.background(rng, config)
  rgb = compose.jittered(rng, config, compose.choose(rng, COLOURS))
  return Scene(tuple(tasks.reading_questions(number)),
               lambda: (draw_number(config.image_size, background, number, *place, rgb),))


def comparison_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """Two images with one object each; colour and shape agree in half of the cases, independently."""
  pairs = []
  for words in (tuple(COLOURS), SHAPES):
    first, other = (words[i] for i in rng.permutation(len(words))[:2])
    pairs.append((first, first if rng.integers(2) else other))
  things = [compose.place(rng, config, config.tile_size, [kind])[0]
            for kind in zip(*pairs, strict=True)]
  backgrounds = [compose.background(rng, config) for _ in things]
  first, second = things
  return Scene(tuple(tasks.comparison_questions(first, second, config)),
               lambda: tuple(draw_things(config.tile_size, background, [thing])
                             for background, thing in zip(backgrounds, things, strict=True)))


def motion_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A clip with one moving object."""
  direction = compose.choose(rng, compose.DIRECTIONS)
  clip = compose.moving(rng, config, direction)
  questions = [tasks.ask(config, 'motion', direction),
               *tasks.colour_questions(clip.frames[0], config),
               *tasks.shape_questions(clip.frames[0], config)]
  return Scene(tuple(questions), lambda: clip.paint(config.clip_size), config.clip_fps)


def order_scene(rng: np.random.Generator, config: ScenesConfig) -> Scene:
  """A clip with two objects of different colours, one after the other."""
  moments = dict(zip(('first', 'last'), compose.colours(rng, 2)))
  clip = compose.appearing(rng, config, *moments.values())
  questions = [tasks.ask(config, 'order', colour, moment) for moment, colour in moments.items()]
  return Scene(tuple(questions), lambda: clip.paint(config.clip_size), config.clip_fps)


SCENES: dict[str, Callable[[np.random.Generator, ScenesConfig], Scene]] = {
  scene.__name__.removesuffix('_scene'): scene for scene in (
    objects_scene, reading_scene, comparison_scene, motion_scene, order_scene, images.detail_scene,
    images.aspect_scene, images.tiles_scene, images.match_scene, clips.blinks_scene,
    clips.when_scene, clips.events_scene, clips.missing_scene)}
SUBTITLED = ('motion', 'order')               # kinds of clips of which some have subtitles
KIND_OF_TASK = {'colour': 'objects', 'shape': 'objects', 'count': 'objects', 'position': 'objects',
                'pointing': 'objects', 'reading': 'reading', 'comparison': 'comparison',
                'motion': 'motion', 'order': 'order', **{task: task for task in LAB_TASKS}}
