"""The configuration of a run: sections of fixed keys, and parts that are chosen by name."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self, get_type_hints

from pyg_bgformer.config.values import check_numbers
from pyg_bgformer.errors import InputError
from pyg_bgformer.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share


class Section:
    """A section of a recipe with fixed keys. Its types may have ranges."""

    def __post_init__(self) -> None:
        """Checks all numbers against their ranges.

        Raises:
            InputError: If a number is out of range.
        """
        for key, kind in get_type_hints(type(self), include_extras=True).items():
            check_numbers(f"{self.title()}.{key}", getattr(self, key), kind)

    @classmethod
    def title(cls) -> str:
        """Returns the section's name in a recipe."""
        return cls.__name__.removesuffix("Config").lower()


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Images and augmentation.

    Args:
        name: Name of the dataset: digits, glyphs, omniglot, cub200, cars196, sop, inshop or folder.
        root: Folder or archive of the dataset. By default it is in $PYG_BGFORMER_DATA or in data.
        variant: Variant of the dataset, if it has variants.
        allow_partial: Use an incomplete copy of the dataset. Results are then marked as partial.
        crop_to_box: Crop images to their annotated boxes (cub200, cars196). Results are then marked as cropped.
        image_size: Side in pixels of the images that the encoder sees.
        resize: Length in pixels of the shorter side of a test image before the centre crop.
        crop_scale: Smallest and largest share of the image's area that a training crop takes.
        crop_ratio: Smallest and largest aspect ratio (width / height) of a training crop.
        flip: Mirror each training image with probability 0.5.
        random_erasing: Probability that a random rectangle of a training image becomes the mean colour.
        label_noise: Share of the training images that get the label of another training class.
        image_noise: Share of the training images that are replaced by noise.
        views: With a frozen encoder, number of augmented views of each training image. null uses the image as it is
            at test time.
        feature_cache: Folder for the features of frozen encoders, or null for no cache.
        workers: Number of processes that load images.
        augment_on: Where crops are resized, mirrored and erased: in the processes that load images (workers), or on
            the GPU for a whole batch (device). Random choices are the same, and so are images, with two exceptions:
            crops longer than cache_size are reduced before, which changes pixels by less than half a grey level on
            average; crops of more than four times image_size differ by at most one grey level.
        min_images: Leave out classes with fewer images.
        holdout: Share of the classes that is tested, for your own folder without train and test folders. 0 trains
            on all classes and tests on the training images. 1 tests all classes and trains on none. null tests the
            second half of the class names.
        holdout_seed: Decides which classes are tested.
        cache: Folder for decoded images, or null to decode them in every epoch.
        cache_size: Length in pixels of the shorter side of large images in the cache. Training crops are cut from
            the cached images. Choose it well above resize, otherwise small crops are more blurred than test images.
            With augment_on: device, also the longest side of a crop that is moved to the device. Longer crops are
            reduced before.
    """

    name: str = "digits"
    root: str | None = None
    variant: str | None = None
    allow_partial: bool = False
    crop_to_box: bool = False
    image_size: PositiveInt = 224
    resize: PositiveInt = 256
    crop_scale: tuple[Share, Share] = (0.2, 1.0)
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.3333)
    flip: bool = True
    random_erasing: Share = 0.0
    label_noise: Share = 0.0
    image_noise: Share = 0.0
    views: PositiveInt | None = None
    feature_cache: str | None = "~/.cache/pyg_bgformer"
    workers: NonNegativeInt = 2
    augment_on: Literal["workers", "device"] = "workers"
    min_images: PositiveInt = 1
    holdout: Share | None = None
    holdout_seed: NonNegativeInt = 0
    cache: str | None = None
    cache_size: PositiveInt = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resize < self.image_size:
            raise InputError(
                f"data.resize: expected at least data.image_size ({self.image_size}), found {self.resize}"
            )
        if self.cache_size < self.resize:
            raise InputError(
                f"data.cache_size: expected at least data.resize ({self.resize}), found {self.cache_size}"
            )
        for key in ("crop_scale", "crop_ratio"):
            smallest, largest = getattr(self, key)
            if smallest > largest:
                raise InputError(
                    f"data.{key}: expected the smaller number first, found [{smallest}, {largest}]"
                )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Section):
    """Optimisation.

    Args:
        epochs: Number of epochs. The sampler decides how many batches an epoch has.
        optimizer: The optimiser. adamw and radam decouple the weight decay.
        lr: Learning rate.
        head_lr: Learning rate of the embedding head. null takes lr.
        loss_lr: Learning rate of the loss's proxies. null takes lr.
        weight_decay: Weight decay of all parameters.
        momentum: Momentum of sgd.
        schedule: Schedule of the learning rates. cosine ends at 0 after the last epoch. step uses milestones.
        milestones: With step, the epochs after which the learning rates are multiplied by gamma.
        gamma: With step, the factor at each milestone.
        warmup_epochs: Number of epochs at the start in which the backbone is frozen.
        clip_norm: Largest norm of the gradient, or null for no limit.
        clip_value: Largest absolute value of an entry of the gradient, or null for no limit.
        encode_chunk: Number of images that are encoded at a time, or null for the whole batch. The result is the
            same. This saves memory and takes more time, because each image is encoded twice.
        device: The device. auto takes a GPU if there is one. mps has not been tested.
        devices: Number of processes on each machine, each with its own device. null takes the number that torchrun
            or Slurm started, otherwise one. Results do not depend on it.
        nodes: Number of machines.
        precision: Precision of training. Tests always run in float32.
        deterministic: Use deterministic algorithms. A seed then gives the same bits again on a GPU. This is slower.
        compile: Compile the backbone and the method's networks. Results only change by rounding. A backbone with
            dropout or drop path is not compiled in training if several processes or encode_chunk divide a batch.
        keep_checkpoint: Keep the checkpoint when the run is finished.
    """

    epochs: PositiveInt = 10
    optimizer: Literal["adamw", "radam", "adam", "sgd"] = "adamw"
    lr: NonNegativeFloat = 3e-4
    head_lr: NonNegativeFloat | None = None
    loss_lr: NonNegativeFloat | None = None
    weight_decay: NonNegativeFloat = 0.01
    momentum: Share = 0.9
    schedule: Literal["constant", "cosine", "step"] = "constant"
    milestones: tuple[PositiveInt, ...] = ()
    gamma: PositiveFloat = 0.1
    warmup_epochs: NonNegativeInt = 0
    clip_norm: PositiveFloat | None = 3.0
    clip_value: PositiveFloat | None = None
    encode_chunk: PositiveInt | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: PositiveInt | None = None
    nodes: PositiveInt = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    deterministic: bool = False
    compile: bool = False
    keep_checkpoint: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_norm is not None and self.clip_value is not None:
            raise InputError(
                "train.clip_norm and train.clip_value: found both, expected one; set the other to null"
            )
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"train.warmup_epochs: found {self.warmup_epochs}, expected fewer than train.epochs "
                f"({self.epochs}): the backbone would never be trained"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """Evaluation on the test images.

    Args:
        recall_at: The K of Recall@K.
        batch_size: Number of images that are embedded at a time. Results do not depend on it.
        clustering: Also cluster the embeddings by k-means.
    """

    recall_at: tuple[PositiveInt, ...] = (1, 2, 4, 8)
    batch_size: PositiveInt = 100
    clustering: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.recall_at:
            raise InputError("evaluation.recall_at: expected at least one number, found an empty list")


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig(Section):
    """Which images are trained on and which are tested.

    Args:
        name: final trains on all training classes and tests once, after the last epoch. validation is for choosing
            settings: it tests on a part of the training classes and does not use the official test images.
            literature follows most papers: it tests several times and keeps the epoch with the best Recall@1 of the
            embeddings. It chooses on the test images, so its scores are too high. The result also has the scores of
            the last epoch.
        folds: With validation, the number of parts into which the training classes are split.
        fold: With validation, the part that is tested, from 0.
        every: With literature, test after every so many epochs. The last epoch is always tested.
    """

    name: Literal["final", "validation", "literature"] = "final"
    folds: PositiveInt = 4
    fold: NonNegativeInt = 0
    every: PositiveInt = 1

    def __str__(self) -> str:
        match self.name:
            case "validation":
                return f"validation, fold {self.fold} of {self.folds}"
            case "literature":
                return "literature, best test epoch" + (f" of every {self.every}" if self.every > 1 else "")
        return self.name


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Section):
    """What a run writes for people besides its scores.

    Args:
        page: Write report.html, a page with charts, galleries, a map of the embeddings and the batch graph. null
            writes it if there are at most 20,000 test images.
        wandb: Project of Weights & Biases that receives curves, settings, scores and a gallery, or null.
    """

    page: bool | None = None
    wandb: str | None = None


@dataclass(frozen=True)
class Component:
    """A part that is chosen by name, with the options of its signature.

    Args:
        name: Name of the part in the registry of its kind.
        options: Values of all options.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def changed(self, **options: Any) -> Self:
        """Returns the same part with other values of some options.

        Args:
            **options: The new values.
        """
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True)
class Config:
    """The configuration of a run.

    Args:
        data: Images and augmentation.
        sampler: The sampler of the batches.
        encoder: Backbone and embedding head.
        geometry: The space of the embeddings.
        loss: The loss of the embeddings.
        method: The method, which is only used during training.
        train: Optimisation.
        evaluation: Evaluation on the test images.
        protocol: Which images are trained on and which are tested.
        report: What the run writes for people besides its scores.
        seed: Decides every random choice.
        runs: Folder in which the folder of the run is made.
        plugins: Paths of files that register parts.
    """

    data: DataConfig
    sampler: Component
    encoder: Component
    geometry: Component
    loss: Component
    method: Component
    train: TrainConfig
    evaluation: EvaluationConfig
    protocol: ProtocolConfig
    report: ReportConfig
    seed: int = 0
    runs: str = "runs"
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks settings that depend on another section.

        Raises:
            InputError: If ``data.views`` is set and the encoder is not frozen.
        """
        if self.data.views is not None and not self.encoder.options.get("frozen", False):
            raise InputError(
                f"data.views: found {self.data.views}, but only a frozen encoder uses views; "
                "set encoder.frozen to true, or remove data.views"
            )
        if self.data.augment_on == "device" and self.encoder.options.get("frozen", False):
            raise InputError(
                "data.augment_on: found device, but the features of a frozen encoder are computed before training; "
                "set data.augment_on: workers, or encoder.frozen: false"
            )

    def as_dict(self) -> dict[str, Any]:
        """Returns the recipe of this configuration as nested plain values."""
        recipe: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Component):
                value = {"name": value.name, **value.options}
            elif isinstance(value, Section):
                value = vars(value)
            recipe[item.name] = plain(value)
        return recipe


def plain(value: Any) -> Any:
    """Returns a value with lists instead of tuples, as YAML and JSON write it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
