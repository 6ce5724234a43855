"""``pyg-bgformer verify``: is a dataset on disk the official one?"""

from collections.abc import Sequence

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.data import DATASETS, read_dataset
from pyg_bgformer.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Checks a dataset and prints the report; returns 0 if the dataset is complete and sound, 1 if not."""
    parser = Parser(
        "verify",
        "Compares a dataset on disk with the official one, and decodes every image.",
        "example: pyg-bgformer verify cub200 --root /my/CUB_200_2011",
    )
    parser.add_argument("dataset", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--root", help="its folder; data/README.md says where it is looked for by default")
    parser.add_argument("--variant", help="which variant, for datasets that have variants")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images (default: 2)")
    given = parser.parse_args(arguments)
    if given.workers < 0:
        raise InputError(f"--workers: expected at least 0, found {given.workers}")
    report = read_dataset(given.dataset, given.root, variant=given.variant).verify(workers=given.workers)
    print(report)
    return 0 if report.ok else 1
