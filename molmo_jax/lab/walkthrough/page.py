"""The walkthrough as one page: table, drawings, tokens and mask."""

from __future__ import annotations

from molmo_jax.kernels.mask import MODES
from molmo_jax.lab.walkthrough import drawing, sequence, table
from molmo_jax.lab.walkthrough.example import Walkthrough
from molmo_jax.pages.render import render


def page(w: Walkthrough) -> str:
  """The HTML text of the page; it asks for nothing outside itself."""
  return render('walkthrough.html', w=w, drawing=drawing, sequence=sequence, table=table,
                title=', '.join(part.source.name for part in w.parts) + ': from pixels to tokens',
                facts=_facts(w), mode=MODES[w.run.model.bidirectional])


def _facts(w: Walkthrough) -> list[tuple[int, str]]:
  return [(len(w.encoded.crops), 'frames' if w.is_video else 'crops, global view included'),
          (w.patches, 'patches in the vision tower'), (w.features, 'patch tokens'),
          (w.visual_tokens(), 'visual tokens'),
          (len(w.encoded.tokens), 'tokens in all')]
