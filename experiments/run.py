"""Trains and tests one method by a recipe. It is the same as ``pyg-bgformer run``.

python experiments/run.py                                                 trains BGFormer on letters, in a minute
python experiments/run.py --config cub200/plain --data.root /my/CUB_200_2011
python experiments/run.py --train.epochs 5 --method.k 10 --seed 1         sets keys of the recipe
python experiments/run.py --print_config                                  prints the whole recipe and stops
python experiments/run.py --resume runs/glyphs-bgformer-seed0-...         resumes an interrupted run
"""

import sys

from pyg_bgformer.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
