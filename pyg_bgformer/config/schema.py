"""What a run is: the recipe's sections as dataclasses that check themselves."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import Geometry, PoincareBall, Sphere


@dataclass(frozen=True)
class DataConfig:
    """Images and what is done to them.

    Args:
        name: digits, glyphs, omniglot, cub200, cars196, sop, inshop or folder.
        root: Folder of the dataset; by default looked for as data/README.md says.
        variant: Of datasets that have variants.
        allow_partial: Take an incomplete copy; results are then marked as partial.
        crop_to_box: Cut images to their annotated boxes (cub200, cars196); results are then marked as cropped.
        image_size: Side in pixels of what the encoder sees.
        resize: Shorter side in pixels to which images are brought before the test's centre crop.
        crop_scale: Smallest and largest share of the image's area that a training crop takes.
        crop_ratio: Smallest and largest width over height of a training crop.
        flip: Mirror half of the training images.
        random_erasing: Share of the training images of which a random rectangle becomes the mean colour.
        label_noise: Share of the training images whose label is replaced by that of another training class.
        image_noise: Share of the training images that are replaced by noise.
        workers: Processes that load images.
        cache: Folder of decoded images, or null for none.
        cache_size: Shorter side in pixels to which larger images are brought in the cache. Training crops are cut
            from these: if it is not well above resize, small crops are blurred, as the test's images are not.
    """

    name: str = "digits"
    root: str | None = None
    variant: str | None = None
    allow_partial: bool = False
    crop_to_box: bool = False
    image_size: int = 224
    resize: int = 256
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.3333)
    flip: bool = True
    random_erasing: float = 0.0
    label_noise: float = 0.0
    image_noise: float = 0.0
    workers: int = 2
    cache: str | None = "~/.cache/pyg_bgformer"
    cache_size: int = 512

    def __post_init__(self) -> None:
        _at_least("data.image_size", self.image_size, 1)
        _at_least("data.cache_size", self.cache_size, self.resize)
        _at_least("data.resize", self.resize, self.image_size)
        _at_least("data.workers", self.workers, 0)
        for name in ("random_erasing", "label_noise", "image_noise"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise InputError(f"data.{name}: expected a share from 0 to 1, found {share}")


@dataclass(frozen=True)
class SamplerConfig:
    """Batches of P classes with K images each.

    Args:
        name: classes (P distinct ones, drawn equally often), hierarchical (those of a batch from few super-classes,
            such as a shop's departments), chunks (K images of a class each, so that an epoch shows every image;
            a class may occur twice in a batch), or random (P x K images whatever their class).
        classes: P.
        samples: K.
        super_classes: With hierarchical, how many super-classes a batch has; P is divided among them.
        batches_per_epoch: Not with chunks or random; by default as many as the training images fill.
        redraw: With chunks, draw P and K anew for each epoch, their product staying as it is.
    """

    name: Literal["classes", "hierarchical", "chunks", "random"] = "classes"
    classes: int = 20
    samples: int = 5
    super_classes: int | None = None
    batches_per_epoch: int | None = None
    redraw: bool = False

    def __post_init__(self) -> None:
        if (self.super_classes is not None) != (self.name == "hierarchical"):
            raise InputError(
                f"sampler.super_classes: found {self.super_classes} with name {self.name}, expected a number with "
                "sampler.name: hierarchical and none with others"
            )
        if self.redraw and self.name != "chunks":
            raise InputError(
                f"sampler.redraw: found true with name {self.name}, expected sampler.name: chunks"
            )
        if self.batches_per_epoch is not None and self.name in ("chunks", "random"):
            raise InputError(
                f"sampler.batches_per_epoch: found {self.batches_per_epoch} with name {self.name}, which gives as "
                "many batches as the images fill; leave it out"
            )


@dataclass(frozen=True)
class EncoderConfig:
    """Backbone, pooling and embedding head; see :func:`pyg_bgformer.encoders.build_encoder`.

    Args:
        name: conv4, torchvision/<model> or timm/<model>.
        weights: Tag of published weights, path of a .safetensors file, or null for random ones.
        pooling: average, max or sum (of both).
        embedding_dim: Size of the embeddings.
        frozen_batchnorm: Leave statistics and scales of BatchNorm as the weights have them.
        frozen_patch_embedding: Leave a Vision Transformer's patch embedding as the weights have it.
        head_norm: A BatchNorm over the features before the embedding's linear map.
        feature_norm: Normalisation of the backbone's features that methods, head and deployment see: none, layer
            (each image's features) or batch (each feature over the batch), both without parameters.
    """

    name: str = "conv4"
    weights: str | None = None
    pooling: Literal["average", "max", "sum"] = "average"
    embedding_dim: int = 128
    frozen_batchnorm: bool = False
    frozen_patch_embedding: bool = False
    head_norm: bool = False
    feature_norm: Literal["none", "layer", "batch"] = "none"


@dataclass(frozen=True)
class GeometryConfig:
    """The space of the embeddings.

    Args:
        name: sphere, or poincare for the Poincare ball.
        c: Minus the curvature of the ball.
        clip_radius: Length to which features are cut before they enter the ball.
    """

    name: Literal["sphere", "poincare"] = "sphere"
    c: float = 0.1
    clip_radius: float = 2.3

    def build(self) -> Geometry:
        """The geometry."""
        return Sphere() if self.name == "sphere" else PoincareBall(c=self.c, clip_radius=self.clip_radius)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation.

    Args:
        epochs: Passes over the sampler's epoch; the test comes once, after the last.
        optimizer: adamw, radam (decoupled weight decay), adam or sgd.
        lr: Learning rate.
        head_lr: That of the embedding head, where it is another.
        loss_lr: That of the loss's proxies, where it is another.
        weight_decay: Of all parameters.
        momentum: Of sgd.
        schedule: constant, cosine (to 0 over all epochs), or step.
        milestones: With step, the epochs at which the learning rates are multiplied by gamma.
        gamma: See milestones.
        warmup_epochs: First epochs in which the backbone is frozen.
        clip_norm: Largest norm of the gradient, or null.
        clip_value: Largest absolute value of an entry of the gradient, or null.
        device: auto, cpu, or cuda.
        precision: Of training; tests are always in float32.
    """

    epochs: int = 10
    optimizer: Literal["adamw", "radam", "adam", "sgd"] = "adamw"
    lr: float = 3e-4
    head_lr: float | None = None
    loss_lr: float | None = None
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Literal["constant", "cosine", "step"] = "constant"
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    warmup_epochs: int = 0
    clip_norm: float | None = 3.0
    clip_value: float | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        _at_least("train.epochs", self.epochs, 1)
        _at_least("train.lr", self.lr, 0)
        if self.clip_norm is not None and self.clip_value is not None:
            raise InputError(
                "train.clip_norm and train.clip_value: clip by one of them and set the other to null"
            )
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"train.warmup_epochs: {self.warmup_epochs} of {self.epochs} epochs would never train the backbone"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """The test.

    Args:
        recall_at: The K of Recall@K.
        batch_size: Images embedded at a time; results do not depend on it.
        clustering: Also cluster the embeddings by k-means.
    """

    recall_at: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    batch_size: int = 100
    clustering: bool = True

    def __post_init__(self) -> None:
        _at_least("evaluation.batch_size", self.batch_size, 1)
        if not self.recall_at or min(self.recall_at) < 1:
            raise InputError(f"evaluation.recall_at: expected numbers from 1, found {self.recall_at}")


@dataclass(frozen=True)
class ProtocolConfig:
    """What is trained on and what is tested.

    Args:
        name: final: all training classes, and the official test, once, after the last epoch; validation, to
            choose settings by: a part of the training classes is set aside as test, and the official test is not
            touched; or literature, as most papers do it: the official test again and again, of which the epoch
            with the best Recall@1 of the embeddings is kept. That chooses on the test images, and scores are too
            high by what the result calls the gap.
        folds: With validation, parts into which the training classes are cut.
        fold: The part that is set aside, from 0.
        every: With literature, epochs from test to test; the last epoch is always tested.
    """

    name: Literal["final", "validation", "literature"] = "final"
    folds: int = 4
    fold: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        _at_least("protocol.every", self.every, 1)

    def __str__(self) -> str:
        match self.name:
            case "validation":
                return f"validation, fold {self.fold} of {self.folds}"
            case "literature":
                return "literature, best test epoch" + (f" of every {self.every}" if self.every > 1 else "")
        return self.name


@dataclass(frozen=True)
class Component:
    """Something chosen by name, with the options of its own signature."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Config:
    """One run.

    Args:
        data, sampler, encoder, geometry, train, evaluation, protocol: The recipe's sections of these names.
        loss: Name and options of the loss.
        method: Name and options of the method.
        seed: Decides every random choice.
        runs: Folder in which the run's own folder is made.
    """

    data: DataConfig
    sampler: SamplerConfig
    encoder: EncoderConfig
    geometry: GeometryConfig
    loss: Component
    method: Component
    train: TrainConfig
    evaluation: EvaluationConfig
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    seed: int = 0
    runs: str = "runs"

    def as_dict(self) -> dict[str, Any]:
        """The recipe that gives this configuration: nested, plain values."""
        recipe = asdict(self)
        for name in ("loss", "method"):
            recipe[name] = {"name": recipe[name]["name"], **recipe[name]["options"]}
        recipe["data"] = {k: list(v) if isinstance(v, tuple) else v for k, v in recipe["data"].items()}
        return recipe


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise InputError(f"{key}: expected at least {least}, found {value}")
