"""``pyg-bgformer verify``: compares a dataset on disk with the official one."""

from collections.abc import Sequence

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.data import DATASETS, read_dataset
from pyg_bgformer.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Checks a dataset and prints the report. Returns 0 if it is complete and undamaged, otherwise 1."""
    parser = Parser(
        "verify",
        "Compares a dataset on disk with the official one, and decodes every image. The exit code is 0 if it is\n"
        "complete and undamaged, otherwise 1.",
        "example:\n  pyg-bgformer verify cub200 --root /my/CUB_200_2011",
    )
    parser.add_argument("dataset", metavar="DATASET", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="folder or archive of the dataset (default: in $PYG_BGFORMER_DATA or in data)",
    )
    parser.add_argument("--variant", metavar="NAME", help="variant of the dataset, if it has variants")
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that decode images (default: 2)"
    )
    given = parser.parse_args(arguments)
    if given.workers < 0:
        raise InputError(f"--workers: expected at least 0, found {given.workers}")
    report = read_dataset(given.dataset, given.root, variant=given.variant).verify(workers=given.workers)
    print(report)
    return 0 if report.ok else 1
