"""Trains and tests one method by a recipe.

python experiments/run.py                                                 BGFormer on digits, in a minute
python experiments/run.py --config experiments/recipes/cub200/plain.yaml --data.root /my/CUB_200_2011
python experiments/run.py --train.epochs 5 --method.k 10 --seed 1         any key of the recipe
python experiments/run.py --print_config                                  the whole recipe
python experiments/run.py --resume runs/digits-bgformer-seed0-...         an interrupted run
"""

import sys
import warnings
from pathlib import Path

# torch_geometric decorates functions with torch.jit.script when it is imported, which torch now deprecates.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)

from pyg_bgformer.cli.main import run_command  # noqa: E402

DEFAULT_RECIPE = Path(__file__).parent / "recipes" / "digits" / "bgformer.yaml"

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], DEFAULT_RECIPE))
