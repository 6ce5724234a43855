"""What a run is: parts that are chosen by name with options of their own, and sections of fixed keys."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self, get_type_hints

from pyg_bgformer.config.values import check_numbers
from pyg_bgformer.errors import InputError
from pyg_bgformer.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share


class Section:
    """A recipe's section of fixed keys. Its numbers have the ranges that its types note."""

    def __post_init__(self) -> None:
        """Raises :class:`InputError` for a number outside of its range."""
        for key, kind in get_type_hints(type(self), include_extras=True).items():
            check_numbers(f"{self.title()}.{key}", getattr(self, key), kind)

    @classmethod
    def title(cls) -> str:
        """Returns the section's name in a recipe."""
        return cls.__name__.removesuffix("Config").lower()


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Images and what is done to them.

    Args:
        name: Name of the dataset: digits, glyphs, omniglot, cub200, cars196, sop, inshop or folder.
        root: Folder of the dataset; data/README.md says where it is looked for by default.
        variant: Which variant, for datasets that have variants.
        allow_partial: Use an incomplete copy of the dataset; results are then marked as partial.
        crop_to_box: Crop images to their annotated boxes (cub200, cars196); results are then marked as cropped.
        image_size: Side in pixels of the images that the encoder sees.
        resize: Shorter side in pixels to which test images are resized before the centre crop.
        crop_scale: Smallest and largest share of the image's area that a training crop takes.
        crop_ratio: Smallest and largest width over height of a training crop.
        flip: Mirror half of the training images.
        random_erasing: Share of the training images in which a random rectangle becomes the mean colour.
        label_noise: Share of the training images whose label is replaced by that of another training class.
        image_noise: Share of the training images that are replaced by noise.
        views: With a frozen encoder, number of augmented views of each training image whose features are computed,
            or null for the image as it is at test time.
        feature_cache: Folder for the features of frozen encoders, or null for no cache.
        workers: Number of processes that load images.
        augment_on: Where crops are resized, mirrored and erased. workers does it in the processes that load images,
            device does it on the GPU for a whole batch. Random choices are the same, and so are the images, unless
            crops are much larger than image_size: then they differ by rounding.
        min_images: Classes with fewer images are left out.
        holdout: Share of the classes that is tested, for a folder of your own without folders of splits. 0 trains
            on all classes and tests on the training images. 1 tests all classes and trains on none. null tests the
            second half of the class names.
        holdout_seed: Decides which classes are tested.
        cache: Folder for decoded images, or null to decode them in every epoch.
        cache_size: Shorter side in pixels to which larger images are resized in the cache. Training crops are cut
            from these. Choose it well above resize: otherwise small crops are blurred, and test images are not.
            With augment_on: device, also the longest side of a crop that is moved to the device; a longer one is
            shrunk before.
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
                f"data.resize: expected at least data.image_size, which is {self.image_size}, found {self.resize}"
            )
        if self.cache_size < self.resize:
            raise InputError(
                f"data.cache_size: expected at least data.resize, which is {self.resize}, found {self.cache_size}"
            )
        for key in ("crop_scale", "crop_ratio"):
            smallest, largest = getattr(self, key)
            if smallest > largest:
                raise InputError(
                    f"data.{key}: the smallest, {smallest}, is larger than the largest, {largest}"
                )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Section):
    """Optimisation.

    Args:
        epochs: Passes over the sampler's epoch; the test comes once, after the last.
        optimizer: adamw, radam (with decoupled weight decay), adam or sgd.
        lr: Learning rate.
        head_lr: Learning rate of the embedding head, if it differs.
        loss_lr: Learning rate of the loss's proxies, if it differs.
        weight_decay: Weight decay of all parameters.
        momentum: Momentum of sgd.
        schedule: constant, cosine (to 0 over all epochs), or step.
        milestones: With step, the epochs at which the learning rates are multiplied by gamma.
        gamma: See milestones.
        warmup_epochs: Number of first epochs in which the backbone is frozen.
        clip_norm: Largest norm of the gradient, or null.
        clip_value: Largest absolute value of an entry of the gradient, or null.
        encode_chunk: Number of images that are encoded at a time, or null for the whole batch. The result is the
            same. The encoder's activations take the memory of that many images, and it encodes each image twice.
        device: auto, cpu, cuda or mps. mps has not been tested.
        devices: Number of processes on each machine, each with a device of its own. null takes the number that
            torchrun or Slurm started, otherwise one. Results do not depend on it.
        nodes: Number of machines.
        precision: Precision of training; tests are always in float32.
        deterministic: Use deterministic algorithms, so that a seed repeats bit for bit on a GPU. This is slower.
        compile: Compile the backbone and the method's networks. Results equal those without it to rounding.
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
                "train.clip_norm and train.clip_value: clip by one of them and set the other to null"
            )
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"train.warmup_epochs: {self.warmup_epochs} of {self.epochs} epochs would never train the backbone"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """The test.

    Args:
        recall_at: The K of Recall@K.
        batch_size: Number of images embedded at a time; results do not depend on it.
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
            settings: it tests on a part of the training classes, and does not use the official test images.
            literature does as most papers do: it tests several times and keeps the epoch with the best Recall@1 of
            the embeddings. That chooses on the test images, so scores are too high, by what the result calls the
            gap.
        folds: With validation, the number of parts into which the training classes are cut.
        fold: With validation, the part that is set aside, from 0.
        every: With literature, the number of epochs from test to test; the last epoch is always tested.
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
    """What a run writes for people in addition to its scores.

    Args:
        page: Write report.html, a page with charts, galleries, a map of the embeddings and the batch graph; null
            writes it for at most 20,000 test images.
        wandb: Project of Weights & Biases that curves, settings, scores and a gallery are sent to, or null.
    """

    page: bool | None = None
    wandb: str | None = None


@dataclass(frozen=True)
class Component:
    """A part that is chosen by name, with the options of its own signature.

    Args:
        name: Name of the part, in the registry of its kind.
        options: Value of every option.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def changed(self, **options: Any) -> Self:
        """Returns the same part with other values of some options."""
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True)
class Config:
    """One run.

    Args:
        data: Images and augmentation.
        sampler: How batches are drawn.
        encoder: Backbone and embedding head.
        geometry: The space of the embeddings.
        loss: Loss of the embeddings.
        method: What is added during training.
        train: Optimisation.
        evaluation: The test.
        protocol: Which images are trained on and which are tested.
        report: What is written for people in addition to the scores.
        seed: Decides every random choice.
        runs: Folder in which the run's own folder is made.
        plugins: Paths of files that register parts which do not come with the package.
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
        """Raises :class:`InputError` for settings of two sections that do not go together."""
        if self.data.views is not None and not self.encoder.options.get("frozen", False):
            raise InputError(
                f"data.views: found {self.data.views}, but only a frozen encoder is trained on views that are "
                "computed before; set encoder.frozen: true, or leave data.views out"
            )
        if self.data.augment_on == "device" and self.encoder.options.get("frozen", False):
            raise InputError(
                "data.augment_on: found device, but the features of a frozen encoder are computed before training; "
                "set data.augment_on: workers, or encoder.frozen: false"
            )

    def as_dict(self) -> dict[str, Any]:
        """Returns the recipe that gives this configuration: nested, of plain values."""
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
    """Returns a value with lists in the place of tuples, as YAML and JSON write it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
