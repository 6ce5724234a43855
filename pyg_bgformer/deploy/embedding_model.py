"""The model that is used after training: preparation of images, encoder and geometry in one object."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision.transforms import v2

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.data.transforms import centre_crop
from pyg_bgformer.deploy.card import model_card
from pyg_bgformer.deploy.inputs import (
    Images,
    One,
    as_floats,
    as_sequence,
    checked_batch,
    load_image,
    prefetched,
)
from pyg_bgformer.encoders.backbone import three_numbers
from pyg_bgformer.encoders.build import build_encoder
from pyg_bgformer.encoders.description import (
    DESCRIPTION,
    TENSORS,
    ModelDescription,
    read_description,
    read_saved_tensors,
    write_model,
)
from pyg_bgformer.encoders.encoder import Encoder
from pyg_bgformer.encoders.published import hub_file
from pyg_bgformer.encoders.weights import fit_tensors, tensors_hash
from pyg_bgformer.errors import InputError, one_line
from pyg_bgformer.geometry import GEOMETRIES, Geometry, Sphere
from pyg_bgformer.typed import checked


class EmbeddingModel(nn.Module, ModelHubMixin):
    """Turns images into embeddings that can be compared.

    >>> model = EmbeddingModel.from_pretrained("runs/folder-bgformer-seed0")  # doctest: +SKIP
    >>> embeddings = model.embed(["owl.jpg", "wren.jpg"])                     # doctest: +SKIP
    >>> model.similarity(embeddings, embeddings)                              # doctest: +SKIP

    Args:
        encoder: Backbone and head.
        geometry: The space of the embeddings. (default: the unit sphere)
        image_size: Side in pixels of the images that the encoder sees, from 1.
        resize: Length in pixels of the shorter side of an image before the centre crop, at least ``image_size``.
        training: Facts about the training for people to read, as plain values: method, dataset, protocol and so on.
        scores: Scores of the model by name, as fractions from 0 to 1.
        license: Identifier of the model's licence, for example ``"mit"``.

    Attributes:
        mean, std: ``(3, 1, 1)``, normalisation of RGB images from 0 to 1.

    Shapes:
        - **input:** images :math:`(B, 3, S, S)` with :math:`S` = ``image_size``, RGB from 0 to 1, not normalised.
        - **output:** :math:`(B, D)`: unit vectors, or points of the geometry's space.

    Raises:
        InputError: If ``resize`` is below ``image_size``, ``image_size`` is below 1, or the geometry is not one of
            :data:`~pyg_bgformer.geometry.GEOMETRIES`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        geometry: Geometry | None = None,
        *,
        image_size: int,
        resize: int,
        training: Mapping[str, Any] | None = None,
        scores: Mapping[str, float | None] | None = None,
        license: str = "unknown",
    ) -> None:
        super().__init__()
        self._hub_mixin_config = None  # all settings are in encoder.json
        self.encoder = encoder
        self.geometry: Geometry = Sphere() if geometry is None else geometry
        self.image_size = image_size
        self.resize = resize
        self.training_facts = dict(training or {})
        self.scores = {
            name: None if value is None or not math.isfinite(value) else float(value)
            for name, value in (scores or {}).items()
        }
        self.license = license
        self._cut = v2.Compose(centre_crop(image_size, resize=resize))
        self.geometry_settings()
        self.register_buffer("mean", torch.tensor(encoder.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std).view(3, 1, 1), persistent=False)

    def __repr__(self) -> str:
        name, size = self.encoder.spec.name, self.image_size
        return f"{type(self).__name__}({name}, {self.dim} dimensions, {size} px, {self.geometry})"

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return self.encoder.embedding_dim

    @property
    def sha256(self) -> str:
        """SHA-256 of everything that embeddings depend on. Vectors are comparable if their hashes are equal."""
        facts = self._settings()
        kept = ("encoder", "mean", "std", "image_size", "resize", "geometry")
        text = json.dumps({key: facts[key] for key in kept}, sort_keys=True, default=asdict)
        return hashlib.sha256(f"{text}\n{tensors_hash(self.encoder.state_dict())}".encode()).hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """Returns the embeddings of images that already have the right size, see Shapes."""
        return self.geometry.project(self.encoder((images - self.mean) / self.std))

    def embed(
        self,
        images: Images,
        *,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Returns the embeddings of images, ``(N, D)`` float32 on the CPU.

        Args:
            images: Paths, PIL images or uint8 arrays ``(H, W, 3)``: one of them or a list. Or a tensor
                ``(N, 3, H, W)``, uint8 or floating point from 0 to 1, not normalised. Images of any size are
                resized and cropped as in the model's evaluation.
            batch_size: Number of images that the encoder sees at a time, from 1.
            device: The device to compute on, for example ``"cuda"``. The model is moved there. ``None`` does not
                move it.
            workers: Number of threads that read and resize images. 0 uses no threads, ``None`` one for each CPU.
            progress: Called after each batch with the number of embedded images and the number of all images.

        Returns:
            Unit vectors, or points of the geometry's space. Compare them with :meth:`similarity`.

        Raises:
            InputError: If an image cannot be read or has the wrong shape, values are not from 0 to 1,
                ``batch_size`` is below 1, ``workers`` is negative, or the device cannot be used.
        """
        items = as_sequence(images)
        parts, done = [], 0
        for _, embeddings in self.embed_batches(items, batch_size=batch_size, device=device, workers=workers):
            parts.append(embeddings)
            done += len(embeddings)
            if progress is not None:
                progress(done, len(items))
        return torch.cat(parts) if parts else torch.empty(0, self.dim)

    @torch.no_grad()
    def embed_batches(
        self,
        images: Images,
        *,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        workers: int | None = None,
        bad: list[ImageError] | None = None,
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yields the embeddings of images batch by batch, while threads read the next images.

        Args:
            images: See :meth:`embed`.
            batch_size: See :meth:`embed`.
            device: See :meth:`embed`.
            workers: See :meth:`embed`.
            bad: Images that cannot be read are left out, and their errors are appended to this list. With ``None``,
                the first error is raised.

        Yields:
            The positions of the images, and their embeddings ``(B, D)``, float32 on the CPU.

        Raises:
            InputError: See :meth:`embed`.
        """
        if batch_size < 1:
            raise InputError(f"batch_size: found {batch_size}, expected at least 1")
        if device is not None:
            try:
                self.to(device)
            except (RuntimeError, AssertionError) as error:
                raise InputError(f"device '{device}' cannot be used: {one_line(error)}") from error
        mode = self.training
        self.eval()
        try:
            for positions, batch in self._batches(as_sequence(images), batch_size, workers, bad):
                yield positions, self(batch.to(self.mean.device)).float().cpu()
        finally:
            self.train(mode)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns the similarities of embeddings: the cosine on the sphere, the negative distance in a ball.

        Args:
            a: ``(N, D)`` from :meth:`embed`.
            b: ``(M, D)`` from :meth:`embed`.

        Returns:
            ``(N, M)``, larger for more similar images.
        """
        return self.geometry.similarity(a, b)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Returns a saved model on the CPU and in evaluation mode. Torch's global random state does not change.

        Args:
            model: Folder of a finished run or of :meth:`save_pretrained`, or a name on the Hugging Face hub.
            revision: Branch, tag or commit on the hub.
            cache_dir: Folder of the hub's cache.
            token: Access token for the hub.

        Raises:
            InputError: If there is no such model, or its files are damaged or do not fit together.
        """
        folder = model_folder(str(model), revision=revision, cache_dir=cache_dir, token=token)
        description = read_description(folder)
        tensors = read_saved_tensors(folder, description)
        head = [value for key, value in tensors.items() if key.startswith("head.") and value.ndim == 2]
        if [len(weight) for weight in head] != [description.encoder.embedding_dim]:
            raise InputError(f"'{folder}': {DESCRIPTION} and {TENSORS} differ in embedding_dim")
        with torch.random.fork_rng(devices=[]):
            encoder = build_encoder(**asdict(description.encoder))
        fit_tensors(encoder, tensors, source=str(folder / TENSORS))
        encoder.mean, encoder.std = three_numbers(description.mean), three_numbers(description.std)
        encoder.weights_tag, encoder.weights_hash = description.weights_tag, description.weights_hash
        built = cls(
            encoder.to(memory_format=torch.channels_last),
            _geometry(description, folder / DESCRIPTION),
            image_size=description.image_size,
            resize=description.resize,
            training=description.training,
            scores=description.scores,
            license=description.license,
        )
        return built.eval()

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Writes ``encoder.safetensors`` and ``encoder.json`` to a folder, and ``README.md`` if there is none.

        Args:
            save_directory: The folder. It is made if it is missing.
            **options: Options of ``huggingface_hub.ModelHubMixin``, such as ``push_to_hub`` and ``repo_id``.

        Returns:
            The address of the commit if ``push_to_hub`` is set.

        Raises:
            InputError: If the folder cannot be written, or ``training`` has a value that is not plain.
        """
        try:
            address: str | None = super().save_pretrained(save_directory, **options)
        except (OSError, SafetensorError) as error:
            raise InputError(f"model cannot be written to '{save_directory}': {one_line(error)}") from error
        return address

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """Returns the page that describes the model on the hub."""
        return model_card(self)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_model(save_directory, self.encoder.state_dict(), self._settings())

    def _settings(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.spec,
            "mean": list(self.encoder.mean),
            "std": list(self.encoder.std),
            "image_size": self.image_size,
            "resize": self.resize,
            "geometry": self.geometry_settings(),
            "weights_tag": self.encoder.weights_tag,
            "weights_hash": self.encoder.weights_hash,
            "training": self.training_facts,
            "scores": self.scores,
            "license": self.license,
        }

    def geometry_settings(self) -> dict[str, Any]:
        """Returns the name and the options of the geometry.

        Raises:
            InputError: If the geometry is not one of :data:`~pyg_bgformer.geometry.GEOMETRIES`.
        """
        kind = type(self.geometry)
        names = [name for name in GEOMETRIES if GEOMETRIES.find(name) is kind]
        if not names or not is_dataclass(self.geometry):
            raise InputError(
                f"geometry {self.geometry!r} cannot be saved; expected one of {', '.join(GEOMETRIES)}"
            )
        return {"name": names[0], **asdict(self.geometry)}

    def _batches(
        self,
        items: Sequence[One] | Tensor,
        batch_size: int,
        workers: int | None,
        bad: list[ImageError] | None,
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yields positions and images as float32 ``(B, 3, image_size, image_size)`` from 0 to 1."""
        if isinstance(items, Tensor):
            positions = torch.arange(len(items)).split(batch_size)
            for part, batch in zip(positions, torch.split(checked_batch(items), batch_size), strict=True):
                yield part.tolist(), as_floats(self._cut(batch))
            return

        def load(position: int) -> Tensor | ImageError:
            try:
                cut: Tensor = self._cut(load_image(items[position], f"image {position}"))
            except ImageError as error:
                if bad is None:
                    raise
                return error
            return cut

        first = 0
        for loaded in prefetched(load, len(items), batch_size, workers):
            read = {first + i: image for i, image in enumerate(loaded) if isinstance(image, Tensor)}
            if bad is not None:
                bad += [error for error in loaded if isinstance(error, ImageError)]
            first += len(loaded)
            if read:
                yield list(read), as_floats(torch.stack(list(read.values())))


def model_folder(name: str, **options: Any) -> Path:
    """Returns the local folder of a model. A model of the hub is downloaded to the hub's cache.

    Args:
        name: A folder, or a name on the Hugging Face hub.
        **options: ``revision``, ``cache_dir`` or ``token``, as for :meth:`EmbeddingModel.from_pretrained`.

    Raises:
        InputError: If there is no such folder, and the hub has no such model or cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    try:
        hub_file(name, TENSORS, **options)
        return hub_file(name, DESCRIPTION, **options).parent
    except HFValidationError as error:
        raise InputError(f"no model '{name}': there is no such folder") from error
    except OSError as error:
        raise InputError(
            f"no model '{name}': there is no such folder, and the Hugging Face hub does not give it ({error})"
        ) from error


def _geometry(description: ModelDescription, path: Path) -> Geometry:
    options = dict(description.geometry)
    kind = GEOMETRIES.find(checked(options.pop("name", None), str, f"'{path}', geometry, name"))
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"'{path}', geometry: {one_line(error)}") from error
