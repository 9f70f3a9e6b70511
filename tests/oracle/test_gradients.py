"""The gradient of the training loss with respect to every parameter, against torch's."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from molmo_jax.checkpoint import hf
from molmo_jax.model.molmo import Network
from molmo_jax.preprocess.types import PADDING_VALUES
from molmo_jax.training.step import batch_loss
from tests.oracle import reference
from tests.oracle.conversations import everyday
from tests.oracle.reference import torch

Z_LOSS = 1e-2         # large enough to be seen in the gradient
TOLERANCE = 1e-4      # of a gradient's distance, relative to its length


def lesson(rows, first_extra, seed):
  """Our batch with random weights on the positions whose next token is text: targets and weights
  int, float [B,S].
  """
  rng = np.random.default_rng([seed, 73])
  targets = np.pad(rows['tokens'][:, 1:], ((0, 0), (0, 1)),
                   constant_values=PADDING_VALUES['targets'])
  learnable = (rows['segments'] >= 0) & (targets >= 0) & (targets < first_extra)
  weights = np.where(learnable, rng.uniform(0, 2, targets.shape), 0).astype(np.float32)
  return {k: v for k, v in rows.items() if k in PADDING_VALUES} | dict(
    targets=targets.astype(np.int32), loss_weights=weights)


def our_gradients(molmo, batch, folder):
  """The loss, and gradients under the names of transformers' parameters: the tree is written like a
  checkpoint.
  """
  model, batch = Network(molmo.config), {k: v for k, v in batch.items() if k != 'layout_index'
                                       and k != 'layout_box'}
  loss = lambda params: batch_loss(model, params, batch, Z_LOSS, 96)[0]
  value, gradients = jax.jit(jax.value_and_grad(loss))(molmo.params)
  hf.save_params(gradients, molmo.config, folder, layout='native')
  return float(value), load_file(folder / 'model.safetensors')


def their_gradients(pair, batch, conversations):
  """The same by torch, a conversation at a time: transformers takes images or a video."""
  pair.theirs.zero_grad()
  total = float(batch['loss_weights'].sum())
  value = 0.0
  for row, conversation in enumerate(conversations):
    real = batch['segments'][row] >= 0
    scores = pair.theirs(**reference.prepare(pair.processor, conversation)).logits[0]
    targets, weights = (torch.from_numpy(batch[name][row][real])
                        for name in ('targets', 'loss_weights'))
    ignored = torch.where(weights > 0, targets.long(), -100)
    cost = torch.nn.functional.cross_entropy(scores, ignored, reduction='none')
    loss = (weights * (cost + Z_LOSS * torch.logsumexp(scores, -1) ** 2)).sum() / total
    loss.backward()
    value += loss.item()
  return value, {name: p.grad.numpy().copy() for name, p in pair.theirs.named_parameters()}


@pytest.fixture(scope='module')
def gradients(pair, tmp_path_factory):
  conversations = [everyday(pair.design)[kind] for kind in ('images', 'video')]
  batch = lesson(pair.ours.processor(conversations), pair.design.text['vocab_size'],
                 pair.design.seed)
  return (our_gradients(pair.ours, batch, tmp_path_factory.mktemp('gradients')),
          their_gradients(pair, batch, conversations))


def test_the_loss_over_images_and_a_video_in_one_batch(gradients):
  (ours, _), (theirs, _) = gradients
  assert abs(ours - theirs) < 1e-5 * theirs


def test_every_gradient(gradients):
  (_, ours), (_, theirs) = gradients
  assert ours.keys() == theirs.keys()
  length = {name: np.linalg.norm(x) for name, x in theirs.items()}
  for name, theirs_of in theirs.items():
    distance = np.linalg.norm(ours[name] - theirs_of)
    assert ours[name].any() == theirs_of.any(), name
    if has_no_gradient(name):   # rounding is all there is, on both sides
      beside = length[name.replace('.k_proj.', '.q_proj.')]
      assert max(length[name], np.linalg.norm(ours[name])) < 1e-3 * beside, name
    else:
      assert length[name] > 1e-4, f'{name}: nothing to compare'
      assert distance <= TOLERANCE * length[name], f'{name}: {distance / length[name]:.1e}'


def has_no_gradient(name):
  """The bias of the keys in tower and pooling adds the same to all scores of a query, which softmax
  does not see.
  """
  return name.endswith('k_proj.bias') and 'language_model' not in name
