"""From the files of public datasets to manifests: one adapter for each, by name. Table:
docs/datasets.md.
"""

from __future__ import annotations

from molmo_jax.data.adapters.adapter import Adapter
from molmo_jax.data.adapters.image_qa import IMAGE_QA
from molmo_jax.data.adapters.molmo2 import MOLMO2
from molmo_jax.data.adapters.pixmo import PIXMO
from molmo_jax.data.adapters.tracking import TRACKING
from molmo_jax.data.adapters.video_labels import VIDEO_LABELS
from molmo_jax.data.adapters.video_qa import VIDEO_QA

ADAPTERS: dict[str, Adapter] = PIXMO | MOLMO2 | TRACKING | IMAGE_QA | VIDEO_QA | VIDEO_LABELS
