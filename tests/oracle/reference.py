"""The reference: transformers' own Molmo2 on torch, with inputs in our chat format and numpy arrays
as results.

Importing this module skips the tests of the importing file where torch or transformers are not
installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault('HF_HUB_OFFLINE', '1')
# of torch's threads: they take turns with those of JAX
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
REASON = ('torch, torchvision and transformers are the reference of these tests: pip install -r '
  'requirements-oracle.txt')
torch = pytest.importorskip('torch', reason=REASON)


def _import_torchvision() -> Any:
  """torchvision, which stops half-way beside a CPU build of torch: two operators are declared for
  it then.

  Its fake kernels for `nms` and `qnms` are registered on import, but the operators come from a
  library that is linked against CUDA. transformers uses neither.
  """
  try:
    return pytest.importorskip('torchvision', reason=REASON)
  except RuntimeError as error:
    if 'torchvision::' not in str(error):
      raise
  for name in [name for name in sys.modules if name.partition('.')[0] == 'torchvision']:
    del sys.modules[name]
  library = torch.library.Library('torchvision', 'FRAGMENT')
  for operator in ('nms', 'qnms'):
    try:
      library.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    except RuntimeError:
      pass   # declared by the first attempt
  _import_torchvision.library = library   # the declarations live as long as this object
  return pytest.importorskip('torchvision', reason=REASON)


_import_torchvision()
transformers = pytest.importorskip('transformers', '5.23', reason=REASON)
from transformers.image_utils import load_image  # noqa: E402
from transformers.video_utils import VideoMetadata  # noqa: E402

torch.set_num_threads(1)   # tiny models; the other cores belong to others
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

Messages = Sequence[Mapping[str, Any]]


def load_model(folder: Path, dtype: str = 'float32') -> Any:
  """The model of a folder; every tensor of the file has its place in it, and the other way round.
  """
  model, report = transformers.Molmo2ForConditionalGeneration.from_pretrained(
    folder, dtype=getattr(torch, dtype), output_loading_info=True)
  assert not any(report[kind]
                 for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys')), report
  return model.eval()


def load_processor(folder: Path) -> Any:
  return transformers.AutoProcessor.from_pretrained(folder)


def parts(conversation: Messages, kind: str) -> Iterator[Mapping[str, Any]]:
  """The images or the videos of a conversation, in order."""
  for message in conversation:
    if not isinstance(message['content'], str):
      yield from (part for part in message['content'] if part['type'] == kind)


def prepare(processor: Any, *conversations: Messages, **options: Any) -> Any:
  """What transformers' processor makes of conversations in our format, as a left-padded batch.

  Images are Pillow images, arrays or paths. Videos are arrays with 'fps'; with 'frames', the
  indices of the frames that are taken, transformers does not choose any itself.
  """
  prompts, images, videos, metadata = [], [], [], []
  for conversation in conversations:
    plain = [{**m, 'content': m['content'] if isinstance(m['content'], str) else
              [p if p['type'] == 'text' else {'type': p['type']} for p in m['content']]}
             for m in conversation]
    goes_on = conversation[-1]['role'] == 'assistant'
    prompts.append(processor.apply_chat_template(plain, tokenize=False,
                                                 add_generation_prompt=not goes_on,
                                                 continue_final_message=goes_on))
    images += [load_image(str(p['image'])) if isinstance(p['image'], Path) else p['image']
               for p in parts(conversation, 'image')]
    for part in parts(conversation, 'video'):
      frames, fps = part['video'], part['fps']
      taken = part.get('frames')
      videos.append(frames if taken is None else frames[taken])
      metadata.append(VideoMetadata(total_num_frames=len(frames), fps=fps,
                                    duration=len(frames) / fps,
                                    frames_indices=None if taken is None else list(taken)))
      options['do_sample_frames'] = taken is None
  if images:
    options['images'] = images
  if videos:
    options |= dict(videos=videos, video_metadata=metadata)
  # With a single thread torch resizes by another program, which rounds a few values in ten thousand
  # to the next level.
  torch.set_num_threads(2)
  try:
    return processor(text=prompts, padding=True, return_tensors='pt', **options)
  finally:
    torch.set_num_threads(1)


def logits(model: Any, inputs: Any) -> np.ndarray:
  """float32 [B,S,vocab]."""
  with torch.no_grad():
    return model(**inputs).logits.float().numpy()


def greedy(model: Any, inputs: Any, new_tokens: int) -> list[list[int]]:
  """The most likely continuation of every row, up to and with the end token."""
  end = model.generation_config.eos_token_id
  ends = end if isinstance(end, list) else [end]
  with torch.no_grad():
    ids = model.generate(**inputs, max_new_tokens=new_tokens,
                         do_sample=False)[:, inputs['input_ids'].shape[1]:]
  return [row[:next((i + 1 for i, token in enumerate(row) if token in ends), len(row))]
          for row in ids.tolist()]
