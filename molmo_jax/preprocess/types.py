"""The records that preprocessing passes on, and its configuration. numpy only.

Letters of shapes: `C` crops or frames, `P` patches of a crop, `V` visual tokens that carry a pooled
feature, `W` slots of a pooling window (4 or 9), `T` layout tokens of one input, `S` tokens of a
sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import numpy as np

from molmo_jax.configuration import Positive, Range, Size
from molmo_jax.errors import MolmoError
from molmo_jax.preprocess.frame_sampling import CANDIDATE_FPS

Value = TypeVar('Value')

# The fields of a row and a batch, with what fills their unused part (docs/data.md).
PADDING_VALUES = dict(tokens=-1, targets=-1, positions=0, segments=-1, visual=0, feature_index=-1,
               loss_weights=0, crops=0, pool_index=-1, layout_index=0, layout_box=0, patch_mask=0)
SEQUENCE_FIELDS = ('tokens', 'targets', 'positions', 'segments', 'visual', 'feature_index',
                   'loss_weights')
VISUAL_FIELDS = ('pool_index', 'layout_index', 'layout_box')


class MediaError(MolmoError):
  """An image or a video that cannot be read or used; the message names the file."""


class EncodingError(MolmoError):
  """A record that cannot become a training sequence; the message says why."""


def choice(name: str, known: Mapping[str, Value], what: str) -> Value:
  """`known[name]`; ValueError names the choices."""
  if name not in known:
    raise ValueError(f'{what} {name!r} does not exist; the choices are: {", ".join(known)}')
  return known[name]


Reading = Literal['composite', 'convert']
Side = Annotated[int, Range(1, 2 ** 16)]    # pixels, and frames of a video
Few = Annotated[int, Range(1, 1000)]        # crops, images, and patches of a window's side
Margin = Annotated[int, Range(0, 1000)]     # patches
MAX_PIXELS = 100_000_000


@dataclasses.dataclass(frozen=True)
class ImageConfig:
  """How an image becomes crops (docs/model.md §6). Defaults: Molmo2 (SigLIP2 at 378 px)."""
  crop_size: Side = 378                       # side of a crop, pixels
  patch_size: Side = 14                       # side of a patch, pixels
  max_crops: Few = 8                          # K in training; the global view is not counted
  max_crops_eval: Few = 24                    # K at inference
  # K of each of several images, in training and at inference
  max_multi_image_crops: Few = 8
  max_images: Few = 5                         # images in one example, training
  max_images_eval: Few = 20                   # images in one example, inference
  # what training makes of transparency and 16-bit grey (`reading.load_image`)
  reading: Reading = 'composite'
  # patches (left/top, right/bottom) that neighbouring crops share
  overlap_margins: tuple[Margin, Margin] = (4, 4)
  pooling: tuple[Few, Few] = (2, 2)           # pooling window, patches (rows, columns)
  # several overlapping crops, or a single one
  mode: Literal['overlap-and-resize-c2', 'resize'] = 'overlap-and-resize-c2'
  # how the canvas is filled (docs/model.md §6.2)
  resize: Literal['stretch', 'letterbox', 'stretch_bicubic'] = 'stretch'
  use_col_tokens: bool = True                 # <im_col> after every row of the crops' grid
  use_global_col_tokens: bool = False         # <im_col> in the global view too
  use_low_res_start: bool = True              # <low_res_im_start> opens the global view
  # sides minus margins are at least 1 px; HF code: False
  clamp_small_sides: bool = True
  # windows are cut over each crop, not over the stitched canvas (v1)
  pool_per_crop: bool = False
  number_images: bool = True                  # `Image k` before each of several images; v1: False
  # share of real pixels of every patch; None: where images are letterboxed
  patch_mask: bool | None = None
  # the rows of the mask as the 0924 releases read them: crop k has that of crop k + 1, the last one
  # −1
  shift_patch_mask: bool = False

  @property
  def grid(self) -> int:
    """Patches along one side of a crop."""
    return self.crop_size // self.patch_size

  @property
  def has_patch_mask(self) -> bool:
    """Whether `Encoded.patch_mask` is given."""
    return self.resize == 'letterbox' if self.patch_mask is None else self.patch_mask


@dataclasses.dataclass(frozen=True)
class VideoConfig:
  """How a video becomes frames (docs/model.md §7)."""
  max_frames: Side = 128                      # F in training
  max_frames_eval: Side = 384                 # F at inference (long context)
  max_fps: Positive | None = 2.0              # frames per second of video
  frame_sample_mode: str = 'uniform_last_frame'  # docs/model.md §7.1
  # rates that the modes 'fps…' choose from, ascending
  candidate_fps: tuple[Positive, ...] = CANDIDATE_FPS
  pooling: tuple[Few, Few] = (3, 3)           # pooling window, patches (rows, columns)
  # how the time of a frame is written
  time_mode: Literal['per-frame-compact', 'per-frame', 'numbered-frames',
                     'none'] = 'per-frame-compact'
  # <frame_start>/<frame_end>; False: <im_start>/<im_end>
  use_frame_special_tokens: bool = True
  # a pair around every frame; False: one pair around the video
  per_frame_special_token: bool = True
  subtitle_mode: str = 'frame_1'              # frame_N | all | truncate_N | ignore


@dataclasses.dataclass(frozen=True)
class TextConfig:
  """How messages become text and loss weights (docs/model.md §8, docs/training.md §3–4)."""
  # ChatML · User and Assistant (v1) · plain
  message_format: Literal['qwen3', 'role', 'none'] = 'qwen3'
  # a prompt's style tag (docs/training.md §4.1)
  style_prefix: Literal['none', 'style', 'demo_or_style', 'demo_or_style_v2', 'style_and_length',
                        'style_and_length_v2'] = 'none'
  # docs/training.md §3.4
  message_weight: Literal['none', 'root_subsegments',
                          'root_subsegments_root_tokens'] = 'root_subsegments_root_tokens'
  # branches of a message tree that do not fit are dropped; None: no limit
  max_sequence_length: Size | None = None
  max_sequence_length_eval: Size | None = None  # longest prompt at inference; None: no limit
  # a tree ends with the branch that reaches it; None: no limit
  max_text_tokens: Size | None = None
  shuffle_branches: bool = True               # order of a message tree's branches in training
  # v1: EOS stays between branches, which are 1, 2, …
  tree_format: Literal['molmo2', 'molmo_v1'] = 'molmo2'


@dataclasses.dataclass(frozen=True)
class PreprocessConfig:
  """Everything between a raw example and its arrays."""
  image: ImageConfig = ImageConfig()
  video: VideoConfig = VideoConfig()
  text: TextConfig = TextConfig()
  max_pixels: Size = MAX_PIXELS               # of an image or a frame; larger ones are refused
  # the strings around images and frames
  layout_format: Literal['released', 'seed1', 'seed2'] = 'released'


# The released 0924 models on CLIP ViT-L/14-336. Windows of video are as wide as those of images:
# without a mask in the pooling, an empty slot would take part in the mean.
MOLMO_V1 = PreprocessConfig(
  image=ImageConfig(crop_size=336, max_crops=12, max_crops_eval=12, resize='letterbox',
                    use_global_col_tokens=True, use_low_res_start=False, clamp_small_sides=False,
                    pool_per_crop=True, number_images=False, shift_patch_mask=True),
  video=VideoConfig(pooling=(2, 2)),
  text=TextConfig(message_format='role', style_prefix='demo_or_style',
                  message_weight='root_subsegments', tree_format='molmo_v1'))


@dataclasses.dataclass(frozen=True)
class Subtitle:
  """A line of subtitles; times in seconds of the video, or of its clip where there is one."""
  start: float
  end: float
  text: str


@dataclasses.dataclass(frozen=True)
class Message:
  """One turn of a conversation."""
  role: Literal['user', 'assistant']
  content: str


@dataclasses.dataclass(frozen=True)
class Example:
  """One record of a manifest, checked but with its media unread. Schema: docs/data.md."""
  images: tuple[Any, ...] = ()                # path | PIL.Image | uint8 [h,w,3]
  video: Any = None                           # path | uint8 [T,h,w,3] with `fps`
  fps: float | None = None                    # frames per second of an array video
  # seconds of the video file that are shown; None: all of it
  clip: tuple[float, float] | None = None
  subtitles: str | tuple[Subtitle, ...] | None = None
  # more than one: a message tree over the same media
  conversations: tuple[tuple[Message, ...], ...] = ()
  # of each conversation: loss weight per token, or single terms of it ({'weight', 'root_length',
  # 'root_subsegments'}) in the place of the stage's
  weights: tuple[float | Mapping[str, Any] | None, ...] | None = None
  # what is known where there are no conversations yet: `data.formatting` words it
  facts: tuple[Mapping[str, Any], ...] = ()
  dialogue: float = 0.0                       # probability that the facts become one conversation
  backdrop: str = ''                          # folder whose media a record without its own gets
  # fields of `VideoConfig` that hold for this video: frame_sample_mode, candidate_fps
  sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  task: str = 'default'
  style: str | None = None
  # style of each conversation, where they differ; replaces `style`
  styles: tuple[str, ...] = ()
  answers: tuple[str, ...] = ()               # accepted answers (evaluation)
  # the possible answers, where the question has a closed set
  options: tuple[str, ...] = ()
  # reference points (x, y) as fractions of width and height
  points: tuple[tuple[float, float], ...] = ()
  metric: str = 'exact_match'
  # what else the metric reads
  metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  id: str = ''
  source: str = ''                            # 'file.jsonl:12', for messages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crops:
  """Pixels and pooling windows of one image or of all frames of a video.

  `pool_index` counts patches of this input alone: crop * P + patch, −1 = empty slot. `grids` are
  the sizes (rows, columns) of the pooled grids in the order of the rows of `pool_index`: global
  view, stitched crops; or one per frame.
  """
  # uint8 [C,h,w,3]; letterbox: float32 in 0..1, padding 0, not yet normalised
  crops: np.ndarray
  pool_index: np.ndarray                      # int32 [V,W]
  grids: tuple[tuple[int, int], ...]
  # int32 [V,4]: row and column in its grid, crop or frame, kind (0 global, 1 crop, 2 frame)
  layout_index: np.ndarray
  # float32 [V,4]: x0, y0, x1, y1 as fractions of the view (canvas or frame)
  layout_box: np.ndarray
  # float32 [C,P]: share of real pixels in each patch (`ImageConfig.has_patch_mask` only)
  patch_mask: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualInput(Crops):
  """One image or one video, ready to be put into a sequence.

  The i-th row of `pool_index` is the feature that is added to the i-th `<im_patch>` of `tokens`.
  """
  # int32 [T]: layout tokens, timestamps and subtitles included
  tokens: np.ndarray
  frame_times: np.ndarray | None = None       # float64 [C]: seconds of a video's frames


@dataclasses.dataclass(frozen=True)
class TokenSequence:
  """A sequence without its visual arrays.

  `segments` is 100000·example + subsegment: 10000 for the shared prefix of a message tree, i for
  branch i; one constant where there is one conversation; −1 is padding. A token may attend to
  another of the same example only if its subsegment is not larger.
  """
  tokens: np.ndarray                          # int32 [S]
  targets: np.ndarray                         # int32 [S]
  loss_weights: np.ndarray                    # float32 [S]
  positions: np.ndarray                       # int32 [S]
  segments: np.ndarray                        # int32 [S]


@dataclasses.dataclass(frozen=True)
class Encoded(TokenSequence):
  """One example as arrays: what is packed into rows and batched.

  `visual` is 0 for text and 1 + n for visual tokens, n = running count of `<low_res_im_start>` and
  `<frame_start>`.
  """
  visual: np.ndarray                          # int32 [S]
  # int32 [S]: row of `pool_index` whose feature is added here, −1 none
  feature_index: np.ndarray
  # uint8 [C,h,w,3]; letterbox: float32 in 0..1, padding 0
  crops: np.ndarray
  pool_index: np.ndarray                      # int32 [V,W]
  layout_index: np.ndarray                    # int32 [V,4]
  layout_box: np.ndarray                      # float32 [V,4]
  # float64 [frames]: seconds of a video's frames; empty without a video
  frame_times: np.ndarray
  # float32 [C,P]: share of real pixels (`ImageConfig.has_patch_mask` only)
  patch_mask: np.ndarray | None = None
