"""Time and memory of the evaluation at the size of Stanford Online Products' test set.

    python benchmarks/evaluation.py                     # everything, 60,502 x 512, 11,316 classes
    python benchmarks/evaluation.py --items 8000        # smaller, same class sizes
    python benchmarks/evaluation.py --parts retrieval

Each time is the fastest of ``--repeats``. Extra memory is the increase of the process' peak resident memory, read
from /proc on Linux. On a machine that does other work, compare CPU times and set OMP_WAIT_POLICY=passive, so that
waiting threads are not counted. The embeddings are generated: classes of different sizes in a 96-dimensional
subspace, with noise that gives about the Recall@1 of published embeddings.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import write_table
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

from pyg_bgformer.evaluation import clustering, retrieval
from pyg_bgformer.evaluation.agreement import adjusted_mutual_information
from pyg_bgformer.evaluation.k_means import k_means
from pyg_bgformer.evaluation.seeding import greedy_seeds

ITEMS_PER_CLASS = 60_502 / 11_316
Row = dict[str, object]
PARTS = ("retrieval", "accuracy_calculator", "clustering", "scikit_learn")


class Measured(NamedTuple):
    """The result of a call, its elapsed time and CPU time in seconds, and its extra memory in MB."""

    value: Any
    seconds: float
    cpu_seconds: float
    megabytes: float


def embeddings(items: int, dim: int, noise: float) -> tuple[Tensor, Tensor]:
    """Returns unit rows ``(items, dim)`` and labels of ``items / 5.35`` classes, each class at least twice."""
    generator = torch.Generator().manual_seed(0)
    classes = max(1, round(items / ITEMS_PER_CLASS))
    twice = torch.arange(classes).repeat(2)
    labels = torch.cat([twice, torch.randint(classes, (items - len(twice),), generator=generator)])
    basis = torch.randn(96, dim, generator=generator)
    centres = torch.randn(classes, 96, generator=generator)
    inside = centres[labels] + noise * torch.randn(items, 96, generator=generator)
    outside = 0.3 * torch.randn(items, dim, generator=generator)
    return torch.nn.functional.normalize(inside @ basis + outside), labels


def measure(call: Callable[[], Any]) -> Measured:
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # restarts the peak
    started, cpu_started = time.perf_counter(), time.process_time()
    value = call()
    cpu_seconds, seconds = time.process_time() - cpu_started, time.perf_counter() - started
    return Measured(value, seconds, cpu_seconds, resident("VmHWM") - before)


def in_turn(repeats: int, *calls: Callable[[], Any]) -> list[Measured]:
    """Returns the measurements of calls that take turns ``repeats`` times, so that other work slows all of them."""
    rounds = [[measure(call) for call in calls] for _ in range(repeats)]
    return [
        Measured(
            value=runs[0].value,
            seconds=min(run.seconds for run in runs),
            cpu_seconds=min(run.cpu_seconds for run in runs),
            megabytes=max(run.megabytes for run in runs),
        )
        for runs in zip(*rounds, strict=True)
    ]


def resident(field: str) -> float:
    """Returns the resident memory of this process in MB: VmRSS is the current one, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def bare_product(rows: Tensor, block: int) -> None:
    """Computes every similarity once, in blocks of rows with one buffer, and nothing else."""
    buffer = rows.new_empty(block, len(rows))
    for part in rows.split(block):
        torch.mm(part, rows.T, out=buffer[: len(part)])


def report(
    name: str, measured: Measured, bare: Measured | None = None, nmi: str = "", *, memory: bool = True
) -> Row:
    """Prints what was measured, and returns it as a row of the page's table."""
    times = f"{measured.seconds:9.1f} s ({measured.cpu_seconds:7.1f} s of CPU)"
    ratios = ""
    if bare:
        wall, cpu = measured.seconds / bare.seconds, measured.cpu_seconds / bare.cpu_seconds
        ratios = f"{wall:8.2f} x bare ({cpu:.2f} in CPU time)"
    extra = f"{measured.megabytes:7.0f} MB extra" if memory else ""
    print(f"{name:44}{times}{extra}{ratios}", flush=True)
    return {
        "part": name.strip(),
        "s": f"{measured.seconds:.1f}",
        "s of CPU": f"{measured.cpu_seconds:.1f}",
        "times the product": f"{measured.seconds / bare.seconds:.2f}" if bare else "",
        "MB": f"{measured.megabytes:.0f}" if memory else "",
        "NMI": nmi,
    }


