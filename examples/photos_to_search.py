"""From a folder of photos to image search: train, show, embed, index, search, export, serve.

    python examples/photos_to_search.py photos --out shop
    python examples/photos_to_search.py photos --out shop --weights tf_efficientnet_lite0.safetensors --epochs 20

``photos`` has a folder for each class. Other options are passed on to ``pyg-bgformer train``. Every command is
printed before it runs, so that you can repeat it. All files are written to the folder of ``--out``.
"""

import argparse
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.cli.main import main as pyg_bgformer
from pyg_bgformer.deploy.image_index import find_images


def step(*arguments: str | Path) -> None:
    """Runs a command of ``pyg-bgformer``. Ends the program if it fails."""
    print(f"\n$ pyg-bgformer {' '.join(map(str, arguments))}", flush=True)
    started = time.perf_counter()
    code = pyg_bgformer([str(argument) for argument in arguments])
    if code != 0:
        sys.exit(code)
    print(f"[{time.perf_counter() - started:.1f} s]")


def ask(address: str, photo: Path) -> str:
    """Returns the answer of a server to a photo, as ``curl -F image=@PHOTO -F k=3 ADDRESS/search`` does."""
    edge = uuid.uuid4().hex
    head = f'--{edge}\r\nContent-Disposition: form-data; name="k"\r\n\r\n3\r\n--{edge}\r\n'
    head += 'Content-Disposition: form-data; name="image"; filename="photo"\r\n\r\n'
    body = head.encode() + photo.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/search", body, kind)) as answer:
        return answer.read().decode()


def serve_once(index: Path, photo: Path) -> None:
    """Starts the server, searches for a photo, and stops it."""
    print(f"\n$ pyg-bgformer serve {index}", flush=True)
    command = [sys.executable, "-m", "pyg_bgformer", "serve", str(index), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        line = server.stdout.readline()
        print(line, end="")
        address = line.partition("http://")[2].split()
        if not address:
            sys.exit(server.wait())
        print(f"$ curl -F image=@{photo} -F k=3 http://{address[0]}/search")
        print(ask(f"http://{address[0]}", photo))
        server.terminate()
        server.communicate()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="a folder with a folder of images for each class")
    parser.add_argument("--out", type=Path, required=True, help="folder for all results; it must not exist")
    parser.add_argument(
        "--format", choices=["onnx", "pt2"], default="onnx", help="format of the exported model"
    )
    given, training = parser.parse_known_args(arguments)
    given.out.mkdir(parents=True)
    run, index = given.out / "run", given.out / "shop.index"
    step("train", given.photos, "--out", run, *training)
    step("show", run, "--out", given.out / "run.html")
    step("embed", run, given.photos, "--out", given.out / "vectors.npz")
    step("index", run, given.out / "vectors.npz", "--out", index)
    photo = Path(find_images([given.photos])[0])
    step("search", index, photo, "-k", "5", "--html", given.out / "found.html")
    step("export", run, "--format", given.format, "--out", given.out / f"model.{given.format}")
    serve_once(index, photo)
    print(f"\nmodel, pages, index and exported model are in {given.out}")


if __name__ == "__main__":
    main()
