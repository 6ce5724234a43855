"""Glyphs: letters of five scripts, each rendered in up to sixteen faces of the fonts that come with matplotlib.

DejaVu fonts, version 2.37, https://dejavu-fonts.github.io; STIX fonts, https://www.stixfonts.org.
"""

import hashlib
import unicodedata
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFont, features

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.registry import DATASETS
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import CACHE_FOLDER, atomic_path, remove_stale_partials

SPLITS = {"Latin": "train", "Greek": "test", "Cyrillic": "test", "Armenian": "test", "Georgian": "test"}
"""The scripts in the order of their classes, and the split of each script."""

FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
LEAST_FACES = 12
"""Smallest number of faces that have a letter."""
LEAST_IMAGES = 8
"""Smallest number of images of a letter that differ from those of all earlier letters."""

SIDE, FONT_SIZE = 32, 24
FORMAT = 1
"""Number of the cache's format. It is raised when rendering or choice of letters change, to ignore older caches."""

Rendered = tuple[list[str], np.ndarray]
"""Paths ``script/letter/face``, and the images, uint8 of shape ``(N, SIDE, SIDE)``."""


class Glyphs(ImageDataset):
    """Letters as images: Latin letters to train on; Greek, Cyrillic, Armenian and Georgian letters to test on.

    A class is a letter without diacritics, its super-class is its script, and an image is its rendering in one
    face. Letters that are compatibility variants of others are left out. An image that is identical to one of an
    earlier letter is left out too: a Greek A is a Latin A. So is a letter with fewer than eight remaining images.

    Args:
        paths: ``script/letter/face`` of each image, such as ``Latin/U+0041/DejaVuSans-Bold``.
        pixels: The images, uint8 of shape ``(N, side, side)``, white ink on black.
    """

    def __init__(self, paths: list[str], pixels: np.ndarray) -> None:
        super().__init__("glyphs", map(_record, paths))
        self.pixels = pixels
        self.places = {path: place for place, path in enumerate(paths)}
        self.versions = renderer_versions()

    def image(self, row: int) -> Image.Image:
        """Returns the rendering of a row, RGB."""
        return Image.fromarray(self.pixels[self.places[self._paths[row]]]).convert("RGB")

    def source_stamp(self) -> str:
        """Returns the SHA-256 of the pixels."""
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()


@DATASETS.register("glyphs")
def load() -> Glyphs:
    """Returns the glyphs. They are rendered at their first use, in seconds, and then read from the user's cache.

    Raises:
        InputError: If matplotlib has not all of the fonts.
    """
    fonts = find_fonts()
    path = CACHE_FOLDER.expanduser() / f"glyphs-{cache_key(fonts)[:16]}.npz"
    rendered = read_cache(path)
    if rendered is None:
        rendered = render_letters(fonts)
        try:
            write_cache(path, *rendered)
        except OSError as error:
            warnings.warn(
                f"{path} cannot be written ({error.strerror}): glyphs are rendered again", stacklevel=2
            )
    return Glyphs(*rendered)


def find_fonts() -> dict[str, Path]:
    """Returns the font file of each of :data:`FACES` in matplotlib's folder.

    Raises:
        InputError: If a file is missing.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = {face: folder / f"{face}.ttf" for face in FACES}
    for file in fonts.values():
        if not file.is_file():
            raise InputError(f"{file}: no such font; glyphs needs the fonts that come with matplotlib")
    return fonts


def renderer_versions() -> dict[str, str]:
    """Returns the versions of the libraries on which the pixels depend."""
    return {"pillow": PIL.__version__, "freetype": features.version("freetype2") or "unknown"}


def cache_key(fonts: dict[str, Path]) -> str:
    """Returns the SHA-256 of all that the images depend on: fonts, versions and :data:`FORMAT`."""
    digest = hashlib.sha256(f"{FORMAT} {sorted(renderer_versions().items())}".encode())
    for face, file in fonts.items():
        digest.update(face.encode() + file.read_bytes())
    return digest.hexdigest()


def read_cache(path: Path) -> Rendered | None:
    """Returns the content of a cache file, or None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:  # a zip archive, read with its checksums
            return content["paths"].tolist(), content["pixels"]
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
        return None


def write_cache(path: Path, paths: list[str], pixels: np.ndarray) -> None:
    """Writes a cache file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_partials(path.parent)
    with atomic_path(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, paths=np.array(paths), pixels=pixels)


def render_letters(fonts: dict[str, Path], scripts: tuple[str, ...] = tuple(SPLITS)) -> Rendered:
    """Returns all letters of scripts, rendered in all faces that have them, as :class:`Glyphs` describes.

    Args:
        fonts: The file of each face.
        scripts: Names of the scripts.
    """
    from matplotlib.ft2font import FT2Font

    characters = {face: set(FT2Font(str(file)).get_charmap()) for face, file in fonts.items()}
    known: set[bytes] = set()
    rendered: dict[str, bytes] = {}
    for script, letter in letters(characters, scripts):
        images = {
            f"{script}/U+{ord(letter):04X}/{face}": render(letter, fonts[face])
            for face in fonts
            if ord(letter) in characters[face]
        }
        new = {path: pixels for path, pixels in images.items() if pixels not in known}
        if len(new) >= LEAST_IMAGES:
            rendered |= new
            known |= set(new.values())
    pixels = np.frombuffer(b"".join(rendered.values()), dtype=np.uint8)
    return list(rendered), pixels.reshape(-1, SIDE, SIDE)


def letters(characters: dict[str, set[int]], scripts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yields ``(script, letter)`` for each letter without diacritics that enough faces have, script by script.

    Args:
        characters: The code points of each face.
        scripts: Names of the scripts.
    """
    faces = Counter(code for codes in characters.values() for code in codes)
    for script in scripts:
        for letter in map(chr, sorted(faces)):
            if (
                faces[ord(letter)] >= LEAST_FACES
                and unicodedata.category(letter) in ("Lu", "Ll", "Lt", "Lo")
                and unicodedata.name(letter).startswith(f"{script.upper()} ")
                and unicodedata.normalize("NFKD", letter) == letter
            ):
                yield script, letter


def render(letter: str, file: Path) -> bytes:
    """Returns a letter's grey values, white on black and centred. A letter that is too large is drawn smaller."""
    image = Image.new("L", (SIDE, SIDE))
    for size in range(FONT_SIZE, 0, -1):
        # The basic layout does not need raqm, which not every installation has.
        font = ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
        left, upper, right, lower = font.getbbox(letter)
        if max(right - left, lower - upper) <= SIDE:
            break
    corner = (SIDE - right + left) // 2 - left, (SIDE - lower + upper) // 2 - upper
    ImageDraw.Draw(image).text(corner, letter, fill=255, font=font)
    return image.tobytes()


def _record(path: str) -> dict[str, str]:
    script, code, _ = path.split("/")
    name = unicodedata.name(chr(int(code.removeprefix("U+"), 16)))
    return {"path": path, "original_class": name, "split": SPLITS[script], "super_class": script}