def compare_retrieval(rows: Tensor, labels: Tensor, repeats: int) -> tuple[Measured, list[Row]]:
    """Measures our time and that of the bare product at its best block size. Returns the latter, and the rows."""
    blocks = [max(1, min(len(rows), entries // len(rows))) for entries in (2**24, 2**25)]
    plain = [partial(bare_product, rows, block) for block in blocks]
    ours, *products = in_turn(repeats, partial(retrieval, rows, labels, ks=(1, 10, 100, 1000)), *plain)
    bare = min(products, key=lambda measured: measured.seconds)
    table = [report("similarity product alone", bare), report("retrieval, to Recall@1000", ours, bare)]
    print("   ", {name: round(value, 4) for name, value in ours.value.as_dict().items()})
    return bare, table


def compare_accuracy_calculator(rows: Tensor, labels: Tensor, bare: Measured | None) -> Row:
    """Measures AccuracyCalculator for the same metrics. Without faiss it searches by torch.topk."""
    names = ("precision_at_1", "mean_average_precision_at_r", "r_precision")
    search = CustomKNN(CosineSimilarity(), batch_size=512)
    calculator = AccuracyCalculator(
        include=names, k="max_bin_count", knn_func=search, device=torch.device("cpu")
    )
    theirs = measure(lambda: calculator.get_accuracy(rows, labels))
    row = report("AccuracyCalculator: P@1, MAP@R, R-precision", theirs, bare)
    print("   ", {name: round(value, 4) for name, value in theirs.value.items()})
    return row


def time_clustering(rows: Tensor, labels: Tensor) -> list[Row]:
    """Measures the time of k-means and of its parts, and its scores."""
    ours = measure(lambda: clustering(rows, labels))
    table = [report("k-means and its scores", ours, nmi=f"{ours.value.nmi:.4f}")]
    print("   ", {name: round(value, 4) for name, value in ours.value.as_dict().items()})
    points = rows - rows.mean(dim=0)
    clusters, truth, found = ours.value.clusters, labels.numpy(), ours.value.assignment
    seeds = measure(lambda: greedy_seeds(points, clusters, torch.Generator().manual_seed(0)))
    parts = {
        "first centres": seeds,
        "Lloyd's algorithm": measure(lambda: k_means(points, points[seeds.value])),
        "NMI": measure(lambda: normalized_mutual_info_score(truth, found)),
        "AMI": measure(lambda: adjusted_mutual_information(truth, found)),
        "ARI": measure(lambda: adjusted_rand_score(truth, found)),
    }
    return table + [report(f"  {name}", part) for name, part in parts.items()]


def compare_scikit_learn(rows: Tensor, labels: Tensor, noise: float) -> list[Row]:
    """Measures NMI and time beside those of scikit-learn's k-means++, at a size that scikit-learn can run."""
    ours = [measure(partial(clustering, rows, labels, seed=seed)) for seed in range(2)]
    fits = [KMeans(ours[0].value.clusters, n_init=1, random_state=seed) for seed in range(2)]
    theirs = [measure(partial(fit.fit, rows.numpy())) for fit in fits]
    nmi = [normalized_mutual_info_score(labels.numpy(), fit.labels_) for fit in fits]
    fastest = [min(runs, key=lambda run: run.seconds) for runs in (ours, theirs)]
    scores = " and ".join(f"{run.value.nmi:.4f}" for run in ours), " and ".join(f"{s:.4f}" for s in nmi)
    # scikit-learn allocates in memory that the process has kept since our runs, so its peak shows nothing.
    return [
        report(f"k-means and its scores, noise {noise}", fastest[0], nmi=scores[0]),
        report(f"scikit-learn's k-means, noise {noise}", fastest[1], nmi=scores[1], memory=False),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=60_502)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--noise", type=float, default=1.2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--csv", type=Path, help="file of the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, labels = embeddings(options.items, options.dim, options.noise)
    print(f"{options.items:,} x {options.dim}, {int(labels.max()) + 1:,} classes, {options.threads} threads")
    table: list[Row] = []
    bare = None
    if "retrieval" in options.parts:
        bare, table = compare_retrieval(rows, labels, options.repeats)
    if "accuracy_calculator" in options.parts:
        table.append(compare_accuracy_calculator(rows, labels, bare))
    if "clustering" in options.parts:
        table += time_clustering(rows, labels)
    if "scikit_learn" in options.parts:
        items = min(options.items, 15_000)
        for noise in (0.8, options.noise):
            print(f"{items:,} x {options.dim}, beside scikit-learn")
            table += compare_scikit_learn(*embeddings(items, options.dim, noise), noise)
    write_table(options.csv, table)


if __name__ == "__main__":
    main()
