"""Images cut to the boxes that their datasets are annotated with."""

from PIL import Image

from pyg_bgformer.data.images import ImageError

#: Column of a table, with the left, upper, right and lower edge in pixels from the image's upper left corner.
BOX = "box"


def cut_box(image: Image.Image, box: str, where: str) -> Image.Image:
    """The part of an image that is in the box; what of the box is beyond the image is left out.

    Args:
        image: The whole image.
        box: Four numbers of pixels as in :data:`BOX`, right and lower edge exclusive.
        where: How the image is called in a message.

    Raises:
        ImageError: Nothing of the box is inside the image.
    """
    left, upper, right, lower = map(int, box.split())
    inside = max(left, 0), max(upper, 0), min(right, image.width), min(lower, image.height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ImageError(
            f"{where}: its box ({box}) holds nothing of its {image.width} x {image.height} pixels; correct the "
            "list of boxes, or leave crop_to_box out"
        )
    return image.crop(inside)
