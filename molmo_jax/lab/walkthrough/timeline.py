"""The sections about a video: when its frames are taken, and how a frame is pooled."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from molmo_jax.evaluation.media import data_uri, thumbnail
from molmo_jax.lab.walkthrough import drawing
from molmo_jax.lab.walkthrough.example import Walkthrough
from molmo_jax.lab.walkthrough.table import number

STRIP = 12                                    # frames in the strip, the last one included
STRIP_SIDE = 200                              # their side, pixels


class Sections(Protocol):
  """Numbers sections."""
  def section(self, name: str, title: str, say: str, *content: str) -> str: ...


def sections(w: Walkthrough, count: Sections) -> list[str]:
  """Timeline with a strip of frames, and the pooled grid of one frame."""
  times, config = w.encoded.frame_times, w.run.preprocess.video
  most = config.max_frames if w.training else config.max_frames_eval
  say = f'<b>{number(len(times))}</b> frames over {times[-1]:.2f} s, chosen by <code>{config.frame_sample_mode}</code>'
  if config.frame_sample_mode == 'uniform_last_frame':
    rate = f'{config.max_fps:g} a second where that makes no more than F = {most}, or else ' if config.max_fps else ''
    say += f': {rate}{most} spread evenly. The last frame is always among them'
  return [count.section('timeline', 'The sampled frames', f'{say}.',
                        f'<div class="panel">{axis(times)}</div><div '
                        f'class="panel">{_strip(w)}</div>'),
          _pooled(w, count)]


def axis(times: np.ndarray) -> str:
  """A tick at every sampled moment; `times` float [F], seconds, ascending."""
  width, left, right = 1120, 24, 1096
  end = max(float(times[-1]), 1e-9)
  x = [left + (right - left) * t / end for t in times.tolist()]
  step = max(1, -(-len(x) // 16))
  named = {*range(0, len(x) - max(1, step * 2 // 3), step), len(x) - 1}
  ticks = ''.join(f'<line class="{"final" if i == len(x) - 1 else "tick"}" x1="{a:.1f}" '
    f'x2="{a:.1f}" y1="18" y2="46"><title>frame {i + 1}: {times[i]:.2f} s</title></line>'
    for i, a in enumerate(x))
  names = ''.join(f'<text class="small" x="{x[i]:.1f}" y="64" '
    f'text-anchor="middle">{times[i]:.1f}</text>'
    for i in sorted(named))
  return (f'<svg class="time fill" role="img" aria-label="{len(x)} sampled moments" viewBox="0 0 '
    f'{width} 72"><line class="axis" x1="{left}" x2="{right}" y1="32" y2="32"/>{ticks}{names}</svg>')


def _strip(w: Walkthrough) -> str:
  """Up to STRIP frames with their pooling windows, evenly chosen, first and last among them."""
  times, box = w.encoded.frame_times, w.encoded.layout_box[w.parts[0].views[0].rows]
  figures = []
  chosen = np.unique(np.rint(np.linspace(0, len(times) - 1, STRIP)).astype(int)).tolist()
  for index in chosen:
    small = thumbnail(drawing.as_uint8(w.encoded.crops[index]), STRIP_SIDE)[0]
    last = index == len(times) - 1
    picture = (f'<image width="{small.width}" height="{small.height}" '
      f'href="{data_uri(small, lossless=False)}"/>'
      + drawing.grid(box, small.width, small.height))
    figures.append(f'<figure{" class=lastframe" if last else ""}>'
                   + drawing.svg(small.width, small.height, f'frame {index + 1}', picture)
                   + f'<figcaption>{times[index]:.1f} '
                   f's{", the last" if last else ""}</figcaption></figure>')
  left_out = f'<p class="key">{len(chosen)} of {len(times)} frames</p>' if len(chosen) < len(
    times) else ''
  return f'<div class="frames">{"".join(figures)}</div>{left_out}'


def _pooled(w: Walkthrough, count: Sections) -> str:
  view, config = w.parts[0].views[0], w.run.preprocess
  side = w.grid * config.image.patch_size
  box = w.encoded.layout_box[view.rows]
  middle = box[(view.grid[0] // 2) * view.grid[1] + view.grid[1] // 2]
  pixels = drawing.as_uint8(w.encoded.crops[view.crops.start])
  way = 'letterboxed' if config.image.resize == 'letterbox' else 'stretched'
  say = (f'Every frame is one crop, {way} to {side} × {side} px: {w.grid} × {w.grid} patches, '
    f'<b>{{}} × {{}}</b> windows of {{}} × {{}}, '.format(*view.grid, *config.video.pooling)
    + f'{number(view.rows.stop - view.rows.start)} tokens a frame. Nothing overlaps and nothing is '
    'dropped.')
  return count.section(
      'windows', 'The pooled grid of a frame', say,
      '<svg class="defs" '
      f'aria-hidden="true"><defs>{drawing.definition("f0", pixels)}</defs></svg><div class="panel '
      f'pair equal"><figure>{drawing.view("f0", box, side)}<figcaption>the first frame, its '
      f'windows</figcaption></figure><figure>{drawing.close_up("f0", middle, (side, side), config.image.patch_size)}<figcaption>one '
      'window close up; the thin lines are patches</figcaption></figure></div>')
