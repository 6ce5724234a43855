"""Duration of searches by ``pyg-bgformer serve``, and the number of lost requests when several clients ask.

    python benchmarks/serving.py                                # 200 requests of 8 clients, 500 generated images
    python benchmarks/serving.py --index shop.index --k 12      # searches your index for its own images

Every request uploads a JPEG image. The server runs in its own process, on the machine of the clients.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from embedding import write_images
from measuring import write_table

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.data.decoding import available_cpus
from pyg_bgformer.deploy.image_index import ImageIndex
from pyg_bgformer.encoders import build_encoder


@contextmanager
def server(index: Path) -> Iterator[str]:
    """Yields the address of a server, which is stopped at the end of the block."""
    command = [sys.executable, "-W", "ignore", "-m", "pyg_bgformer", "serve", str(index), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found[0]
        process.terminate()
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--csv", type=Path, help="file of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = options.index
        if index is None:
            index = Path(folder) / "index"
            paths = [str(path) for path in write_images(Path(folder), options.images, 640, 480)]
            encoder = build_encoder("torchvision/mobilenet_v2")
            ImageIndex.create(index, EmbeddingModel(encoder, image_size=128, resize=146).eval(), paths)
        opened = ImageIndex(index)
        names = opened.vectors.names
        photos = [Path(names[number % len(names)]) for number in range(options.requests)]
        with server(index) as address, httpx.Client(base_url=address, timeout=120) as client:

            def ask(photo: Path) -> tuple[float, bool]:
                """Returns the duration of a search in seconds, and whether it found the image itself."""
                started = time.perf_counter()
                answer = client.post(
                    "/search", files={"image": photo.read_bytes()}, data={"k": str(options.k)}
                )
                first = answer.json()["neighbours"][0] if answer.status_code == 200 else {"similarity": 0}
                return time.perf_counter() - started, first["similarity"] > 0.999

            ask(photos[0])  # the first request is slower
            with ThreadPoolExecutor(options.clients) as pool:
                started = time.perf_counter()
                answers = list(pool.map(ask, photos))
                whole = time.perf_counter() - started
    times = np.array([seconds for seconds, _ in answers]) * 1e3
    lost = sum(not right for _, right in answers)
    print(f"{len(names):,} images, {opened.model}, {available_cpus()} CPUs")
    print(
        f"{options.requests} requests of {options.clients} clients: {lost} lost, {len(times) / whole:.0f} a second"
    )
    percentiles = {f"p{p}": f"{np.percentile(times, p):.0f}" for p in (50, 95, 99)}
    print("milliseconds: " + ", ".join(f"{name} {value}" for name, value in percentiles.items()))
    row = {
        "images": f"{len(names):,}",
        "clients": options.clients,
        "requests": options.requests,
        "lost": lost,
    }
    row |= {"a second": f"{len(times) / whole:.0f}"} | {f"{p}, ms": value for p, value in percentiles.items()}
    write_table(options.csv, [row])
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
