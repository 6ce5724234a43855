"""The training transform of many images at once: bit for bit what it makes of each of them alone, but faster."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import v2


class BatchedTransform(nn.Module):
    """Steps that transform one image, ``transform(image)``, or many, each with its own seed.

    On small images torchvision spends its time on calls, not on pixels. So :meth:`batch` treats images one by one
    only where they differ: in the random choices, the cut and its resizing. It does the rest on all at once.

    Args:
        crop: Cuts and resizes, bicubic and antialiased.
        flip: Perhaps mirrors, or none.
        normalise: Steps without randomness that treat each pixel alike, or none: images stay uint8.
        erase: Perhaps erases a rectangle, or none.
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
        """Transforms one image, uint8 ``(3, height, width)``, with random numbers of torch's global generator."""
        steps = (self.crop, self.flip, self.normalise, self.erase)
        transformed: Tensor = v2.Compose([step for step in steps if step is not None])(image)
        return transformed

    def batch(self, images: Sequence[Tensor], seeds: Sequence[int]) -> Tensor:
        """Returns what ``transform(image)`` gives with torch's CPU generator seeded by each image's seed.

        Args:
            images: Uint8 tensors ``(3, height, width)``; their sizes may differ.
            seeds: One for each image.

        Returns:
            ``(N, 3, image_size, image_size)``, float32, or uint8 without normalisation. The generator is set back
            to where it was.
        """
        cuts, flipped, erased = [], [], {}
        with torch.random.fork_rng(devices=[]):
            for number, (image, seed) in enumerate(zip(images, seeds, strict=True)):
                # torch.manual_seed would seed the accelerators too, which fork_rng(devices=[]) does not set back
                torch.default_generator.manual_seed(seed)
                # each step draws what its own forward draws, in the same order
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
