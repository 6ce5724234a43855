"""Trains and tests one method by a recipe. It is ``pyg-bgformer run``.

python experiments/run.py                                                 BGFormer on letters, in a minute
python experiments/run.py --config cub200/plain --data.root /my/CUB_200_2011
python experiments/run.py --train.epochs 5 --method.k 10 --seed 1         any key of the recipe
python experiments/run.py --print_config                                  the whole recipe
python experiments/run.py --resume runs/glyphs-bgformer-seed0-...         an interrupted run
"""

import sys

from pyg_bgformer.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
