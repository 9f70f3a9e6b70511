"""Which generation of the published scorers is followed."""

from __future__ import annotations

MOLMO2, MOLMO_V1 = 'molmo2', 'v1'


def is_v1(version: str) -> bool:
  """Whether `version` is that of Molmo v1.

  Raises:
    ValueError: a version that does not exist.
  """
  if version not in (MOLMO2, MOLMO_V1):
    raise ValueError(f"version {version!r} of a metric does not exist; the versions are '{MOLMO2}' "
      f"and '{MOLMO_V1}'")
  return version == MOLMO_V1
