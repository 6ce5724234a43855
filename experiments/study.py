"""Carries out a study: recipes x overrides x seeds, as experiments/README.md says.

python experiments/study.py experiments/studies/ablation.yaml --size small --jobs 2
python experiments/study.py experiments/studies/ablation.yaml --size small --print     how far it is, and its table
python experiments/study.py experiments/studies/methods.yaml --size full --data.root /my/CUB_200_2011
python experiments/study.py experiments/studies/methods.yaml --size full --submit slurm --slurm timeout_min=600
"""

import sys
import warnings

# torch_geometric decorates functions with torch.jit.script when it is imported, which torch now deprecates.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)

from pyg_bgformer.cli.main import study_command  # noqa: E402

if __name__ == "__main__":
    sys.exit(study_command(sys.argv[1:]))
