"""The training transform of many images at once. It gives the same bits as for each image alone, and is faster."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import v2


class BatchedTransform(nn.Module):
    """A transform of one image, ``transform(image)``, or of many images, each with its own seed.

    With small images torchvision spends its time on calls, not on pixels. So :meth:`batch` draws random numbers,
    crops and resizes image by image, and does the rest for all images at once.

    Args:
        crop: The random crop with resizing, bicubic and antialiased.
        flip: The random mirroring, or ``None``.
        normalise: Steps without randomness that treat all pixels alike. With ``None`` images stay uint8.
        erase: The random erasing of a rectangle, or ``None``.
    """

    def __init__(
        self,
        crop: v2.RandomResizedCrop,
        flip: v2.RandomHorizontalFlip | None,
        normalise: v2.Compose | None,
        erase: v2.RandomErasing | None,
    ) -> None:
        super().__init__()
        self.crop = crop
        self.flip = flip
        self.normalise = normalise
        self.erase = erase

    def forward(self, image: Tensor) -> Tensor:
        """Returns an image ``(3, image_size, image_size)``, transformed with numbers of torch's global generator.

        Args:
            image: Uint8 ``(3, height, width)``.
        """
        steps = (self.crop, self.flip, self.normalise, self.erase)
        transformed: Tensor = v2.Compose([step for step in steps if step is not None])(image)
        return transformed

    def batch(self, images: Sequence[Tensor], seeds: Sequence[int]) -> Tensor:
        """Returns what ``transform(image)`` gives with torch's CPU generator seeded by each image's seed.

        Args:
            images: Uint8 tensors ``(3, height, width)``; their sizes may differ.
            seeds: A seed for each image.

        Returns:
            ``(N, 3, image_size, image_size)``, float32, or uint8 without normalisation. The state of the generator
            is restored.
        """
        cuts, flipped, erased = [], [], {}
        with torch.random.fork_rng(devices=[]):
            for number, (image, seed) in enumerate(zip(images, seeds, strict=True)):
                # torch.manual_seed would also seed accelerators, which fork_rng(devices=[]) does not restore.
                torch.default_generator.manual_seed(seed)
                # Each step draws the same numbers as its own forward, in the same order.
                top, left, height, width = self.crop.make_params([image]).values()
                window = image[None, :, top : top + height, left : left + width]
                cuts.append(interpolate(window, self.crop.size, mode="bicubic", antialias=True))
                if self.flip is not None and torch.rand(1) < self.flip.p:
                    flipped.append(number)
                if self.erase is not None and torch.rand(1) < self.erase.p:
                    erased[number] = self.erase.make_params([cuts[-1]])
        cut = torch.cat(cuts)
        cut[flipped] = cut[flipped].flip(-1)
        batch: Tensor = cut if self.normalise is None else self.normalise(cut)
        if self.erase is not None:
            for number, params in erased.items():
                batch[number] = self.erase.transform(batch[number], params)
        return batch
